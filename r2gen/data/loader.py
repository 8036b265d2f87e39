"""Which studies an optimiser step sees, on which rank, and the processes that read them.

Training walks one endless row of studies: the data set shuffled by (seed, 0), then by (seed, 1), and so on. Step s
takes positions [s * batch_size, (s + 1) * batch_size) of it. A step is thus always full, an epoch needs no length that
divides, and where a run stands is one number: resuming, raising the epochs or another rank count change no order.
"""

import math
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from r2gen.data.collate import Batch, collate
from r2gen.data.dataset import Example, StudyDataset
from r2gen.ranks.stop import die_with_parent


def steps_for(*, studies: int, batch_size: int, epochs: float, max_steps: int | None) -> int:
    """Optimiser steps of a run: every study `epochs` times, the last step rounded up."""
    steps = math.ceil(round(epochs * studies / batch_size, 6))
    return min(steps, max_steps) if max_steps is not None else steps


class TrainingOrder:
    """The endless row: study number at any position of it."""

    def __init__(self, studies: int, *, seed: int, shuffle: bool) -> None:
        self.studies, self.seed, self.shuffle = studies, seed, shuffle
        self._epoch, self._row = -1, np.arange(studies)

    def __call__(self, position: int) -> int:
        epoch, place = divmod(position, self.studies)
        if self.shuffle and epoch != self._epoch:
            self._epoch, self._row = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.studies)
        return int(self._row[place])


class Row(Dataset[Example]):
    """The endless row as a data set: the example at any position of it.

    What an augmentation draws depends on (seed, position) alone: it repeats on no rank, worker or epoch, and a resumed
    run draws the same.
    """

    def __init__(self, dataset: StudyDataset, order: TrainingOrder) -> None:
        self.dataset, self.order = dataset, order

    def __getitem__(self, position: int) -> Example:
        state = np.random.SeedSequence([self.order.seed, position]).generate_state(2)
        torch.manual_seed(int(state[0]))
        random.seed(int(state[1]))
        return self.dataset[self.order(position)]


class MicroBatches(Sampler[list[int]]):
    """The micro-batches, as positions, of one rank from step `first` to `last`: of each step's, number rank::world.

    So a micro-batch holds the same studies on any number of ranks, and its gradient rounds alike.
    """

    def __init__(self, *, first: int, last: int, batch_size: int, micro_batch_size: int, rank: int, world: int) -> None:
        self.steps = range(first, last)
        self.batch_size, self.micro_batch_size = batch_size, micro_batch_size
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return len(self.steps) * (self.batch_size // (self.micro_batch_size * self.world))

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            positions = range(step * self.batch_size, (step + 1) * self.batch_size)
            for start in range(0, self.batch_size, self.micro_batch_size)[self.rank :: self.world]:
                yield list(positions[start : start + self.micro_batch_size])


def training_loader(row: Row, batches: MicroBatches, *, workers: int, pin: bool) -> DataLoader[Batch]:
    # torch types a loader by its data set, not by what collate_fn makes
    return DataLoader(
        row,  # type: ignore[arg-type]
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_quiet_worker,
        prefetch_factor=4 if workers else None,
    )


def evaluation_loader(
    dataset: StudyDataset, *, batch_size: int, rank: int, world: int, workers: int, pin: bool
) -> DataLoader[Batch]:
    """Every study once, in order; of the batches number rank::world, so that a batch is the same on any rank count."""
    starts = range(0, len(dataset), batch_size)[rank::world]
    batches = [list(range(start, min(start + batch_size, len(dataset)))) for start in starts]
    return DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_quiet_worker,
        prefetch_factor=4 if workers else None,
    )


def _quiet_worker(_: int) -> None:
    """A data process uses one core, and holds the run folder's lock no longer than its rank."""
    die_with_parent()
    torch.set_num_threads(1)
