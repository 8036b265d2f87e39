"""The studies of phantoms with a story: truth, texts and images drawn from (seed, split, number)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from r2gen.data.phantom_images import DRAW, Body, draw_body
from r2gen.data.phantom_story_reports import (
    HAZE,
    LATERAL_ONLY,
    SIZED,
    STORY_FINDINGS,
    SYMPTOMS,
    write_indication,
    write_story,
)
from r2gen.data.phantom_studies import stream_of
from r2gen.data.reports import Prior, Study

HAS_PRIOR, HAS_LATERAL, HAS_INDICATION = 0.7, 0.7, 0.9  # shares of the studies
HAZY = 0.15  # of each side, where the indication tells the truth: only it says of what the haze is
# Shares of a finding's (size in the prior study, size now) where there are both, "" for absent. Each size now is new,
# unchanged, and larger or smaller equally often, so that the images now say nothing about the change.
_OF_SIZED = {
    ("", "small"): 0.03,
    ("", "large"): 0.03,
    ("small", "small"): 0.03,
    ("large", "large"): 0.03,
    ("small", "large"): 0.03,
    ("large", "small"): 0.03,
    ("small", ""): 0.02,
    ("large", ""): 0.02,
}
_OF_UNSIZED = {("", "there"): 0.08, ("there", "there"): 0.08, ("there", ""): 0.04}
_LASTING = {("", "there"): 0.08, ("there", "there"): 0.08}  # a fracture does not heal
_SIZES = {  # the size in Body.spots of what is drawn
    "consolidation": {"small": -0.6, "large": 2.0},
    "effusion": {"small": 0.0, "large": 1.7},
    "nodule": {"small": -0.5, "large": 3.5},
    "pneumothorax": {"small": 0.0, "large": 2.0},
}
_STORY, _REPORT, _PRIOR_REPORT, _PATIENT, _NOW, _BEFORE = range(10, 16)  # independent random streams of one study


@dataclass(frozen=True)
class Story:
    """The truth about one study. Findings are mapped to their size: small, large, or "" for kinds without one."""

    sizes: Mapping[str, str]
    before: Mapping[str, str] | None  # in the prior study; None without one
    named: str | None  # the kind that the indication names
    misleads: bool  # it is absent
    indicated: bool  # there is an indication
    lateral: bool  # there is a lateral image, in the prior study too
    age: float
    sex: str
    days: float

    @property
    def findings(self) -> frozenset[str]:
        return frozenset(self.sizes)

    @property
    def doubted(self) -> str | None:
        return self.named if self.misleads else None

    @property
    def changes(self) -> dict[str, str]:
        """Findings to new, larger, smaller, unchanged or resolved; empty without a prior study.

        The causes of a haze have none: they are acute.
        """
        if self.before is None:
            return {}
        kinds = [finding for finding in STORY_FINDINGS if not _is_haze(finding)]
        return {
            finding: _change(self.before.get(finding), self.sizes.get(finding))
            for finding in kinds
            if finding in self.before or finding in self.sizes
        }


def draw_story(seed: int, split: str, number: int, *, misleading: float) -> Story:
    """The truth about a study. `misleading` is the share of indications that name an absent kind."""
    rng = stream_of(seed, split, number, _STORY)
    prior, lateral, indicated = (rng.random(3) < (HAS_PRIOR, HAS_LATERAL, HAS_INDICATION)).tolist()
    misleads = bool(rng.random() < misleading) and indicated
    before, sizes = dict[str, str](), dict[str, str]()
    for finding in STORY_FINDINGS:
        then, now = _states(finding, rng)
        if _is_haze(finding) or (finding in LATERAL_ONLY and not lateral):
            continue
        if then:
            before[finding] = _size(then)
        if now:
            sizes[finding] = _size(now)
    haze = HAZE[int(rng.integers(len(HAZE)))]
    hazy = rng.random(2) < HAZY
    if indicated and not misleads:
        sizes |= {f"{haze}:{side}": "" for side, there in zip(("left", "right"), hazy, strict=True) if there}
    return Story(
        sizes=sizes,
        before=before if prior else None,
        named=_named(sizes, before, misleads=misleads, rng=rng) if indicated else None,
        misleads=misleads,
        indicated=indicated,
        lateral=lateral,
        age=float(rng.integers(18, 95)),
        sex="F" if rng.random() < 0.5 else "M",
        days=float(rng.integers(1, 400)),
    )


def draw_story_study(seed: int, split: str, number: int, *, misleading: float) -> Study:
    """The study with the id "<split>-<number>"."""
    story = draw_story(seed, split, number, misleading=misleading)
    name = f"{split}-{number:05d}"
    kinds = tuple(kind for kind in DRAW if story.lateral or kind != "lateral")
    positions = ("PA", "LATERAL") if story.lateral else ("AP",)
    prior = None
    if story.before is not None:
        prior = Prior(
            id=f"{name}-prior",
            views=tuple(f"{name}-prior-{kind}" for kind in kinds),
            report=write_story(story.before, {}, None, stream_of(seed, split, number, _PRIOR_REPORT)),
            days=story.days,
            positions=positions,
        )
    report = stream_of(seed, split, number, _REPORT)
    return Study(
        id=name,
        views=tuple(f"{name}-{kind}" for kind in kinds),
        report=write_story(story.sizes, story.changes, story.doubted, report),
        positions=positions,
        indication=write_indication(story.named, report) if story.indicated else None,
        technique="pa and lateral views of the chest ." if story.lateral else "portable ap view of the chest .",
        comparison="none ." if prior is None else "chest radiographs of ___ .",
        age=story.age,
        sex="F" if story.sex == "F" else "M",
        prior=prior,
        findings=story.findings,
    )


def draw_story_image(seed: int, view: str, size_px: int, *, misleading: float) -> Image.Image:
    """The image of a view name like "train-00017-frontal" or "train-00017-prior-lateral", size_px pixels square."""
    split, number, *earlier, kind = view.split("-")
    story = draw_story(seed, split, int(number), misleading=misleading)
    sizes = story.before or {} if earlier else story.sizes
    patient = stream_of(seed, split, int(number), _PATIENT)
    visit = stream_of(seed, split, int(number), _BEFORE if earlier else _NOW)
    body = _at_visit(draw_body(patient), draw_body(visit), sizes, patient)
    return Image.fromarray(DRAW[kind](frozenset(sizes), visit, size_px, body=body))


def _at_visit(patient: Body, visit: Body, sizes: Mapping[str, str], rng: np.random.Generator) -> Body:
    """The patient's anatomy, positioned and exposed as at the visit, with findings of these sizes."""
    spots = {**patient.spots, **dict(zip(LATERAL_ONLY, map(tuple, rng.random((2, 3)).tolist()), strict=True))}
    for finding, size in sizes.items():
        if size:
            across, along, jitter = spots[finding]
            spots[finding] = (across, along, _SIZES[finding.partition(":")[0]][size] + 0.4 * (jitter - 0.5))
    return replace(
        patient,
        shift_x=visit.shift_x,
        shift_y=visit.shift_y,
        tilt=visit.tilt,
        exposure=visit.exposure,
        gamma=visit.gamma,
        spots=spots,
    )


def _named(
    sizes: Mapping[str, str], before: Mapping[str, str], *, misleads: bool, rng: np.random.Generator
) -> str | None:
    """The kind that the indication names: one that was never there if it misleads, or else one that is there.

    The cause of a haze is always named, since nothing else says it. None: nothing to name is there.
    """
    now, then = ({finding.partition(":")[0] for finding in findings} for findings in (sizes, before))
    named = [kind for kind in SYMPTOMS if (kind not in now | then if misleads else kind in now)]
    hazes = [kind for kind in named if kind in HAZE and not misleads]
    among = hazes or named
    return among[int(rng.integers(len(among)))] if among else None


def _states(finding: str, rng: np.random.Generator) -> tuple[str, str]:
    kind = finding.partition(":")[0]
    shares = _OF_SIZED if kind in SIZED else _LASTING if finding in LATERAL_ONLY else _OF_UNSIZED
    at = int(np.searchsorted(np.cumsum(list(shares.values())), rng.random(), side="right"))
    return list(shares)[at] if at < len(shares) else ("", "")


def _size(state: str) -> str:
    return "" if state == "there" else state


def _change(then: str | None, now: str | None) -> str:
    if then is None:
        return "new"
    if now is None:
        return "resolved"
    return "unchanged" if then == now else "larger" if now == "large" else "smaller"


def _is_haze(finding: str) -> bool:
    return finding.partition(":")[0] in HAZE
