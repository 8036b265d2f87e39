"""Writes compare.html, the page of a comparison: scores, plots, and the studies on which the systems differ."""

from pathlib import Path

from r2gen.compare.comparison import Comparison, as_plain
from r2gen.pages.document import write_document
from r2gen.pages.images import embedded

SCRIPTS = ("compare/systems", "compare/scores", "compare/differences", "compare/parts", "compare/page")


def write_compare_page(comparison: Comparison, path: Path) -> Path:
    """Write the page atomically, readable by its owner alone since it contains patient text, and return its path."""
    content = as_plain(comparison)
    images = embedded({study.id: study.images for study in comparison.differing})
    for study in content["differing"]:
        study["images"] = images[study["id"]]
    return write_document(path, title=comparison.title, scripts=SCRIPTS, content=content)
