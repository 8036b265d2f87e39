"""Augmentation: random changes of training images that depend on the seed and the position only."""

from typing import Any

import pytest
import torch
from composed import composed
from small_model import STUDIES, dataset

from r2gen.data.augment import augmentation
from r2gen.data.dataset import ImageCache
from r2gen.data.loader import MicroBatches, TrainingExamples, TrainingOrder, batch_loader

NONE: dict[str, Any] = {"shift": 0, "degrees": 0, "scale": 0, "brightness": 0, "contrast": 0}


def of(choice: str) -> Any:
    return augmentation(**vars(composed(f"augment={choice}").augment))


def chest_HW(size: int = 224) -> torch.Tensor:
    """A bright left half with a brighter blob in it."""
    image_HW = torch.full((size, size), 40, dtype=torch.uint8)
    image_HW[:, : size // 2] = 120
    image_HW[size // 2 : size * 3 // 4, size // 4 : size // 2] = 220
    return image_HW


def changed(augment: Any, *, count: int = 40) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [augment(chest_HW()) for _ in range(count)]


def test_none_changes_nothing():
    assert of("none") is None
    assert dataset().augmented(None).augment is None


def test_a_shift_moves_whole_pixels_by_at_most_its_share():
    drawn = torch.Generator().manual_seed(0)
    image_HW = torch.randint(1, 255, (224, 224), dtype=torch.uint8, generator=drawn)
    image_HW[112, 112] = 255
    torch.manual_seed(0)
    shift, shifts = of("shift"), []
    for _ in range(40):
        result_HW = shift(image_HW)
        down, right = ((result_HW == 255).nonzero()[0] - 112).tolist()
        rows, columns = (slice(max(step, 0), 224 + min(step, 0)) for step in (down, right))
        assert torch.equal(
            result_HW[rows, columns],
            image_HW[max(-down, 0) : 224 - max(down, 0), max(-right, 0) : 224 - max(right, 0)],
        )
        assert (result_HW == 0).sum() == 224**2 - (224 - abs(down)) * (224 - abs(right))
        shifts.append((down, right))
    assert len(set(shifts)) > 35
    assert max(abs(step) for pair in shifts for step in pair) in range(18, 23)


@pytest.mark.parametrize("choice", ["shift", "chest"])
def test_no_image_is_mirrored(choice: str):
    for result_HW in changed(of(choice), count=200):
        middle_HW = result_HW[60:160, 40:180].float()
        assert result_HW.shape == (224, 224)
        assert result_HW.dtype == torch.uint8
        assert middle_HW[:, :30].mean() > 1.3 * middle_HW[:, -30:].mean(), "the bright half stays on its side"


def test_chest_changes_position_and_levels_and_each_image_by_its_own_draw():
    results = changed(of("chest"))
    assert len({result_HW.numpy().tobytes() for result_HW in results}) == len(results)
    levels = [result_HW[100, 60].item() for result_HW in results]
    assert max(levels) > 130
    assert min(levels) < 110
    torch.manual_seed(3)
    changed_VHW = dataset().augmented(of("chest"))[2].images_VHW
    assert not torch.equal(changed_VHW, dataset()[2].images_VHW)


@pytest.mark.parametrize("change", [*NONE])
def test_each_change_can_be_switched_on_alone(change: str):
    value = 10 if change == "degrees" else 0.3
    augment = augmentation(**{**NONE, change: value})
    assert augment is not None
    assert any(not torch.equal(result_HW, chest_HW()) for result_HW in changed(augment, count=5))


def test_images_depend_on_seed_and_position_and_not_on_workers_or_where_a_run_resumes():
    def images(*, workers: int, first: int = 0, seed: int = 5) -> list[torch.Tensor]:
        order = TrainingOrder(len(STUDIES), seed=seed, shuffle=True)
        batches = MicroBatches(first=first, last=4, batch_size=4, micro_batch_size=2, rank=0, world=1)
        examples = TrainingExamples(dataset().augmented(of("chest")), order)
        return [batch.images_RVHW for batch in batch_loader(examples, batches, workers=workers, pin=False)]

    alone = images(workers=0)
    assert all(torch.equal(*pair) for pair in zip(alone, images(workers=2), strict=True))
    assert all(torch.equal(*pair) for pair in zip(alone[4:], images(workers=0, first=2), strict=True))
    assert not torch.equal(alone[0], images(workers=0, seed=6)[0])


def test_a_study_is_changed_differently_in_every_epoch():
    order = TrainingOrder(len(STUDIES), seed=5, shuffle=False)
    examples = TrainingExamples(dataset().augmented(of("shift")), order)
    assert not torch.equal(examples[3].images_VHW, examples[3 + len(STUDIES)].images_VHW)


def test_the_number_of_threads_changes_no_pixel():
    def result(threads: int) -> torch.Tensor:
        torch.set_num_threads(threads)
        return torch.stack(changed(of("chest"), count=5))

    try:
        assert torch.equal(result(1), result(3))
    finally:
        torch.set_num_threads(1)


def test_the_cache_has_images_as_they_are():
    cache = ImageCache(dataset().image, budget_mib=1)
    studies = dataset(image=cache)
    torch.manual_seed(0)
    before = studies[4].images_VHW
    changed_VHW = studies.augmented(of("chest"))[4].images_VHW
    assert not torch.equal(changed_VHW, before)
    assert torch.equal(studies[4].images_VHW, before)
