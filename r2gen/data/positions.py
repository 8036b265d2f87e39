"""The position (projection) of a radiograph, as data sets and DICOM files spell it."""

import re

NAMES = {
    "PA": {"pa", "posteroanterior", "posterioranterior"},
    "AP": {"ap", "anteroposterior", "anteriorposterior"},
    "FRONTAL": {"frontal", "front"},
    "LATERAL": {"lateral", "lat", "l", "ll", "rl"},
    "OTHER": {
        *("other", "oblique", "lao", "rao", "lpo", "rpo", "llo", "rlo", "swimmers", "swimmer", "costal"),
        *("decubitus", "decub", "lld", "rld", "lordotic", "axial"),
    },
}
POSITION_OF = {name: position for position, names in NAMES.items() for name in names}
FRONTAL, LATERAL = frozenset({"PA", "AP", "FRONTAL"}), frozenset({"LATERAL", "LL"})  # LL: left lateral, in MIMIC-CXR
RANKS = {"PA": 0, "AP": 1, "FRONTAL": 2, "LATERAL": 3, "LL": 3, "OTHER": 4}
VIEWS = {"frontal": FRONTAL, "lateral": LATERAL, "frontal+lateral": FRONTAL | LATERAL}  # choices of prepare.views
HALVES = re.compile(r"\b(postero|posterior|antero|anterior)[^a-z]+(anterior|posterior)\b")


def spellings() -> str:
    """The positions, with other spellings of each in brackets."""
    return ", ".join(
        f"{position} ({', '.join(sorted(names - {position.lower()}))})" for position, names in NAMES.items()
    )


def rank(position: str) -> int:
    """The place of an image among those of its study: frontal images, then lateral ones, others, unknown ones."""
    return RANKS.get(position, len(RANKS))


def is_selected(position: str, views: str) -> bool:
    """Whether prepare.views keeps an image."""
    return views == "all" or position in VIEWS[views]


def position_of(text: str) -> str:
    """One of reports.POSITIONS for a spelling such as `Lateral`, `LL` or `antero-posterior`; "" if it is unknown.

    The direction of the beam counts: `PA LLD` (lying on the left side) is PA, and `AP AXIAL` is AP. A text that names a
    frontal and a lateral view is of no single image, and gives "".
    """
    words = re.findall("[a-z]+", HALVES.sub(r"\1\2", text.lower()))
    named = {POSITION_OF[word] for word in words if word in POSITION_OF}
    frontal, lateral = named & {"PA", "AP"}, "LATERAL" in named
    if "OTHER" in named:  # "left lateral decubitus" is no lateral view
        return min(frontal) if len(frontal) == 1 else "OTHER"
    if lateral:
        return "" if len(named) > 1 else "LATERAL"
    if frontal:
        return min(frontal) if len(frontal) == 1 else "FRONTAL"
    return "FRONTAL" if named else ""
