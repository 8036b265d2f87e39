"""trainer.repeat_threshold: an epoch draws studies with rare findings more often."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from small_model import STUDIES, dataset

from r2gen.data.loader import TrainingOrder
from r2gen.train.repeats import MOST, finding_factors, repeat_factors, with_repeats

pytestmark = pytest.mark.usefixtures("world")
NORMAL, CARDIOMEGALY, FRACTURE = "The lungs are clear.", "There is cardiomegaly.", "There is a rib fracture."


def factors(stated_SF: torch.Tensor, threshold: float) -> list[float]:
    return repeat_factors(stated_SF, finding_factors(stated_SF, threshold))


def test_a_study_is_drawn_by_the_rarest_of_its_findings() -> None:
    """One study in 16 has the first finding, which is drawn sqrt(.25 / (1 / 16)) = 2 times; one in 4 has the second."""
    stated_SF = torch.zeros(16, 3, dtype=torch.bool)
    stated_SF[0, 0] = stated_SF[0:4, 1] = True
    assert factors(stated_SF, 0.25) == pytest.approx([2.0, *[1.0] * 15])
    assert factors(stated_SF, 1.0) == pytest.approx([4.0, *[2.0] * 3, *[1.0] * 12])
    assert factors(stated_SF, 0.01) == [1.0] * 16


def test_no_study_is_drawn_more_than_ten_times() -> None:
    stated_SF = torch.zeros(1000, 1, dtype=torch.bool)
    stated_SF[7] = True
    assert max(factors(stated_SF, 1.0)) == MOST


def test_epochs_draw_studies_as_often_as_their_reports_say(capsys: pytest.CaptureFixture[str]) -> None:
    """A sixteenth states a fracture (4 times with a threshold of 1), a quarter cardiomegaly (2 times)."""
    reports = [FRACTURE, *[CARDIOMEGALY] * 4, *[NORMAL] * 11]
    train = dataset().of([replace(study, report=report) for study, report in zip(STUDIES, reports, strict=False)])
    assert len(train) == 16
    repeated = with_repeats(train, 1.0)
    assert [study.id for study in repeated.studies] == [study.id for study in train.studies]
    order = TrainingOrder(len(repeated), seed=0, shuffle=True, weights=repeated.weights)
    drawn = Counter(order(position) for position in range(4 * order.studies))
    assert [drawn[number] for number in range(16)] == [16, *[8] * 4, *[4] * 11]
    assert " ".join(capsys.readouterr().out.split()) == (
        "trainer.repeat_threshold=1: an epoch draws 23 studies instead of 16; times that it draws one with a rare "
        "finding: Fracture 4.0, Cardiomegaly 2.0"
    )


def test_the_weights_of_a_mix_are_multiplied(capsys: pytest.CaptureFixture[str]) -> None:
    reports = [FRACTURE, *[NORMAL] * 15]
    studies = [replace(study, report=report, weight=0.5) for study, report in zip(STUDIES, reports, strict=False)]
    repeated = with_repeats(dataset().of(studies), 0.25)
    assert repeated.weights == pytest.approx([1.0, *[0.5] * 15])
    assert with_repeats(dataset().of(studies), 0.01).weights == [0.5] * 16
    assert "trainer.repeat_threshold=0.01: repeats no study" in capsys.readouterr().out
