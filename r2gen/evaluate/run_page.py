"""report.html of a run, with the images of the studies that it shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from r2gen.data.context_text import shown_context
from r2gen.data.dataset import StudyDataset
from r2gen.data.reports import ReportData
from r2gen.evaluate.labeler import stated_findings
from r2gen.pages.images import IMAGE_SIZES_PX, embedded
from r2gen.pages.run import chosen_studies, shown_studies, write_page

CUT_FIRST = "the end of the prior report first, then of comparison, technique and indication"


@dataclass(frozen=True)
class RunPage:
    """Writes the page from the run's own files; only the images come from the data set.

    `images` (by split and study) and `findings` (by text) are what early_page.py has prepared of them.
    """

    run_dir: Path
    data: ReportData
    datasets: Mapping[str, StudyDataset]
    studies: int  # how many have images; 0: the page shows no study
    is_external: bool = False  # the data set is not the run's: the page keeps its studies
    images: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    findings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _contexts_by_split: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)

    def shown(self) -> tuple[str, dict[str, list[Image.Image]]] | None:
        """The split and the studies of which the page has images, with these; None before the first prediction."""
        if self.is_external:
            return None
        shown = shown_studies(self.run_dir, count=self.studies)
        return None if shown is None else (shown[0], self._images(*shown))

    def write(self) -> None:
        if self.is_external:
            write_page(self.run_dir, findings_of=self._findings)
            return
        write_page(
            self.run_dir,
            images_of=self._embedded,
            count=self.studies,
            findings_of=self._findings,
            contexts_of=self._contexts,
        )

    def embedded(self, split: str) -> dict[str, list[str]]:
        """The images of a split, as a page embeds them. Raises UserError if one cannot be read."""
        ids = chosen_studies([study.id for study in self.datasets[split].studies], count=self.studies)
        return embedded(self._images(split, ids))

    def _embedded(self, split: str, ids: Sequence[str]) -> dict[str, list[str]]:
        prepared = self.images.get(split, {})
        return prepared if list(prepared) == ids else embedded(self._images(split, ids))

    def _findings(self, text: str) -> tuple[str, ...]:
        return self.findings[text] if text in self.findings else stated_findings(text)

    def _images(self, split: str, ids: Sequence[str]) -> dict[str, list[Image.Image]]:
        views = {study.id: study.views for study in self.datasets[split].studies}
        return {id: [self.data.image(view, at_least_px=IMAGE_SIZES_PX[0]) for view in views[id]] for id in ids}

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
