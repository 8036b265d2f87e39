"""Sampling as greedy search: Gumbel noise from a random generator per study is added to the scores.

The token with the largest sum of log-probability and Gumbel noise is a sample from the probabilities. It depends on the
seed, the study and the position in the report, never on the batch, and it is as robust to rounding as greedy search.
"""

import hashlib
from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

# B batch, S slots, V vocabulary


def study_generator(study: str, *, seed: int | None, device: torch.device) -> torch.Generator:
    """The random generator of a study."""
    digest = hashlib.sha256(f"{seed or 0} {study}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7]))  # 56 bits: torch takes 63


class BatchNoise(LogitsProcessor):
    """The noise of a batch of studies for transformers' generate()."""

    def __init__(self, ids: Sequence[str], *, seed: int | None, device: torch.device) -> None:
        self.generators = [study_generator(study, seed=seed, device=device) for study in ids]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        waits_BV = torch.empty_like(scores)  # exponential; minus the logarithm is Gumbel noise
        for row_V, generator in zip(waits_BV, self.generators, strict=True):
            row_V.exponential_(generator=generator)
        return scores - waits_BV.log()  # type: ignore[return-value]


class StudyNoise:
    """The noise [S, V] of the studies in slots, drawn in place, so that a CUDA graph can read it."""

    noise_SV: torch.Tensor

    def __init__(self, seed: int | None, *, slots: int, device: torch.device) -> None:
        self.seed, self.slots, self.device = seed, slots, device
        self.generators: dict[int, torch.Generator] = {}

    def seat(self, slots: Sequence[int], ids: Sequence[str], *, vocabulary: int) -> None:
        """Give slots to new studies."""
        if not self.generators:
            self.noise_SV = torch.zeros(self.slots, vocabulary, device=self.device)
        for slot, study in zip(slots, ids, strict=True):
            self.generators[slot] = study_generator(study, seed=self.seed, device=self.device)

    def draw(self, slots: Sequence[int]) -> torch.Tensor:
        """Draw the noise of the next token of these slots."""
        for slot in slots:
            self.noise_SV[slot].exponential_(generator=self.generators[slot])
            self.noise_SV[slot].log_().neg_()
        return self.noise_SV
