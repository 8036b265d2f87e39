"""Writes compare.html, the page of a comparison: scores, plots, and the studies on which the systems differ."""

from collections.abc import Sequence
from pathlib import Path

from r2gen.compare.comparison import Comparison, as_plain
from r2gen.config.plain import Plain
from r2gen.pages.document import write_document
from r2gen.pages.images import embedded
from r2gen.pages.links import href, links_of

SCRIPTS = ("compare/systems", "compare/scores", "compare/differences", "compare/parts", "compare/page")


def write_compare_page(comparison: Comparison, path: Path) -> Path:
    """Write the page atomically, readable by its owner alone since it contains patient text, and return its path."""
    content = as_plain(comparison)
    images = embedded({study.id: study.images for study in comparison.differing})
    for study in content["differing"]:
        study["images"] = images[study["id"]]
    runs = [Path(system.source) for system in comparison.systems if system.kind == "run"]
    content["links"] = [*_pages_of(runs, path.parent), *links_of(path.parent, runs)]
    return write_document(path, title=comparison.title, scripts=SCRIPTS, content=content)


def _pages_of(runs: Sequence[Path], folder: Path) -> list[Plain]:
    """Links to the pages of the runs that are compared."""
    pages = {run.name: run / "report.html" for run in runs}
    return [{"label": name, "href": href(page, folder=folder)} for name, page in pages.items() if page.is_file()]
