"""A raw MIMIC-CXR report as its sections (FINDINGS, IMPRESSION, INDICATION, ...), however their headings are spelt."""

import difflib
import re
from collections.abc import Iterator
from functools import cache

# What a heading says, in capitals and single spaces, to its section. One not listed opens a section of its own.
HEADINGS = {
    "FINDINGS": "findings", "FINDING": "findings",
    "FINDINGS AND IMPRESSION": "findings_impression", "FINDINGS/IMPRESSION": "findings_impression",
    "IMPRESSION AND FINDINGS": "findings_impression", "IMPRESSION/FINDINGS": "findings_impression",
    "IMPRESSION": "impression", "IMPRESSIONS": "impression", "CONCLUSION": "impression", "CONCLUSIONS": "impression",
    "INDICATION": "indication", "INDICATIONS": "indication", "CLINICAL INDICATION": "indication",
    "REASON FOR EXAM": "indication", "REASON FOR EXAMINATION": "indication", "REASON FOR STUDY": "indication",
    "INDICATION AND HISTORY": "indication", "HISTORY AND INDICATION": "indication",
    "HISTORY": "history", "CLINICAL HISTORY": "history", "PATIENT HISTORY": "history",
    "CLINICAL INFORMATION": "history",
    "COMPARISON": "comparison", "COMPARISONS": "comparison", "COMPARISON EXAM": "comparison",
    "COMPARISON STUDY": "comparison", "COMPARISON FILM": "comparison", "REFERENCE EXAM": "comparison",
    "TECHNIQUE": "technique", "TECHNICAL FACTORS": "technique",
    "EXAMINATION": "examination", "EXAM": "examination", "STUDY": "examination", "TYPE OF EXAMINATION": "examination",
    "TYPE OF EXAM": "examination", "WET READ": "wet_read", "ADDENDUM": "addendum", "NOTIFICATION": "notification",
    "RECOMMENDATION": "recommendation", "RECOMMENDATIONS": "recommendation", "RECOMMENDATION(S)": "recommendation",
}  # fmt: skip
LAST_PARAGRAPH = "last_paragraph"
_LIKENESS = 0.85  # of a misspelt heading, IMPRESSOIN or FINIDNGS; a word left out is less alike, and no misspelling
_HEADING = re.compile(r"^[ \t]*([A-Z][A-Z0-9 \t()/,&.'-]{2,60}?)[ \t]*:", re.MULTILINE)
_ALONE = re.compile(r"^[ \t]*([A-Z][A-Z \t/]{5,30}?)[ \t]*$", re.MULTILINE)  # without a colon, a known one only
_FINAL_REPORT = re.compile(r"^[ \t]*FINAL[ \t]+REPORT\b[ \t]*:?", re.MULTILINE | re.IGNORECASE)


def sections(report: str) -> dict[str, str]:
    """Section name to its text, each on one line; empty sections are left out.

    Texts under headings of one name are joined in their order. What stands before the last FINAL REPORT line (a wet
    read) is no part of the report. A heading is in capitals at the start of a line, with a colon or alone; unknown
    ones end the section before. `findings_impression` is both in one; `last_paragraph` stands there only where neither
    findings nor impression do.
    """
    text = _final(report.replace("\r\n", "\n").replace("\r", "\n"))
    marks = list(_headings(text))
    found: dict[str, str] = {}
    ends = [start for start, _, _ in marks[1:]] + [len(text)]
    for (_, begin, name), end in zip(marks, ends, strict=bool(marks)):
        content = one_line(text[begin:end])
        if content:
            found[name] = f"{found[name]} {content}" if name in found else content
    if not {"findings", "impression", "findings_impression"} & set(found):
        found |= _last_paragraph(text)
    return found


def one_line(text: str) -> str:
    """The text with every run of white space as one blank, without lines drawn with underscores."""
    return " ".join(word for word in text.split() if len(word) < 10 or word.strip("_"))


def _final(report: str) -> str:
    """What follows the last FINAL REPORT line; all of it where there is no such line, or nothing behind it."""
    for line in reversed(list(_FINAL_REPORT.finditer(report))):
        if report[line.end() :].strip():
            return report[line.end() :]
    return report


def _headings(text: str) -> Iterator[tuple[int, int, str]]:
    """(start of the heading, start of its text, section), in the order of the text."""
    found = [(one.start(), one.end(), section_of(one[1]) or f"other:{one_line(one[1])}")
             for one in _HEADING.finditer(text)]  # fmt: skip
    taken = {start for start, _, _ in found}
    for one in _ALONE.finditer(text):
        name = section_of(one[1])
        if name is not None and one.start() not in taken:
            found.append((one.start(), one.end(), name))
    yield from sorted(found)


@cache
def section_of(heading: str) -> str | None:
    """The section a heading opens, also where it is misspelt; None where it is none of HEADINGS."""
    heading = re.sub(r"\s*/\s*", "/", one_line(heading.upper().replace("&", " AND ")).strip(" .,-"))
    if heading in HEADINGS:
        return HEADINGS[heading]
    near = difflib.get_close_matches(heading, HEADINGS, n=1, cutoff=_LIKENESS)
    return HEADINGS[near[0]] if near else None


def _last_paragraph(text: str) -> dict[str, str]:
    """The last paragraph, where it is prose: not a section that is there already, nor a heading."""
    paragraphs = [part.strip("\n") for part in re.split(r"\n[ \t]*\n", text) if one_line(part)]
    if not paragraphs or _HEADING.match(paragraphs[-1]) or _ALONE.match(paragraphs[-1]):
        return {}
    return {LAST_PARAGRAPH: one_line(paragraphs[-1])}
