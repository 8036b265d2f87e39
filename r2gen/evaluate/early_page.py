"""What the page of a run shows besides scores, prepared by other processes while the model writes."""

from collections.abc import Sequence
from functools import partial

from r2gen.evaluate.labeler import stated_findings
from r2gen.evaluate.predictions import Prediction
from r2gen.evaluate.run_page import RunPage
from r2gen.pages.run import SHOWN_SPLITS
from r2gen.ranks.forked import Fork, Forked
from r2gen.runs.progress import wait_for

Findings = list[tuple[str, ...]]


class EarlyPage:
    """The images of the studies that the page will show, and the findings of all references and reports of their split.

    `fork` starts the processes, which must run until `finish`.
    """

    def __init__(self, page: RunPage, splits: Sequence[str], *, fork: Fork) -> None:
        self.page, self.fork = page, fork
        self.split = next((split for split in SHOWN_SPLITS if split in splits and not page.is_external), None)
        self._labelled: list[tuple[list[str], Forked[Findings]]] = []  # texts and their findings
        if self.split is not None:
            self._images = fork(partial(page.embedded, self.split))
            self._label([study.report for study in page.datasets[self.split].studies])

    def written(self, split: str, predictions: Sequence[Prediction]) -> None:
        """Prepare the findings of the reports of a split."""
        if split == self.split:
            self._label([prediction.report for prediction in predictions])

    def finish(self) -> None:
        """Wait for all of it, and pass it to the page. Raises UserError if an image cannot be read."""
        if self.split is not None:
            wait_for("writing the page", self._images.wait)
            self.page.images[self.split] = self._images.result()
        for texts, findings in self._labelled:
            wait_for("writing the page", findings.wait)
            self.page.findings.update(zip(texts, findings.result(), strict=True))

    def _label(self, texts: list[str]) -> None:
        self._labelled.append((texts, self.fork(lambda: [stated_findings(text) for text in texts])))
