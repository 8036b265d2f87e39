"""The prior of an entry is the previous examination of the same patient and split."""

from typing import Any

from r2gen.data.priors import Examination, add_priors


def examination(id: str, at: float | None, *, patient: str = "p", split: str = "train", **more: Any) -> Examination:
    return Examination(patient=patient, split=split, at=at, **({"entries": [{"id": id}]} | more))


def priors(*examinations: Examination, in_days: bool = True) -> dict[str, Any]:
    add_priors(examinations, in_days=in_days)
    return {entry["id"]: entry.get("prior") for examined in examinations for entry in examined.entries}


def test_the_previous_examination_of_the_patient_is_the_prior_in_any_order_of_the_file() -> None:
    late, early, middle = examination("c", 40.0), examination("a", 1.25), examination("b", 1.5)
    other = examination("x", 0.0, patient="q")
    assert priors(late, early, other, middle) == {
        "a": None,
        "b": {"id": "a", "days": 0.25},
        "c": {"id": "b", "days": 38.5},
        "x": None,
    }


def test_equal_and_unknown_times_and_other_splits_give_no_prior() -> None:
    assert priors(examination("a", 1.0), examination("b", 1.0), examination("c", 1.0 + 1e-7)) == dict.fromkeys("abc")
    assert priors(examination("a", 1.0), examination("b", None)) == dict.fromkeys("ab")
    assert priors(examination("a", 1.0, split="val"), examination("b", 2.0)) == dict.fromkeys("ab")
    after_both = priors(examination("a", 1.0), examination("b", 1.0), examination("c", 2.0))
    assert after_both["c"]["days"] == 1.0, "one of two at the same time"
    assert add_priors([examination("a", None)]).time_unknown == 1


def test_an_examination_that_is_left_out_is_written_out_as_far_as_it_exists() -> None:
    left_out = {"id": "b", "image_path": ["b.jpg"], "views": ["PA"]}
    gone = examination("g", 2.5, entries=())
    middle = examination("b", 2.0, entries=(), left_out=left_out)
    images = examination("c", 3.0, entries=[{"id": "c1"}, {"id": "c2"}])
    assert priors(examination("a", 1.0), middle, gone, images) == {
        "a": None,
        "c1": {**left_out, "days": 1.0},
        "c2": {**left_out, "days": 1.0},
    }
    counts = add_priors([examination("a", 1.0), middle, images])
    assert (counts.entries_with_prior, counts.written_out) == (2, 1)


def test_an_order_without_days_says_how_many_positions_earlier() -> None:
    assert priors(examination("a", 1), examination("b", 3), in_days=False)["b"] == {"id": "a", "order": 2}
