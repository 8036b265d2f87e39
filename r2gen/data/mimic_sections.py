"""The sections of a raw MIMIC-CXR report (FINDINGS, IMPRESSION, INDICATION, ...), also under misspelt headings."""

import difflib
import re
from collections.abc import Iterator
from functools import cache

# Known headings, in capitals and single spaces, and their sections. Any other heading opens a section of its own.
HEADINGS = {
    "FINDINGS": "findings",
    "FINDING": "findings",
    "FINDINGS AND IMPRESSION": "findings_impression",
    "FINDINGS/IMPRESSION": "findings_impression",
    "IMPRESSION AND FINDINGS": "findings_impression",
    "IMPRESSION/FINDINGS": "findings_impression",
    "IMPRESSION": "impression",
    "IMPRESSIONS": "impression",
    "CONCLUSION": "impression",
    "CONCLUSIONS": "impression",
    "INDICATION": "indication",
    "INDICATIONS": "indication",
    "CLINICAL INDICATION": "indication",
    "REASON FOR EXAM": "indication",
    "REASON FOR EXAMINATION": "indication",
    "REASON FOR STUDY": "indication",
    "INDICATION AND HISTORY": "indication",
    "HISTORY AND INDICATION": "indication",
    "HISTORY": "history",
    "CLINICAL HISTORY": "history",
    "PATIENT HISTORY": "history",
    "CLINICAL INFORMATION": "history",
    "COMPARISON": "comparison",
    "COMPARISONS": "comparison",
    "COMPARISON EXAM": "comparison",
    "COMPARISON STUDY": "comparison",
    "COMPARISON FILM": "comparison",
    "REFERENCE EXAM": "comparison",
    "TECHNIQUE": "technique",
    "TECHNICAL FACTORS": "technique",
    "EXAMINATION": "examination",
    "EXAM": "examination",
    "STUDY": "examination",
    "TYPE OF EXAMINATION": "examination",
    "TYPE OF EXAM": "examination",
    "WET READ": "wet_read",
    "ADDENDUM": "addendum",
    "FINAL ADDENDUM": "addendum",
    "NOTIFICATION": "notification",
    "RECOMMENDATION": "recommendation",
    "RECOMMENDATIONS": "recommendation",
    "RECOMMENDATION(S)": "recommendation",
}
LAST_PARAGRAPH = "last_paragraph"
WHOLE = "whole"  # the section of reports that are not divided
UNDER_VIEWS = "views"  # prose under a heading such as PORTABLE AP CHEST: findings, as in MIMIC-CXR's own reader
_VIEW = re.compile(r"\b(CHEST|PORTABLE|FRONTAL|LATERAL|LAT|RIBS|(PA|AP|ONE|TWO|SINGLE) (VIEWS?|FILMS?|RADIOGRAPHS?))\b")
_NO_VIEW = re.compile(r"\b(CT|MRI?|HISTORY|COMPARISONS?|INDICATIONS?|REASON|TECHNIQUE|EXAM(INATION)?|DATE)\b")
_ORGAN = re.compile(
    r"(LUNGS?|PLEURA|HEART|CARDIAC|MEDIASTINUM|HIL[AI]|BON(ES|Y)|OSSEOUS|SOFT TISSUE|AIRWAYS?|DIAPHRAGM|LINES?|TUBES?|"
    r"CATHETER|SUPPORT|DEVICES?|ABDOMEN|VASCULAR|OTHER)\b"
)
_INSIDE = (UNDER_VIEWS, "organ")  # headings that do not end the section that they are in
_RUNS_ON = {"findings": _INSIDE, "findings_impression": _INSIDE, UNDER_VIEWS: _INSIDE, "impression": ("organ",)}
_LIKENESS = 0.85  # accepts misspelt headings such as IMPRESSOIN or FINIDNGS, but not headings that lack a word
_HEADING = re.compile(r"^[ \t]*([A-Z][A-Z0-9 \t()/,&.'-]{2,60}?)[ \t]*:", re.MULTILINE)
# "Impression:", only for known headings
_LOWER = re.compile(r"^[ \t]*([A-Z][A-Za-z/ ]*[a-z][A-Za-z/() ]*):(?=\s|\Z)", re.MULTILINE)
_ALONE = re.compile(r"^[ \t]*([A-Z][A-Z \t/]{5,30}?)[ \t]*$", re.MULTILINE)  # without a colon, only for known headings
_WORD = re.compile(r"[A-Za-z]{2,}")
_FINAL_REPORT = re.compile(r"^[ \t]*FINAL[ \t]+REPORT\b[ \t]*:?", re.MULTILINE | re.IGNORECASE)


def sections(report: str) -> dict[str, str]:
    """Section name to its text, each on one line; empty sections are left out.

    Texts under equal headings are joined in their order. What precedes the last FINAL REPORT line (a wet read) is not
    part of the report. A heading is at the start of a line, in capitals with a colon; a known one may be in small
    letters (Impression:) or alone on its line. An unknown heading ends the section before it, except that a heading of
    an organ or of views (LUNGS, AP VIEW) continues findings. `findings_impression` is one text for both. `views` is
    prose under a heading that only names views. `last_paragraph` is there only if none of these four is.
    """
    text = _final(report.replace("\r\n", "\n").replace("\r", "\n"))
    headings = list(_headings(text))
    texts: dict[str, str] = {}
    ends = [start for start, _, _ in headings[1:]] + [len(text)]
    for (_, begin, name), end in zip(headings, ends, strict=bool(headings)):
        content = one_line(text[begin:end])
        if content and (name != UNDER_VIEWS or len(_WORD.findall(content)) > 3):  # PA AND LATERAL: ___ is a title
            texts[name] = f"{texts[name]} {content}" if name in texts else content
    if not {"findings", "impression", "findings_impression", UNDER_VIEWS} & set(texts):
        texts |= _last_paragraph(text)
    return texts


def one_line(text: str) -> str:
    """The text with every run of white space as one space, without lines of underscores."""
    return " ".join(word for word in text.split() if len(word) < 10 or word.strip("_"))


def _final(report: str) -> str:
    """The text after the last FINAL REPORT line; the whole report if there is no such line, or no text after it."""
    for line in reversed(list(_FINAL_REPORT.finditer(report))):
        if report[line.end() :].strip():
            return report[line.end() :]
    return report


def _headings(text: str) -> Iterator[tuple[int, int, str]]:
    """(start of the heading, start of its text, section), in the order of the text."""
    headings: dict[int, tuple[int, str]] = {}
    for match in _HEADING.finditer(text):
        name = section_of(match[1])
        # "AP CHEST, 5:11 A.M." is not a heading
        if name is not None or text[match.end() : match.end() + 1].strip() == "":
            headings[match.start()] = (match.end(), name or _unknown(match[1]))
    for pattern in (_ALONE, _LOWER):
        for match in pattern.finditer(text):
            name = section_of(match[1]) if pattern is _ALONE else HEADINGS.get(one_line(match[1].upper()))
            if name is not None:
                headings.setdefault(match.start(), (match.end(), name))
    inside = ""
    for start, (end, name) in sorted(headings.items()):
        if name not in _RUNS_ON.get(inside, ()):
            inside = name
            yield start, end, name


def _unknown(heading: str) -> str:
    """The section that an unknown heading opens: `views`, `organ`, or a section of its own."""
    heading = one_line(heading)
    if _ORGAN.match(heading):
        return "organ"
    return UNDER_VIEWS if _VIEW.search(heading) and not _NO_VIEW.search(heading) else f"other:{heading}"


@cache
def section_of(heading: str) -> str | None:
    """The section that a heading opens, also if it is misspelt; None if it is unknown."""
    heading = re.sub(r"\s*/\s*", "/", one_line(heading.upper().replace("&", " AND ")).strip(" .,-"))
    if heading in HEADINGS:
        return HEADINGS[heading]
    near = difflib.get_close_matches(heading, HEADINGS, n=1, cutoff=_LIKENESS)
    return HEADINGS[near[0]] if near else None


def _last_paragraph(text: str) -> dict[str, str]:
    """The last paragraph, if it is prose and not a heading or a section."""
    paragraphs = [part.strip("\n") for part in re.split(r"\n[ \t]*\n", text) if one_line(part)]
    if not paragraphs or _HEADING.match(paragraphs[-1]) or _ALONE.match(paragraphs[-1]):
        return {}
    return {LAST_PARAGRAPH: one_line(paragraphs[-1])}
