"""The studies of each optimiser step on each rank, and the processes that read them.

The sampling order of training is endless: the data set shuffled by (seed, 0), then by (seed, 1), and so on. Step s uses
positions [s * batch_size, (s + 1) * batch_size). So every step is full, the length of an epoch need not be a multiple
of the batch size, and the state of a run is one number: resuming, more epochs or other ranks keep the order. Studies of
a mix may have weights: an epoch then has each so often on average, and always the same number of studies.
"""

import errno
import math
import multiprocessing.queues
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from r2gen.data.collate import Batch, collate
from r2gen.data.dataset import Example, StudyDataset
from r2gen.errors import DEFECT
from r2gen.ranks.stop import die_with_parent
from r2gen.runs.resources import SHARED_MEMORY

_PREFETCHED = 4  # batches of each worker
_MOST_WORKERS = 8


def steps_for(*, studies: int, batch_size: int, epochs: float, max_steps: int | None) -> int:
    """The number of optimiser steps of a run: every study `epochs` times, the last step rounded up."""
    steps = math.ceil(round(epochs * studies / batch_size, 6))
    return min(steps, max_steps) if max_steps is not None else steps


class TrainingOrder:
    """The endless sampling order: the study number at any position."""

    def __init__(self, studies: int, *, seed: int, shuffle: bool, weights: Sequence[float] | None = None) -> None:
        self.studies, self.seed, self.shuffle = epoch_length(studies, weights), seed, shuffle  # studies per epoch
        self._draws = None if weights is None else _Draws(weights, seed=seed)
        self._epoch, self._numbers = -1, np.arange(studies)

    def __call__(self, position: int) -> int:
        epoch, index = divmod(position, self.studies)
        if epoch != self._epoch and (self.shuffle or self._draws is not None):
            drawn = self.studies if self._draws is None else self._draws(epoch)
            shuffled = np.random.default_rng([self.seed, epoch]).permutation(drawn) if self.shuffle else drawn
            self._epoch, self._numbers = epoch, np.asarray(shuffled)
        return int(self._numbers[index])


def epoch_length(studies: int, weights: Sequence[float] | None) -> int:
    """How many studies are drawn per epoch: of each weight, the number of its studies times the weight, rounded."""
    if weights is None:
        return studies
    return sum(_drawn_of(weight, count) for weight, count in Counter(weights).items())


def _drawn_of(weight: float, count: int) -> int:
    return max(1, round(weight * count))


class _Draws:
    """The studies of each epoch, with weights.

    Of n studies with the same weight, m are drawn per epoch. They are ranked at random, and by the end of epoch e the
    study of rank r was drawn (m (e + 1) + r) // n times: m in every epoch, and each as often as any other, to one.
    """

    def __init__(self, weights: Sequence[float], *, seed: int) -> None:
        values = np.asarray(weights)
        self._groups = []
        for number, weight in enumerate(sorted(set(weights))):
            members = np.random.default_rng([seed, 0, number]).permutation(np.flatnonzero(values == weight))
            self._groups.append((members, _drawn_of(weight, len(members))))

    def __call__(self, epoch: int) -> np.ndarray:
        drawn = []
        for members, count in self._groups:
            ranks, size = np.arange(len(members)), len(members)
            times = (count * (epoch + 1) + ranks) // size - (count * epoch + ranks) // size
            drawn.append(np.repeat(members, times))
        return np.sort(np.concatenate(drawn))


class TrainingExamples(Dataset[Example]):
    """The example at any position of the endless sampling order.

    The random numbers of an augmentation depend on (seed, position) only: they repeat on no rank, worker or epoch, and
    a resumed run draws the same.
    """

    def __init__(self, dataset: StudyDataset, order: TrainingOrder) -> None:
        self.dataset, self.order = dataset, order

    def __getitem__(self, position: int) -> Example:
        state = np.random.SeedSequence([self.order.seed, position]).generate_state(2)
        seed_torch(int(state[0]))
        random.seed(int(state[1]))
        return self.dataset[self.order(position)]


def seed_torch(seed: int) -> None:
    """As torch.manual_seed, for the CPU and, once it is in use, CUDA.

    torch.manual_seed has each device that is not in use remember the seed, with the stack of its caller: 1 ms.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)


class MicroBatches(Sampler[list[int]]):
    """The positions of one rank's micro-batches from step `first` to `last`: numbers rank::world of each step.

    A micro-batch has the same studies on any number of ranks, so that its gradient is rounded in the same way.
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


def batch_loader(
    dataset: Dataset[Example], batches: Iterable[list[int]], *, workers: int, pin: bool
) -> DataLoader[Batch]:
    """The batches at the given positions of a data set, read by `workers` processes."""
    if workers:
        multiprocessing.get_context().Lock()  # raises where torch would leave half an iterator, whose end fails again
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # torch types a loader by its data set, not by the result of collate_fn
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_start_worker,
        prefetch_factor=_PREFETCHED if workers else None,
    )


def evaluation_loader(
    dataset: StudyDataset, *, batch_size: int, rank: int, world: int, workers: int, pin: bool
) -> DataLoader[Batch]:
    """Every study once, in order: batches number rank::world, so that a batch is the same on any number of ranks."""
    starts = range(0, len(dataset), batch_size)[rank::world]
    batches = [list(range(start, min(start + batch_size, len(dataset)))) for start in starts]
    return batch_loader(dataset, batches, workers=workers, pin=pin)


def workers_that_fit(*, batch_bytes: int, ranks: int) -> int:
    """How many processes of a rank read images while its GPU works, if the user does not say: at most 8.

    Each has a core of this machine, which `ranks` share, and their batches take at most half of the free shared memory,
    which is 64 MiB in a container. 0: the rank reads them itself.
    """
    try:
        free_bytes = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return 0
    if not os.access(SHARED_MEMORY, os.W_OK):
        return 0
    cores = len(os.sched_getaffinity(0)) // ranks
    fitting = free_bytes // 2 // ranks // (batch_bytes * (_PREFETCHED + 1))
    return max(0, min(_MOST_WORKERS, cores - 1, fitting))


def _start_worker(_: int) -> None:
    """Use one core, and end with the rank, so that the run folder is not locked any longer."""
    die_with_parent()
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_worker)  # type: ignore[attr-defined]
    torch.set_num_threads(1)


def _end_worker(error: Exception, _: object) -> None:
    """End a worker that cannot pass on a batch: multiprocessing would drop the batch, and the rank wait for ever."""
    os._exit(errno.EMFILE if "Too many open files" in str(error) else DEFECT)  # resources.py knows that status
