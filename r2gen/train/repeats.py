"""Repeat factor sampling (Gupta et al., LVIS, CVPR 2019): an epoch draws studies with rare findings more often."""

from dataclasses import replace

import torch

from r2gen.data.dataset import StudyDataset
from r2gen.data.loader import epoch_length
from r2gen.evaluate.labeler import NO_FINDING
from r2gen.ranks import dist
from r2gen.runs.progress import wrapped
from r2gen.train.objectives.findings import CLASSES, NORMAL, labels_of

MOST = 10.0  # times that an epoch draws a study
FINDINGS = tuple(name for name in CLASSES if name not in (NO_FINDING, NORMAL))

# S studies, F findings


def with_repeats(train: StudyDataset, threshold: float) -> StudyDataset:
    """The training studies with larger weights for those whose reports state a finding that is rarer than `threshold`.

    All ranks must call it; the first one reads the findings from the reports, by rules, and prints what they change.
    """
    factors, described = [], ""
    if dist.is_first():
        labels_SC = labels_of(train.studies)
        stated_SF = labels_SC[:, [CLASSES.index(name) for name in FINDINGS]]
        factors_F = finding_factors(stated_SF, threshold)
        factors = repeat_factors(stated_SF, factors_F)
        rare = [(factor, name) for factor, name in zip(factors_F.tolist(), FINDINGS, strict=True) if factor > 1]
        described = ", ".join(f"{name} {factor:.1f}" for factor, name in sorted(rare, reverse=True))
    factors = dist.first_of([factors])
    weighted = [
        replace(study, weight=study.weight * factor) for study, factor in zip(train.studies, factors, strict=True)
    ]
    repeated = train.of(weighted)
    if dist.is_first():
        drawn, before = (epoch_length(len(weighted), data.weights) for data in (repeated, train))
        effect = (
            f"an epoch draws {drawn:,} studies instead of {before:,}; times that it draws one with a rare finding: "
            f"{described}"
            if described
            else "repeats no study, since every finding is in a larger share of the training reports, or in none"
        )
        print(wrapped(f"trainer.repeat_threshold={threshold:g}: {effect}"), flush=True)
    return repeated


def finding_factors(stated_SF: torch.Tensor, threshold: float) -> torch.Tensor:
    """For each finding [F] sqrt(threshold / share), from 1 to MOST; 1 if no study states it.

    `stated_SF` are booleans; the share of a finding is that of the studies that state it.
    """
    share_F = stated_SF.double().mean(dim=0)
    return torch.where(share_F > 0, (threshold / share_F).sqrt(), 1).clamp(1, MOST)


def repeat_factors(stated_SF: torch.Tensor, factors_F: torch.Tensor) -> list[float]:
    """How often an epoch draws each study: the largest factor of its findings, or once."""
    factors: list[float] = (stated_SF * factors_F).amax(dim=1).clamp(min=1).tolist()
    return factors
