"""The images of a chest phantom: stylised frontal and lateral radiographs with their findings."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from r2gen.data.phantom_reports import FINDINGS, SIDES
from r2gen.data.phantom_story_reports import HAZE

# Coordinates run from -1 to 1 over the image, x to the image's right, y downwards; density 0 is black, 1 white.
# On the frontal image the patient's left is the image's right, as in clinical viewers.
Plane = NDArray[np.floating[Any]]  # float32 throughout
_TOWARDS = {"left": 1.0, "right": -1.0}


@dataclass(frozen=True)
class Body:
    """The anatomy of one patient and the exposure of the image, drawn once per study, independent of its findings."""

    shift_x: float
    shift_y: float
    tilt: float
    zoom: float
    chest: float  # half the width of the inner chest
    base: float  # height of the diaphragm
    heart: float  # 0 to 1 inside the range of its class, normal or enlarged
    exposure: float
    gamma: float
    spots: dict[str, tuple[float, float, float]]  # of each finding: across, along, size, each 0 to 1


def draw_body(rng: np.random.Generator) -> Body:
    """A random patient; draws the same numbers from rng for any findings."""
    spots = rng.random((len(FINDINGS), 3))
    shape: list[float] = rng.uniform(-1.0, 1.0, 9).tolist()  # plain floats keep the planes float32
    return Body(
        shift_x=0.04 * shape[0],
        shift_y=0.04 * shape[1],
        tilt=0.04 * shape[2],
        zoom=1.0 + 0.05 * shape[3],
        chest=0.76 + 0.05 * shape[4],
        base=0.45 + 0.07 * shape[5],
        heart=0.5 + 0.5 * shape[6],
        exposure=1.0 + 0.06 * shape[7],
        gamma=1.0 + 0.08 * shape[8],
        spots={name: (spot[0], spot[1], spot[2]) for name, spot in zip(FINDINGS, spots.tolist(), strict=True)},
    )


def draw_frontal(
    findings: frozenset[str], rng: np.random.Generator, size_px: int, *, body: Body | None = None
) -> NDArray[np.uint8]:
    """The frontal image, gray of shape (size_px, size_px). The body is drawn from rng if it is not given."""
    body = body or draw_body(rng)
    x, y = _plane(body, size_px)
    markings = _lung_markings(rng, size_px)
    image = 0.58 * _inside(np.abs(x) - (0.24 + 0.75 * np.clip((y + 0.98) / 0.34, 0, 1)), 0.05)  # neck, shoulders, trunk
    image += 0.20 * _inside(np.abs(x) - 0.15, 0.05)  # mediastinum
    image += 0.07 * _inside(np.abs(x) - 0.075, 0.03) * (0.7 + 0.3 * np.cos(28 * y))  # vertebrae
    image -= 0.16 * _inside(np.abs(x) - 0.04, 0.03) * _inside(y + 0.28, 0.06)  # trachea
    for side in SIDES:
        _frontal_lung(image, x, y, side=side, body=body, findings=findings, markings=markings)
    wide = body.chest * (0.60 + 0.08 * body.heart if "cardiomegaly:heart" in findings else 0.40 + 0.06 * body.heart)
    tall = 0.62 * wide + 0.06
    heart_x = x - 0.26 * wide
    heart = _inside(_ellipse(heart_x, y - body.base + 0.66 * tall - 0.28 * heart_x, wide, tall), 0.06)  # apex left
    image += heart * (0.80 - image)
    for side in SIDES:
        slope = np.abs(y + 0.64 + 0.22 * (_TOWARDS[side] * x - 0.1)) - 0.025
        image += 0.10 * _inside(slope, 0.03) * _inside(np.abs(_TOWARDS[side] * x - 0.42) - 0.32, 0.05)  # clavicle
        if f"pacemaker:{side}" in findings:
            _frontal_pacemaker(image, x, y, towards=_TOWARDS[side], spot=body.spots[f"pacemaker:{side}"])
    if "tube:trachea" in findings:
        length = body.spots["tube:trachea"][1]
        image += 0.50 * _inside(np.abs(x) - 0.045, 0.025) * _inside(y + 0.34 - 0.12 * length, 0.03)
    return _expose(image, rng, body)


def _frontal_lung(
    image: Plane, x: Plane, y: Plane, *, side: str, body: Body, findings: frozenset[str], markings: Plane
) -> None:
    """Cut one lung out of the trunk and draw its findings."""
    out = _TOWARDS[side] * x  # distance from the midline
    middle, half = 0.56 * body.chest, 0.44 * body.chest
    across = (out - middle) / half
    base = body.base - (0.06 if side == "right" else 0.0)  # the liver lifts the right dome
    floor = y - (base - 0.06 + 0.20 * np.square(across + 0.15))
    if f"effusion:{side}" in findings:
        height = 0.28 + 0.16 * body.spots[f"effusion:{side}"][2]
        floor = np.maximum(floor, y - (base + 0.10 - height - 0.16 * np.clip(across, -0.4, 1)))  # meniscus
    lung = _inside(_ellipse(out - middle, y - 0.06, half, 0.86), 0.04) * _inside(floor, 0.04)
    air: Plane | float = 0.36
    if f"pneumothorax:{side}" in findings:
        shrink = 0.64 + 0.10 * (1 - body.spots[f"pneumothorax:{side}"][2])
        pleura = _ellipse(out - middle * 0.68, y - 0.22, half * shrink, 0.86 * shrink)
        collapsed = _inside(pleura, 0.03)
        air = 0.54 - 0.30 * collapsed
        markings = markings * collapsed + _inside(np.abs(pleura) - 0.012, 0.025) * 0.16
    ribs = 0.04 * np.cos(26 * (y - 0.22 * np.square(across - 0.5)))
    image += lung * (ribs + markings - air)
    image += 0.09 * _inside(_ellipse(out - 0.20, y + 0.03, 0.10, 0.16), 0.10) * lung  # hilum
    if f"consolidation:{side}" in findings:
        u, v, size = body.spots[f"consolidation:{side}"]
        radius = 0.23 + 0.06 * size
        blob = _inside(_ellipse(out - 0.39 - 0.14 * u, y - 0.12 + 0.38 * v, radius, 0.9 * radius), 0.14)
        image += blob * lung * (0.38 + 1.2 * markings)
    if f"nodule:{side}" in findings:
        u, v, size = body.spots[f"nodule:{side}"]
        disc = _ellipse(out - 0.32 - 0.18 * u, y + 0.38 - 0.30 * v, 0.13 + 0.02 * size, 0.13 + 0.02 * size)
        image += 0.55 * _inside(disc, 0.03)
    if findings & {f"{kind}:{side}" for kind in HAZE}:
        image += 0.42 * lung * _inside(y + 0.30, 0.12)


def _frontal_pacemaker(image: Plane, x: Plane, y: Plane, *, towards: float, spot: tuple[float, float, float]) -> None:
    """Draw a generator below the clavicle, and its lead down into the heart."""
    at_x, at_y = towards * (0.50 + 0.10 * spot[0]), -0.46 + 0.08 * spot[1]
    box = np.maximum(np.abs(x - at_x) - 0.11, np.abs(y - at_y) - 0.09)
    image += 0.55 * _inside(box, 0.03)
    t = np.clip((y - at_y) / (0.30 - at_y), 0, 1)
    lead = np.abs(x - (at_x + (0.14 - at_x) * np.sin(1.57 * t))) - 0.012
    image += 0.28 * _inside(lead, 0.03) * _inside(np.abs(y - (at_y + 0.30) / 2) - (0.30 - at_y) / 2, 0.02)


def draw_lateral(
    findings: frozenset[str], rng: np.random.Generator, size_px: int, *, body: Body | None = None
) -> NDArray[np.uint8]:
    """The lateral image, the patient facing left; both lungs are superimposed."""
    body = body or draw_body(rng)
    x, y = _plane(body, size_px)
    rng.standard_normal()  # so that the noise differs from that of the frontal image
    markings = _lung_markings(rng, size_px)
    image = 0.60 * _inside(_ellipse(x - 0.04, y - 0.25, 0.80, 1.28), 0.05)
    back = x - 0.52 - 0.10 * np.square(y + 0.1)
    image += 0.16 * _inside(np.abs(back) - 0.10, 0.04) * (0.8 + 0.2 * np.cos(28 * y))  # vertebrae
    lung = _inside(_ellipse(x - 0.04, y - 0.10, 0.62, 0.92), 0.05)
    for side in SIDES:
        floor = y - (body.base - (0.06 if side == "right" else 0.0) + 0.50 * np.square(x + 0.15) - 0.05)
        part = lung * _inside(_lateral_floor(floor, x, y, side=side, body=body, findings=findings), 0.04)
        image += part * (0.5 * markings - 0.19 + 0.02 * np.cos(26 * (y + 0.3 * x)))
        _lateral_findings(image, x, y, side=side, body=body, findings=findings, part=part)
    wide = 0.29 + 0.03 * body.heart if "cardiomegaly:heart" in findings else 0.19 + 0.03 * body.heart
    heart_x = x + 0.46 - wide
    heart = _inside(_ellipse(heart_x, y - body.base + 1.10 * wide + 0.5 * heart_x, wide, 1.25 * wide), 0.06)
    image += heart * (0.66 - image)
    if "fracture:spine" in findings:
        level = -0.15 + 0.30 * body.spots["fracture:spine"][1]
        image += 0.40 * _inside(np.abs(back) - 0.13, 0.03) * _inside(np.abs(y - level) - 0.07, 0.03)
    if "hernia:hiatus" in findings:
        bubble = _inside(_ellipse(x - 0.16, y - 0.26, 0.16, 0.16), 0.03)
        image += bubble * (0.45 - 0.85 * _inside(y - 0.24, 0.03))  # an air-fluid level
    image += 0.15 * _inside(np.abs(x + 0.58 - 0.12 * y) - 0.03, 0.03) * _inside(np.abs(y + 0.1) - 0.45, 0.05)  # sternum
    image -= 0.12 * _inside(np.abs(x - 0.02 - 0.1 * y) - 0.04, 0.03) * _inside(y + 0.30, 0.06)  # trachea
    if "tube:trachea" in findings:
        length = body.spots["tube:trachea"][1]
        image += 0.50 * _inside(np.abs(x - 0.02 - 0.1 * y) - 0.04, 0.025) * _inside(y + 0.34 - 0.12 * length, 0.03)
    return _expose(image, rng, body)


def _lateral_floor(floor: Plane, x: Plane, y: Plane, *, side: str, body: Body, findings: frozenset[str]) -> Plane:
    """The lower edge of the air on one side: the diaphragm, or the fluid behind it."""
    if f"effusion:{side}" not in findings:
        return floor
    height = 0.22 + 0.16 * body.spots[f"effusion:{side}"][2]
    fluid: Plane = np.maximum(floor, y - (body.base + 0.04 - height - 0.25 * np.clip(x - 0.1, -0.2, 0.5)))
    return fluid


def _lateral_findings(
    image: Plane, x: Plane, y: Plane, *, side: str, body: Body, findings: frozenset[str], part: Plane
) -> None:
    """Draw the findings of one side."""
    if f"consolidation:{side}" in findings:
        u, v, size = body.spots[f"consolidation:{side}"]
        radius = 0.23 + 0.06 * size
        image += 0.30 * part * _inside(_ellipse(x - 0.28 * u, y - 0.12 + 0.38 * v, radius, 0.9 * radius), 0.14)
    if f"nodule:{side}" in findings:
        u, v, size = body.spots[f"nodule:{side}"]
        disc = _ellipse(x - 0.30 * u + 0.05, y + 0.38 - 0.30 * v, 0.13 + 0.02 * size, 0.13 + 0.02 * size)
        image += 0.48 * _inside(disc, 0.03)
    if f"pneumothorax:{side}" in findings:
        rim = 0.84 + 0.06 * (1 - body.spots[f"pneumothorax:{side}"][2])
        pleura = _ellipse(x - 0.08, y - 0.20, 0.62 * rim, 0.92 * rim)
        image += part * (0.12 * _inside(np.abs(pleura) - 0.012, 0.025) - 0.09 * (1 - _inside(pleura, 0.03)))
    if f"pacemaker:{side}" in findings:
        at_y = -0.46 + 0.08 * body.spots[f"pacemaker:{side}"][1]
        image += 0.45 * _inside(np.maximum(np.abs(x + 0.55) - 0.05, np.abs(y - at_y) - 0.10), 0.03)


DRAW: dict[str, Callable[..., NDArray[np.uint8]]] = {
    "frontal": draw_frontal,
    "lateral": draw_lateral,
}


@lru_cache(maxsize=4)
def _axis(size_px: int) -> Plane:
    return ((np.arange(size_px, dtype=np.float32) + 0.5) * (2 / size_px) - 1).astype(np.float32)


def _plane(body: Body, size_px: int) -> tuple[Plane, Plane]:
    """The patient's coordinates at every pixel: those of the image, shifted, rotated and scaled."""
    axis = _axis(size_px)
    x, y = (axis - np.float32(body.shift_x))[None, :], (axis - np.float32(body.shift_y))[:, None]
    cos, sin = np.float32(np.cos(body.tilt) / body.zoom), np.float32(np.sin(body.tilt) / body.zoom)
    return cos * x + sin * y, cos * y - sin * x


def _inside(distance: Plane, edge: float) -> Plane:
    """1 where distance is negative, 0 where it is positive, with a soft edge of width `edge`."""
    inside: Plane = np.clip(np.float32(0.5) - distance * np.float32(1 / edge), 0, 1)
    return inside


def _ellipse(x: Plane, y: Plane, half_width: float, half_height: float) -> Plane:
    """The approximate distance to an ellipse around the origin, negative inside."""
    ring = np.sqrt(np.square(x * np.float32(1 / half_width)) + np.square(y * np.float32(1 / half_height)))
    distance: Plane = (ring - np.float32(1)) * np.float32(min(half_width, half_height))
    return distance


def _lung_markings(rng: np.random.Generator, size_px: int) -> Plane:
    """Lung markings: soft irregular texture around zero."""
    coarse = Image.fromarray(rng.normal(0, 0.03, (18, 18)).astype(np.float32))
    return np.asarray(coarse.resize((size_px, size_px), Image.Resampling.BICUBIC))


def _expose(image: Plane, rng: np.random.Generator, body: Body) -> NDArray[np.uint8]:
    """The exposed image: exposure, the characteristic curve and quantum noise."""
    seen = np.clip(image * np.float32(body.exposure), 0.01, 1.2) ** np.float32(body.gamma)
    seen = 0.04 + 0.88 * seen + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(0.018)
    gray: NDArray[np.uint8] = (np.clip(seen, 0, 1) * 255).astype(np.uint8)
    return gray
