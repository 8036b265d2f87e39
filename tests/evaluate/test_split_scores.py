"""The scores of a split: what decides about the best checkpoint, and what metrics.json gets."""

from collections.abc import Mapping

import pytest

from r2gen.errors import UserError
from r2gen.evaluate.change import Change
from r2gen.evaluate.nlg import Bleu, RougeL
from r2gen.evaluate.predictions import Prediction
from r2gen.evaluate.scores import Metric, Scores, ScoreSpec
from r2gen.evaluate.scoring import signature
from r2gen.evaluate.split_scores import ReferenceCut, Scorer, refuse_without_value, reports_of
from r2gen.evaluate.story import StoryScores
from r2gen.evaluate.study_sums import StudySums


class MissingWords:
    """The mean number of words that a report lacks: lower values are better, and there are no sums."""

    name = "missing_words"
    scores = (ScoreSpec("missing_words", "Missing words", higher_is_better=False),)
    weights: tuple[str, ...] = ()

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        missing = [len(set(text.split()) - set(reports[id].split())) for id, text in references.items()]
        signed = signature(implementation="test", version="1")
        return Scores(corpus={self.name: sum(missing) / len(missing)}, signatures={self.name: signed})

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> StudySums | None:
        return None


METRICS: dict[str, Metric] = {"bleu": Bleu(), "rouge_l": RougeL(), "missing_words": MissingWords()}
PREDICTIONS = [
    Prediction("a", "the heart is large .", "the heart is large . no effusion .", 5, "stop", 0.1),
    Prediction("b", "no effusion .", "no effusion .", 3, "stop", 0.1),
]
EMPTY = {"constant": {"a": "", "b": ""}}


def test_a_score_of_which_lower_values_are_better_is_subtracted() -> None:
    scorer = Scorer(metrics=METRICS, best={"missing_words": 0.5, "bleu_1": 1.0})
    assert scorer.selection({"missing_words": 4.0, "bleu_1": 0.25, "rouge_l": 1.0}) == -1.75
    references = {line.id: line.reference for line in PREDICTIONS}
    assert scorer.selection_of(references, references) > scorer.selection_of(references, reports_of(PREDICTIONS))


def test_a_score_without_a_value_cannot_pick_the_best_checkpoint() -> None:
    with pytest.raises(UserError, match=r"evaluate\.best names bleu_4, which has no value"):
        Scorer(metrics=METRICS, best={"bleu_4": 1.0}).selection({"bleu_1": 0.5})


def test_a_score_that_no_report_can_give_a_value_is_refused() -> None:
    metrics: dict[str, Metric] = {"bleu": Bleu(), "change": Change(), "phantom_story": StoryScores()}
    references = {str(number): "no effusion ." for number in range(40)}
    refuse_without_value(metrics, ["bleu_4", "temporal_f1"], references)
    for best in ("change_f1", "story_findings_f1"):
        with pytest.raises(UserError, match=r"no reference (of the 40 validation studies )?states"):
            refuse_without_value(metrics, ["bleu_4", best], references)
        refuse_without_value(metrics, [best], references | {"last": "large right consolidation is new ."})


def test_a_metric_without_sums_has_values_and_neither_interval_nor_margin() -> None:
    scored = Scorer(metrics=METRICS, best={"bleu_4": 1.0}).score(PREDICTIONS, EMPTY)
    assert scored.full.values()["model"]["missing_words"] == 1.0  # "no" and "effusion" of a
    statistics = scored.full.statistics(METRICS)
    assert "missing_words" not in statistics["intervals"]["model"]
    assert (
        set(statistics["margins"])
        == set(statistics["intervals"]["model"])
        == {
            *(f"bleu_{length}" for length in range(1, 5)),
            "rouge_l",
        }
    )


def test_cut_references_decide_about_the_best_checkpoint() -> None:
    cut = ReferenceCut(4, lambda text: " ".join(text.split()[:4]))
    scorer = Scorer(metrics=METRICS, best={"rouge_l": 1.0}, cut=cut)
    scored = scorer.score(PREDICTIONS, {})
    entry = scorer.entry(scored, statistics=True)
    assert scored.selected() == entry["truncated"]["systems"]["model"] != entry["systems"]["model"]
    assert entry["truncated"]["tokens"] == 4
    assert set(entry["truncated"]) == {"tokens", "systems", "intervals", "margins", "shuffled_margins"}
    assert "intervals" not in scorer.entry(scored, statistics=False)["truncated"]


def test_the_model_is_compared_with_its_own_reports_of_other_studies() -> None:
    ids = [f"study {number}" for number in range(40)]
    words = [f"word{number}" for number in range(8)]
    own = {id: " ".join(words[number % 4 :][:4]) for number, id in enumerate(ids)}
    predictions = [Prediction(id, text, text, 4, "stop", 0.1) for id, text in own.items()]
    moved = dict(zip(ids, [own[id] for id in ids[1:] + ids[:1]], strict=True))
    scored = Scorer(metrics=METRICS, best={}).score(predictions, {"shuffled": moved})
    statistics = scored.full.statistics(METRICS)
    assert set(statistics["shuffled_margins"]) == {*(f"bleu_{length}" for length in range(1, 5)), "rouge_l"}
    assert not any(margin["within_noise"] for margin in statistics["shuffled_margins"].values())
    assert statistics["margins"] == {}
