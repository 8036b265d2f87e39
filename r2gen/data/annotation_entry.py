"""One entry of an annotation as a study: its id, report and images. annotation_context.py reads its optional keys."""

from typing import Any

from r2gen.data.annotation_context import with_context
from r2gen.data.annotation_fault import Fault, image_name, refuse_surrogate
from r2gen.data.cleaning import Cleaner, clean_report, is_empty
from r2gen.data.reports import Study


class NoReport(Fault):
    """An entry without a report."""


def read_study(entry: Any, cleaner: Cleaner) -> Study:
    """The study of an entry. Its prior study has no images and no report yet if it is another entry. Raises Fault."""
    if not isinstance(entry, dict):
        raise Fault(f"is not an object but {entry!r:.40}")
    for key in ("id", "report", "image_path"):
        if key not in entry:
            if key == "report":
                raise NoReport('has no "report": every study needs id, report and image_path')
            raise Fault(f'has no "{key}": every study needs id, report and image_path')
    id, report, views = entry["id"], entry["report"], entry["image_path"]
    if not isinstance(id, str) or not id:
        raise Fault(f"has no usable id: {id!r:.40} is not a string: write it in quotes")
    if not isinstance(report, str):
        raise (NoReport if report is None else Fault)(f"report {report!r:.40} is not a string")
    cleaned = clean_report(report, cleaner)
    if is_empty(cleaned):
        when = f" after data.cleaner={cleaner}" if not is_empty(report) else ""
        raise NoReport(f"the report is empty{when}: remove the study from the annotation")
    if not isinstance(views, list) or not views:
        raise Fault(f"image_path {views!r:.40} names no image: it must be a list of at least one image")
    names = tuple(image_name(view) for view in views)
    for text in (id, report):
        refuse_surrogate(text)
    return with_context(Study(id=id, views=names, report=cleaned), entry, cleaner)
