"""sacrebleu and rouge-score agree with values computed by hand, have intervals, and name a missing package."""

import sys

import pytest

from r2gen.errors import UserError
from r2gen.evaluate.other_packages import RougeScore, SacreBleu
from r2gen.evaluate.scoring import score_reports, sums_of_scores

pytest.importorskip("sacrebleu")
pytest.importorskip("rouge_score")
REFERENCES = {
    "a": "the cat sat on the mat .",
    "b": "no pleural effusion , no pneumothorax .",
    "c": "the heart is large .",
}
REPORTS = {"a": "the cat sat on mat .", "b": "no pneumothorax , no pleural effusion .", "c": ""}


def test_values_agree_with_those_computed_by_hand() -> None:
    sacrebleu = SacreBleu()({"a": REFERENCES["a"]}, {"a": REPORTS["a"]})
    # n-gram precisions of 6/6, 4/5, 2/4 and 1/3, and a brevity penalty of exp(1 - 7/6)
    assert sacrebleu.corpus["sacrebleu"] == pytest.approx(
        (6 / 6 * 4 / 5 * 2 / 4 * 1 / 3) ** 0.25 * 2.718281828459045 ** (-1 / 6)
    )
    rouge = RougeScore()({"a": REFERENCES["a"]}, {"a": REPORTS["a"]}).corpus
    # "." is not a word: 5 of 5 and 6 words, 3 of 4 and 5 bigrams, a common subsequence of 5
    assert rouge == pytest.approx({"rouge_score_1": 10 / 11, "rouge_score_2": 6 / 9, "rouge_score_l": 10 / 11})


def test_both_have_signatures_and_sums_that_give_their_scores() -> None:
    metrics = {"sacrebleu": SacreBleu(lowercase=True), "rouge_score": RougeScore(stemmer=True)}
    scores = score_reports(metrics, REFERENCES, REPORTS)
    assert scores.signatures["sacrebleu"]["tokenizer"] == "sacrebleu-13a"
    assert scores.signatures["sacrebleu"]["case"] == "lower"
    assert scores.signatures["rouge_score"]["stemmer"] == "porter"
    assert scores.per_report["rouge_score_l"]["c"] == scores.per_report["sacrebleu"]["c"] == 0
    sums = sums_of_scores(metrics, REFERENCES, REPORTS, scores)
    assert {name for of_metric in sums for name in of_metric.names} == set(scores.corpus)
    for of_metric in sums:
        assert of_metric.of_all() == pytest.approx([scores.corpus[name] for name in of_metric.names])


def test_references_without_latin_letters_are_refused_by_rouge_score() -> None:
    with pytest.raises(UserError, match=r"these references have none: b\. Leave rouge_score out"):
        RougeScore()({"a": "clear", "b": "双肺 清晰"}, {"a": "clear", "b": "双肺 清晰"})
    assert SacreBleu(tokenize="zh")({"b": "双肺纹理清晰"}, {"b": "双肺纹理清晰"}).corpus == pytest.approx(
        {"sacrebleu": 1.0}
    )


@pytest.mark.parametrize(("metric", "package"), [(SacreBleu, "sacrebleu"), (RougeScore, "rouge_score")])
def test_a_missing_package_is_one_message(metric: type, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [_WithoutPackage(package), *sys.meta_path])
    with pytest.raises(
        UserError, match=rf"package {package.replace('_', '-')} is not installed\. Run pip install .*\.\[scores\]"
    ):
        metric()


class _WithoutPackage:
    """A finder of modules for which one package is not installed."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {self.package!r}", name=self.package)
