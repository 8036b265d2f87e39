"""BLEU, ROUGE-L, CIDEr and the phantom's findings have their published values, and defined values at the edges."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider as CocoCider
from pycocoevalcap.rouge.rouge import Rouge as CocoRouge
from smallest_run import ROOT

from r2gen.errors import UserError
from r2gen.evaluate.findings import PhantomFindings
from r2gen.evaluate.nlg import Bleu, Cider, RougeL, bleu_of_references, cider_of_references, rouge_l_of_references
from r2gen.evaluate.scores import Metric, Scores, ScoreSpec, UnavailableError
from r2gen.evaluate.scoring import score_reports

NORMAL = "the heart is normal in size . the lungs are clear . no pleural effusion ."
EFFUSION = "the heart is normal in size . there is a left pleural effusion ."
ALL: dict[str, Metric] = {"bleu": Bleu(), "rouge_l": RougeL(), "cider": Cider()}


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def largest_deviation(what: str, values: Mapping[str, float], expected: Mapping[str, float]) -> float:
    """The largest deviation, which pytest -s shows."""
    largest = max(abs(value - expected[name]) for name, value in values.items())
    print(f"{what}: {', '.join(values)}: largest deviation {largest:.1e}")
    return largest


def test_coco_captions_have_their_published_scores(shared: Path) -> None:
    folder = shared / "metrics/coco_captions"
    captions, expected = read(folder / "res.json"), read(folder / "expected.json")["expected"]
    several = read(folder / "gts.json")
    references, reports = [several[id] for id in captions], [captions[id][0] for id in captions]
    values = dict(
        zip(["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4"], bleu_of_references(references, reports)[0], strict=True)
    )
    values |= {
        "ROUGE_L": rouge_l_of_references(references, reports)[0][0],
        "CIDEr": cider_of_references(references, reports)[0][0],
    }
    assert largest_deviation("1,000 COCO captions", values, expected) < 1e-6


def test_generated_iu_reports_have_their_published_scores(shared: Path) -> None:
    folder = shared / "metrics/iu_generated"
    reports = {id: texts[0] for id, texts in read(folder / "test_preds.json").items()}
    references = {id: texts[0] for id, texts in read(folder / "test_refs.json").items()}
    expected = read(folder / "test_metrics.json")
    scores = score_reports(ALL, references, reports)
    names = {
        "bleu_1": "Bleu_1",
        "bleu_2": "Bleu_2",
        "bleu_3": "Bleu_3",
        "bleu_4": "Bleu_4",
        "rouge_l": "ROUGE_L",
        "cider": "CIDEr",
    }
    values = {published: scores.corpus[name] for name, published in names.items()}
    assert largest_deviation("382 IU X-Ray reports", values, expected) < 1e-6
    assert all(scores.per_report[name].keys() == references.keys() for name in names)
    for name in ("rouge_l", "cider"):  # means over reports
        mean = sum(scores.per_report[name].values()) / len(references)
        assert mean == pytest.approx(scores.corpus[name], abs=1e-9)


WORDS = st.lists(st.sampled_from(["the", "heart", "is", "no", "effusion", ".", ""]), max_size=12).map(" ".join)
STUDY = st.tuples(st.lists(WORDS.map("x {}".format), min_size=1, max_size=3), WORDS)


@given(st.lists(STUDY, min_size=1, max_size=6))
def test_scores_are_those_of_pycocoevalcap_to_the_last_digit(studies: list[tuple[list[str], str]]) -> None:
    references, reports = [several for several, _ in studies], [report for _, report in studies]
    bleu = BleuScorer(n=4)
    for several, report in studies:
        bleu += (report, several)
    corpus, per_report = bleu.compute_score(option="closest")
    assert bleu_of_references(references, reports)[:2] == (corpus, per_report)
    by_id = {index: [report] for index, report in enumerate(reports)}
    value, values = CocoCider().compute_score(dict(enumerate(references)), by_id)
    assert cider_of_references(references, reports)[:2] == ([value], [values.tolist()])
    rouge = [CocoRouge().calc_score([report], several) if report.strip() else 0.0 for several, report in studies]
    assert rouge_l_of_references(references, reports)[1] == [rouge]


def test_the_order_of_studies_does_not_change_scores() -> None:
    references, reports = {"a": NORMAL, "b": EFFUSION}, {"a": EFFUSION, "b": "no effusion ."}
    reversed_order = {id: references[id] for id in ("b", "a")}
    for metric in ALL.values():
        assert metric(reversed_order, reports).corpus == pytest.approx(metric(references, reports).corpus)


def test_a_report_equal_to_its_reference_has_the_highest_score() -> None:
    references = {"a": NORMAL, "b": EFFUSION}
    scores = score_reports(ALL, references, references).corpus
    assert scores == pytest.approx(dict.fromkeys(scores, 1.0) | {"cider": 10.0}, abs=1e-8)


@pytest.mark.parametrize("between", ["\n", "\r\n", "\r\n\r\n", " \n  ", "\t", "\r ", "\n\n"])
def test_a_line_break_is_a_space_in_every_score(between: str) -> None:
    texts = {"a": f"{between}The heart{between}is normal.{between}", "b": "no  effusion ."}
    one_line = {"a": "The heart is normal.", "b": "no  effusion ."}
    for metric in (Bleu(), RougeL(), Cider()):
        assert metric(texts, one_line).corpus == metric(one_line, one_line).corpus
        assert metric(one_line, texts).corpus == metric(one_line, one_line).corpus


@pytest.mark.parametrize("empty", ["", "  ", "\n"])
def test_empty_reports_score_0(empty: str) -> None:
    references = {"a": NORMAL.replace("pleural", "pleural ").replace("clear", " clear"), "b": EFFUSION}
    scores = score_reports(ALL, references, dict.fromkeys(references, empty))
    assert scores.corpus == pytest.approx(dict.fromkeys(scores.corpus, 0.0))
    half = score_reports(ALL, references, {"a": empty, "b": EFFUSION})
    assert half.corpus["rouge_l"] == pytest.approx(0.5)
    assert half.per_report["rouge_l"] == pytest.approx({"a": 0.0, "b": 1.0})


def test_cider_of_a_single_study_is_0_since_its_words_have_no_weight() -> None:
    scores = score_reports(ALL, {"a": NORMAL}, {"a": NORMAL}).corpus
    assert scores["cider"] == 0
    assert scores["bleu_4"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("references", "reports", "message"),
    [
        ({"a": "x", "b": "x"}, {"a": "x", "c": "x"}, "Without a report: b. Without a reference: c."),
        ({}, {}, "no study"),
        ({"a": " "}, {"a": "x"}, "reference without words: a"),
    ],
)
def test_texts_that_cannot_be_scored_are_refused(
    references: Mapping[str, str], reports: Mapping[str, str], message: str
) -> None:
    for metric in (*ALL.values(), PhantomFindings()):
        with pytest.raises(UserError, match=message):
            metric(references, reports)


def test_signatures_name_the_implementation() -> None:
    signed = {
        "implementation": "pycocoevalcap",
        "version": "1.2",
        "tokenizer": "space",
        "case": "kept",
        "references": "1",
    }
    assert score_reports(ALL, {"a": "x"}, {"a": "x"}).signatures == dict.fromkeys(("bleu", "rouge_l", "cider"), signed)


class Missing:
    name = "missing"
    scores = (ScoreSpec("missing", "Missing"),)
    weights = ("path",)

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        raise UnavailableError("no weights")

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> None:
        return None


def test_a_metric_without_weights_is_unavailable_and_others_are_scored() -> None:
    scores = score_reports({"missing": Missing(), "cider": Cider()}, {"a": "x"}, {"a": "x"})
    assert set(scores.corpus) == set(scores.signatures) == {"cider"}
    assert scores.unavailable == {"missing": "no weights"}


def test_two_metrics_with_the_same_score_are_refused() -> None:
    with pytest.raises(UserError, match="again gives cider"):
        score_reports({"cider": Cider(), "again": Cider()}, {"a": "x"}, {"a": "x"})


def test_phantom_findings_are_counted_by_study_finding_and_side() -> None:
    references = {
        "a": "there is a left pleural effusion . there is a right pneumothorax .",
        "b": NORMAL,
        "c": "the heart is enlarged .",
    }
    reports = {
        "a": "there is a right pleural effusion . there is a right pneumothorax .",  # one right, one on the wrong side
        "b": "the lungs are clear .",
        "c": "there is a left pneumothorax . the heart is enlarged .",
    }
    scores = PhantomFindings()(references, reports)
    assert scores.corpus == pytest.approx({"findings_precision": 2 / 4, "findings_recall": 2 / 3, "findings_f1": 4 / 7})
    assert scores.per_report["findings_f1"] == pytest.approx({"a": 1 / 2, "b": 1, "c": 2 / 3})
    empty = PhantomFindings()(references, dict.fromkeys(references, ""))
    assert set(empty.corpus.values()) == {0.0}


def test_references_without_phantom_findings_are_refused() -> None:
    with pytest.raises(UserError, match="no reference states a finding"):
        PhantomFindings()({"a": NORMAL}, {"a": NORMAL})


def test_metrics_start_java_and_import_torch_only_when_they_score() -> None:
    names = "annotation", "cleaning", "images"
    code = (
        "import subprocess, sys\n"
        "def refuse(*_, **__): raise AssertionError('a process was started')\n"
        "subprocess.Popen.__init__ = refuse\n"
        + "".join(f"import r2gen.data.{name}\n" for name in names)
        + "import r2gen.evaluate.nlg, r2gen.evaluate.meteor, r2gen.evaluate.findings\n"
        "import r2gen.evaluate.baselines, r2gen.evaluate.tables\n"
        "r2gen.evaluate.meteor.Meteor()\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
