"""The sampling order and the batches: the studies of a step depend only on the seed and the step."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_model import STUDIES, TOKENIZER, dataset, image

from r2gen.data.collate import NO_TARGET, collate
from r2gen.data.dataset import Example, ImageCache
from r2gen.data.loader import (
    MicroBatches,
    TrainingExamples,
    TrainingOrder,
    batch_loader,
    evaluation_loader,
    steps_for,
    workers_that_fit,
)


def micro_batches(
    *, first: int = 0, last: int = 7, batch_size: int = 12, micro: int = 12, rank: int = 0, world: int = 1
) -> list[list[int]]:
    """Micro-batches of ten studies, so that a step crosses the end of an epoch."""
    order = TrainingOrder(10, seed=3, shuffle=True)
    parts = MicroBatches(first=first, last=last, batch_size=batch_size, micro_batch_size=micro, rank=rank, world=world)
    return [[order(position) for position in part] for part in parts]


@given(studies=st.integers(1, 40), epochs=st.integers(1, 4), seed=st.integers(0, 5), shuffle=st.booleans())
def test_every_epoch_has_every_study_once(studies: int, epochs: int, seed: int, shuffle: bool):
    order = TrainingOrder(studies, seed=seed, shuffle=shuffle)
    for epoch in range(epochs):
        assert sorted(order(epoch * studies + index) for index in range(studies)) == list(range(studies))


def test_epochs_and_seeds_are_shuffled_differently():
    orders = [
        [TrainingOrder(30, seed=seed, shuffle=True)(30 * epoch + index) for index in range(30)]
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == 4
    plain = TrainingOrder(3, seed=0, shuffle=False)
    assert [plain(position) for position in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_positions_can_be_read_in_any_order():
    order, again = TrainingOrder(5, seed=0, shuffle=True), TrainingOrder(5, seed=0, shuffle=True)
    forward = [order(position) for position in range(20)]
    assert [again(position) for position in reversed(range(20))] == forward[::-1]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("micro", [1, 2, 4])
def test_a_step_has_the_same_studies_for_any_micro_batch_size_and_number_of_ranks(micro: int, world: int):
    whole = micro_batches(batch_size=24, micro=24)
    ranks = [micro_batches(batch_size=24, micro=micro, rank=rank, world=world) for rank in range(world)]
    parts = 24 // (micro * world)
    for step, studies in enumerate(whole):
        seen = [study for rank in ranks for part in rank[step * parts : (step + 1) * parts] for study in part]
        assert Counter(seen) == Counter(studies)
    assert all(len(part) == micro for rank in ranks for part in rank)
    turns = [part for parts in zip(*ranks, strict=True) for part in parts]
    assert turns == micro_batches(batch_size=24, micro=micro), "the micro-batches of one rank, distributed in turn"
    assert all(len(rank) == parts * len(whole) for rank in ranks)


@pytest.mark.parametrize("first", [0, 1, 3, 7])
def test_resuming_continues_the_same_order(first: int):
    assert micro_batches(first=first, micro=3) == micro_batches(micro=3)[4 * first :]
    longer = micro_batches(last=9, micro=3)
    assert longer[: 4 * 7] == micro_batches(micro=3)


def test_the_length_of_a_sampler_is_its_number_of_micro_batches():
    sampler = MicroBatches(first=2, last=5, batch_size=12, micro_batch_size=3, rank=1, world=2)
    assert len(sampler) == len(list(sampler)) == 6


@pytest.mark.parametrize(
    ("studies", "batch_size", "epochs", "max_steps", "steps"),
    [
        (48, 8, 2, None, 12),
        (49, 8, 1, None, 7),
        (10, 4, 0.1, None, 1),
        (10, 4, 2, 3, 3),
        (10, 4, 2, 99, 5),
        (3, 12, 1, None, 1),
        (100, 10, 0.3, None, 3),
        (10, 3, 0.9, None, 3),
    ],
)
def test_steps_are_rounded_up_once(studies: int, batch_size: int, epochs: float, max_steps: int | None, steps: int):
    assert steps_for(studies=studies, batch_size=batch_size, epochs=epochs, max_steps=max_steps) == steps


@pytest.mark.parametrize("workers", [0, 1])
def test_loaders_read_the_requested_studies(workers: int):
    order = TrainingOrder(24, seed=1, shuffle=True)
    sampler = MicroBatches(first=1, last=3, batch_size=8, micro_batch_size=4, rank=0, world=1)
    ids = [batch.ids for batch in batch_loader(TrainingExamples(dataset(), order), sampler, workers=workers, pin=False)]
    assert ids == [tuple(STUDIES[order(position)].id for position in part) for part in sampler]
    batches = evaluation_loader(dataset().first(5), batch_size=2, rank=0, world=1, workers=workers, pin=False)
    assert [batch.ids for batch in batches] == [("study-0", "study-1"), ("study-2", "study-3"), ("study-4",)]


@pytest.mark.parametrize("studies", [0, 1, 2, 3, 7, 24])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_every_study_is_evaluated_once_in_the_same_batches_on_any_number_of_ranks(studies: int, world: int):
    def batches(rank: int, world: int) -> list[tuple[str, ...]]:
        loader = evaluation_loader(dataset().first(studies), batch_size=2, rank=rank, world=world, workers=0, pin=False)
        return [batch.ids for batch in loader]

    distributed = [batch for rank in range(world) for batch in batches(rank, world)]
    assert sorted(distributed) == sorted(batches(0, 1))
    assert sum(map(len, distributed)) == studies


def test_random_numbers_of_an_augmentation_never_repeat_but_are_reproducible():
    noisy = dataset(image=lambda view: image(view) + torch.randint(256, (32, 32), dtype=torch.uint8))
    examples = TrainingExamples(noisy, TrainingOrder(24, seed=1, shuffle=True))

    def drawn(*, world: int, workers: int, first: int = 0) -> dict[tuple[int, int, str], bytes]:
        """The images of two epochs by step, number in the step and study."""
        images = {}
        for rank in range(world):
            sampler = MicroBatches(first=first, last=6, batch_size=8, micro_batch_size=2, rank=rank, world=world)
            for turn, part in enumerate(batch_loader(examples, sampler, workers=workers, pin=False)):
                step, number = divmod(turn * world + rank, 4)
                for study, images_VHW, real_V in zip(part.ids, part.images_RVHW, part.views_RV, strict=True):
                    images[first + step, number, study] = images_VHW[real_V].numpy().tobytes()
        return images

    expected = drawn(world=1, workers=0)
    assert len(set(expected.values())) == len(expected) == 48, "the second epoch draws other numbers"
    assert drawn(world=2, workers=0) == expected
    assert drawn(world=1, workers=2) == expected
    assert drawn(world=4, workers=0, first=3) == {key: value for key, value in expected.items() if key[0] >= 3}


def test_an_example_has_the_images_and_the_complete_report_with_its_eos_token():
    for example, study in zip(dataset(), STUDIES, strict=False):
        assert example.id == study.id
        assert torch.equal(example.images_VHW, torch.stack([image(view) for view in study.views]))
        *words, end = example.report_T.tolist()
        assert end == TOKENIZER.eos_id
        assert TOKENIZER.decode(words) == study.report
    assert len(dataset().first(3)) == 3
    assert [example.id for example in (dataset().first(3)[i] for i in range(3))] == ["study-0", "study-1", "study-2"]


def test_collate_pads_views_and_reports_and_masks_the_padding():
    examples = [dataset()[i] for i in (1, 0, 5, 7)]  # 2, 1, 3 and 2 views
    batch = collate(examples)
    assert batch.ids == ("study-1", "study-0", "study-5", "study-7")
    assert batch.images_RVHW.dtype == torch.uint8
    assert batch.report_BT.dtype == torch.int64
    assert batch.views_RV.tolist() == [[True, True, False], [True, False, False], [True] * 3, [True, True, False]]
    for index, example in enumerate(examples):
        views, tokens = len(example.images_VHW), len(example.report_T)
        assert torch.equal(batch.images_RVHW[index, :views], example.images_VHW)
        assert not batch.images_RVHW[index, views:].any()
        assert torch.equal(batch.report_BT[index, :tokens], example.report_T)
        assert (batch.report_BT[index, tokens:] == NO_TARGET).all()
    assert batch.target_tokens == sum(len(example.report_T) for example in examples)
    moved = batch.to(torch.device("meta"))
    assert moved.images_RVHW.device.type == "meta"
    assert {moved.views_RV.device.type, moved.report_BT.device.type} == {"cpu"}  # lengths are read from them


def test_a_batch_is_as_wide_as_its_longest_report():
    short = Example(id="a", images_VHW=torch.zeros(1, 4, 4, dtype=torch.uint8), report_T=torch.tensor([5, 2]))
    assert collate([short, short]).report_BT.shape == (2, 2)
    assert collate([short]).images_RVHW.shape == (1, 1, 4, 4)


@pytest.mark.parametrize(("budget_mib", "cached"), [(0, 0), (1, 16), (2, 24)])
def test_the_image_cache_stays_within_its_budget_and_returns_the_same_images(budget_mib: int, cached: int):
    read: Counter[str] = Counter()

    def load(view: str) -> torch.Tensor:  # 64 KiB
        read[view] += 1
        return image(view).repeat(8, 8)

    cache = ImageCache(load, budget_mib=budget_mib)
    views = [f"{number}/0" for number in range(24)]
    for _ in range(3):
        for view in views:
            assert torch.equal(cache(view), image(view).repeat(8, 8))
    assert sum(image_HW.nbytes for image_HW in cache.images.values()) <= budget_mib * 2**20
    assert len(cache.images) == cached
    assert sorted(read.values()) == [1] * cached + [3] * (24 - cached)


@pytest.mark.parametrize(
    ("cores", "free_mib", "ranks", "workers"),
    [
        (16, 4096, 1, 8),
        (16, 4096, 4, 3),
        (2, 4096, 1, 1),
        (1, 4096, 1, 0),
        (16, 64, 1, 4),
        (16, 64, 4, 1),
        (16, 8, 1, 0),
    ],
)
def test_workers_have_a_core_each_and_fit_into_shared_memory(
    cores: int, free_mib: int, ranks: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch is 32 images of 224 pixels. Docker gives a container 64 MiB of shared memory."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free_mib * 2**20))
    assert workers_that_fit(batch_bytes=32 * 224**2, ranks=ranks) == workers


def test_without_shared_memory_no_process_reads_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r2gen.data.loader.SHARED_MEMORY", "/does/not/exist")
    assert workers_that_fit(batch_bytes=1, ranks=1) == 0
