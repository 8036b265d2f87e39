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
    stated_SF = torch.empty(0)
    if dist.is_first():
        labels_SC = labels_of(train.studies)
        stated_SF = labels_SC[:, [CLASSES.index(name) for name in FINDINGS]]
    factors = dist.first_of([repeat_factors(stated_SF, threshold) if dist.is_first() else []])
    weighted = [
        replace(study, weight=study.weight * factor) for study, factor in zip(train.studies, factors, strict=True)
    ]
    repeated = train.of(weighted)
    if dist.is_first():
        shares_F = stated_SF.float().mean(dim=0).tolist()
        rare = [(share, name) for share, name in zip(shares_F, FINDINGS, strict=True) if 0 < share < threshold]
        listed = ", ".join(f"{name} {_factor(share, threshold):.1f}" for share, name in sorted(rare))
        drawn, before = (epoch_length(len(weighted), data.weights) for data in (repeated, train))
        effect = (
            f"an epoch draws {drawn:,} studies instead of {before:,}; times that it draws one with a rare finding: "
            f"{listed}"
            if rare
            else "repeats no study, since every finding is in a larger share of the training reports, or in none"
        )
        print(wrapped(f"trainer.repeat_threshold={threshold:g}: {effect}"), flush=True)
    return repeated


def repeat_factors(stated_SF: torch.Tensor, threshold: float) -> list[float]:
    """How often an epoch draws each study: the largest of sqrt(threshold / share) over its findings, from 1 to MOST.

    `stated_SF` are booleans; the share of a finding is that of the studies that state it.
    """
    shares_F = stated_SF.float().mean(dim=0).tolist()
    factors_F = torch.tensor([_factor(share, threshold) for share in shares_F])
    factors: list[float] = (stated_SF * factors_F).max(dim=1).values.clamp(min=1).tolist()
    return factors


def _factor(share: float, threshold: float) -> float:
    return min(MOST, max(1.0, float((threshold / share) ** 0.5))) if share else 1.0
