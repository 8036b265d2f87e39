"""A report of Open-i (IU X-Ray) as its XML file holds it, and the projections that the file does not hold."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from r2gen.data.annotation_file import refuse
from r2gen.data.mimic_sections import one_line
from r2gen.data.positions import position_of
from r2gen.data.table_columns import require
from r2gen.data.table_file import open_table, text_of
from r2gen.errors import shown
from r2gen.runs.untrusted import read_xml

SECTIONS = ("comparison", "indication", "findings", "impression")
_UID = re.compile(r"(?:CXR)?(\d{1,9})", re.ASCII)
_IMAGE = re.compile(r"[A-Za-z0-9_-]{1,100}")  # characters that are safe in a file name
_SERIES = re.compile(r"IM-\d+(?:-\d+)*", re.ASCII)  # of CXR1_1_IM-0001-3001, and of 1_IM-0001-3001.dcm.png


@dataclass(frozen=True)
class OpenIReport:
    """What is read of <eCitation>."""

    number: str  # of uId: 1 for CXR1
    images: tuple[str, ...]  # parentImage ids, such as CXR1_1_IM-0001-3001: file names without their suffix
    texts: Mapping[str, str]  # section to its text on one line; empty ones are left out
    mesh: tuple[str, ...]  # the terms under MeSH/major, by which people coded the report


def read_report(file: Path) -> OpenIReport:
    """Read one XML file. Raises OSError, or ValueError with a reason on one line."""
    root = read_xml(file)
    uids = [_UID.fullmatch(element.get("id", "").strip()) for element in root.iter("uId")]
    if len(uids) != 1 or uids[0] is None:
        raise ValueError("it has no <uId id> such as CXR1: it is no report of Open-i")
    images = [element.get("id", "").strip() for element in root.iter("parentImage")]
    for image in images:
        if not _IMAGE.fullmatch(image):
            raise ValueError(f"parentImage {image!r:.60} is no name of an image")
        if images.count(image) > 1:
            raise ValueError(f"parentImage {image} is listed twice")
    texts: dict[str, str] = {}
    for element in root.iter("AbstractText"):
        label, text = element.get("Label", "").strip().lower(), one_line("".join(element.itertext()))
        if label in SECTIONS and text:
            texts[label] = f"{texts[label]} {text}" if label in texts else text
    terms = [one_line(element.text or "") for group in root.iter("MeSH") for element in group.iter("major")]
    return OpenIReport(uids[0][1], tuple(images), texts, tuple(term for term in terms if term))


def series_of(image: str) -> str:
    """What an image has in common in all copies of the collection: `IM-0001-3001`."""
    series = _SERIES.search(image)
    return series[0] if series else image


class Projections:
    """The positions of images, from the columns uid, filename and projection of indiana_projections.csv."""

    def __init__(self, file: Path) -> None:
        """Raises UserError naming the rows at fault."""
        table = open_table(file)
        require(table.columns, ("uid", "filename", "projection"), where=file)
        self._positions: dict[tuple[str, str], str] = {}
        faults = []
        for row, cells in table.rows():
            uid, projection = _UID.fullmatch(text_of(cells["uid"])), text_of(cells["projection"])
            position = position_of(projection)
            if uid is None:
                faults.append(f"{table.at(row)}: uid {shown(cells['uid'])} is not a number")
            elif not position:
                faults.append(f"{table.at(row)}: projection {shown(projection) or 'empty'} is not Frontal or Lateral")
            else:
                self._positions[uid[1], series_of(text_of(cells["filename"]))] = position
        refuse(str(file), faults)

    def of(self, number: str, images: Iterable[str]) -> list[str]:
        """The position of each image of a report; "" if the table has none."""
        return [self._positions.get((number, series_of(image)), "") for image in images]
