"""A random split of studies by patient, for data sets that come without one."""

import hashlib
from collections.abc import Mapping, Sequence

from r2gen.data.reports import SPLITS
from r2gen.errors import UserError, shown

USUAL = (80, 10, 10)
_SEEDS_TRIED = 1000


def check_shares(shares: Sequence[float] | None) -> Sequence[float]:
    """The shares of prepare.split; null: the usual ones. Raises UserError unless there are three."""
    if shares is None:
        return USUAL
    if len(shares) != len(SPLITS) or min(shares) < 0 or sum(shares) <= 0:
        raise UserError(
            f"prepare.split={shown(list(shares))}: give the shares of {', '.join(SPLITS)}, such as [80,10,10]."
        )
    return shares


def split_by_patient(patients: Mapping[str, str], *, shares: Sequence[float] | None, seed: int) -> dict[str, str]:
    """Study id to split, from study id to patient: by a hash, so that more studies move no patient to another split.

    Raises UserError if a split with a share would be empty.
    """
    shares = check_shares(shares)
    homes = {id: _home(patient, shares, seed) for id, patient in patients.items()}
    distinct = sorted(set(patients.values()))
    wanted = {split for split, share in zip(SPLITS, shares, strict=True) if share > 0}
    empty = wanted - set(homes.values())
    if patients and empty:
        seeds = (seed for seed in range(_SEEDS_TRIED) if wanted <= {_home(key, shares, seed) for key in distinct})
        other = next(seeds, None)
        fix = "Set prepare.split, such as [100,0,0]" if other is None else f"Use prepare.seed={other}"
        raise UserError(
            f"prepare.split={shown(list(shares))}: with seed {seed}, {' and '.join(sorted(empty))} would be empty "
            f"({len(distinct)} patients or studies). {fix}, or a column split."
        )
    return homes


def _home(key: str, shares: Sequence[float], seed: int) -> str:
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    position = int.from_bytes(digest[:8]) / 2**64 * sum(shares)
    for split, share in zip(SPLITS, shares, strict=True):
        position -= share
        if position < 0:
            return split
    return next(split for split, share in reversed(list(zip(SPLITS, shares, strict=True))) if share > 0)
