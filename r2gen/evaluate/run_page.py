"""report.html of a run, with the images of the studies that it shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from r2gen.data.context_text import shown_context
from r2gen.data.dataset import StudyDataset
from r2gen.data.reports import ReportData
from r2gen.evaluate.labeler import stated_findings
from r2gen.pages.images import IMAGE_SIZES_PX
from r2gen.pages.run import PAGE, shown_in, shown_studies, write_page

CUT_FIRST = "the end of the prior report first, then of comparison, technique and indication"


@dataclass(frozen=True)
class RunPage:
    """Writes the page from the run's own files; only the images come from the data set."""

    run_dir: Path
    data: ReportData
    datasets: Mapping[str, StudyDataset]
    studies: int  # how many have images; 0: the page shows no study
    is_external: bool = False  # the data set is not the run's: the page keeps its studies
    _contexts_by_split: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)

    def shown(self) -> tuple[str, dict[str, list[Image.Image]]] | None:
        """The split and the studies of which the page has images, with these; None before the first prediction."""
        if self.is_external:
            return None
        shown = shown_studies(self.run_dir, count=self.studies)
        if shown is None:
            return None
        split, ids = shown
        views = {study.id: study.views for study in self.datasets[split].studies}
        return split, {id: [self.data.image(view, at_least_px=IMAGE_SIZES_PX[0]) for view in views[id]] for id in ids}

    def write(self) -> None:
        images = None
        if not self.is_external and not self._has_images():
            shown = self.shown()
            images = {} if shown is None else shown[1]
        contexts_of = None if self.is_external else self._contexts
        write_page(self.run_dir, images=images, findings_of=stated_findings, contexts_of=contexts_of)

    def _contexts(self, split: str) -> dict[str, dict[str, str]]:
        """What the prompts of the studies have besides images, by study and title, and whether its texts are cut."""
        dataset, contexts = self.datasets[split], self._contexts_by_split
        if (context := dataset.context) is not None and split not in contexts:  # .5 ms a long text
            cut = {f"Cut to {context.options.max_tokens} tokens": CUT_FIRST}
            contexts[split] = {
                study.id: shown_context(study, context.options) | (cut if context.is_cut(study) else {})
                for study in dataset.studies
            }
        return contexts.get(split, {})

    def _has_images(self) -> bool:
        """Whether the page of an earlier validation has the images that it would get, since reading takes seconds."""
        shown = shown_studies(self.run_dir, count=self.studies)
        before = shown_in(self.run_dir / PAGE, of_today=True)
        if shown is None or before is None or not shown[1]:
            return False
        return (shown[0], set(shown[1])) == (before[0], set(before[1]))
