"""The protocol of objectives, and the default one: the cross-entropy of the reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from r2gen.data.collate import Batch
from r2gen.data.reports import Study
from r2gen.errors import UserError
from r2gen.model.report_generator import ReportGenerator, StepLoss


@dataclass(frozen=True)
class Step:
    """An optimiser step, as an objective needs to know it."""

    number: int
    tokens: torch.Tensor  # target tokens of its reports, over all micro-batches and ranks; the loop divides by it
    studies: int  # over all micro-batches and ranks


@dataclass(frozen=True)
class TrainingParts:
    """What an objective is prepared with."""

    model: ReportGenerator
    studies: Sequence[Study]  # of the training split
    seed: int
    max_new_tokens: int  # of the decoding profile
    keeps_slots: bool  # whether memory for decoding may stay between the steps


class Objective(Protocol):
    """An option of the group `objective`. Its class takes the arguments of its YAML file.

    The loop divides the sum of the losses of a step by `Step.tokens`. An objective that is a mean over studies must
    therefore multiply by the number of tokens per study, and gives then the gradient of one large batch, however the
    step is divided.
    """

    generates: bool  # whether `losses` generates reports, for which every rank needs all weights
    encoder_only: bool  # whether only the encoder trains: no reports are generated and scored

    def prepare(self, parts: TrainingParts) -> None:
        """Called once before the first step, on every rank. Weights of its own become `model.head`."""

    def losses(self, model: ReportGenerator, window: Sequence[Batch], step: Step) -> Sequence[StepLoss | None]:
        """The loss of each micro-batch of this rank in a step; None is the cross-entropy of its reports.

        The loss is called within the model's forward pass. The model may have any weights on the CPU or a GPU.
        """

    def figures(self) -> Mapping[str, float]:
        """Numbers about the last step on this rank, for train.jsonl; always the same names."""


class ReportLoss:
    """The cross-entropy of the training reports."""

    generates = False
    encoder_only = False

    def prepare(self, parts: TrainingParts) -> None:
        """Nothing to prepare."""

    def losses(self, model: ReportGenerator, window: Sequence[Batch], step: Step) -> Sequence[StepLoss | None]:
        return [None] * len(window)

    def figures(self) -> Mapping[str, float]:
        return {}


PLAIN = ReportLoss()


def check_number(option: str, value: float, *, at_least: float = 0.0, at_most: float = 1e6) -> None:
    """Raise UserError unless the value of an option of the group is within the bounds."""
    if not at_least <= value <= at_most:
        raise UserError(f"objective.{option}={value}: give a number from {at_least:g} to {at_most:g}")
