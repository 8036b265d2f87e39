"""sacrebleu and rouge-score give values one can work out, have intervals, and say what is missing."""

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


def test_values_are_those_worked_out_by_hand() -> None:
    one = SacreBleu()({"a": REFERENCES["a"]}, {"a": REPORTS["a"]})
    # 6/6, 4/5, 2/4, 1/3 n-grams and a brevity of exp(1 - 7/6)
    assert one.corpus["sacrebleu"] == pytest.approx(
        (6 / 6 * 4 / 5 * 2 / 4 * 1 / 3) ** 0.25 * 2.718281828459045 ** (-1 / 6)
    )
    rouge = RougeScore()({"a": REFERENCES["a"]}, {"a": REPORTS["a"]}).corpus
    # the sign "." is no word: 5 of 5 and 6 words, 3 of 4 and 5 pairs, a common sequence of 5
    assert rouge == pytest.approx({"rouge_score_1": 10 / 11, "rouge_score_2": 6 / 9, "rouge_score_l": 10 / 11})


def test_both_are_signed_and_have_sums_that_give_their_scores() -> None:
    metrics = {"sacrebleu": SacreBleu(lowercase=True), "rouge_score": RougeScore(stemmer=True)}
    scores = score_reports(metrics, REFERENCES, REPORTS)
    assert scores.signatures["sacrebleu"]["tokenizer"] == "sacrebleu-13a"
    assert scores.signatures["sacrebleu"]["case"] == "lower"
    assert scores.signatures["rouge_score"]["stemmer"] == "porter"
    assert scores.per_report["rouge_score_l"]["c"] == scores.per_report["sacrebleu"]["c"] == 0
    sums = sums_of_scores(metrics, REFERENCES, REPORTS, scores)
    assert {name for one in sums for name in one.names} == set(scores.corpus)
    for one in sums:
        assert one.of_all() == pytest.approx([scores.corpus[name] for name in one.names])


def test_what_rouge_score_cannot_read_is_refused_not_0() -> None:
    with pytest.raises(UserError, match="these references have none: b; leave rouge_score out"):
        RougeScore()({"a": "clear", "b": "双肺 清晰"}, {"a": "clear", "b": "双肺 清晰"})
    assert SacreBleu(tokenize="zh")({"b": "双肺纹理清晰"}, {"b": "双肺纹理清晰"}).corpus == pytest.approx(
        {"sacrebleu": 1.0}
    )


@pytest.mark.parametrize(("metric", "package"), [(SacreBleu, "sacrebleu"), (RougeScore, "rouge_score")])
def test_a_missing_package_is_one_message(metric: type, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [_Hidden(package), *sys.meta_path])
    with pytest.raises(UserError, match=rf"needs the package {package.replace('_', '-')}: pip install .*\.\[scores\]"):
        metric()


class _Hidden:
    """An import system in which one package is not installed."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {self.package!r}", name=self.package)
