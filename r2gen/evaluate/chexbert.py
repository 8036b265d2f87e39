"""CheXbert F1: the 14 observations as the published BERT labels them in both texts (Smit et al., EMNLP 2020)."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from r2gen.errors import UserError
from r2gen.evaluate.clinical_findings import Counts, counted, finding_scores, finding_specs, finding_sums
from r2gen.evaluate.labeler import OBSERVATIONS
from r2gen.evaluate.scores import Scores, UnavailableError
from r2gen.evaluate.scoring import check_texts, signature
from r2gen.evaluate.study_sums import StudySums

if TYPE_CHECKING:
    from r2gen.evaluate.chexbert_model import Labeler

HOW = (
    "metrics.chexbert.path is null. Download chexbert.pth (on the Hugging Face hub in StanfordAIMI/RRG_scorers) and "
    "the config.json and vocab.txt of bert-base-uncased, and pass metrics.chexbert.path=FILE "
    "metrics.chexbert.bert=FOLDER."
)


class CheXbert:
    """Precision, recall and F1 of CheXbert's positive labels, micro and macro, over 14 and 5 observations.

    `path` is chexbert.pth, read strictly and as tensors only; with null the metric is unavailable. `bert` is a folder
    with the config.json and vocab.txt of bert-base-uncased. `uncertain` and macro means work as in metrics=findings: by
    default an uncertain label is positive, as in the published F1, and macro means leave out a finding that is in no
    reference, which other programs count as 0. Texts are cut to BERT's 512 tokens. Raises UserError if the files cannot
    be used.
    """

    name = "chexbert"
    scores = finding_specs(name, "CheXbert", columns={})
    weights = ("path", "bert")
    findings: tuple[str, ...] = OBSERVATIONS

    def __init__(
        self,
        *,
        path: str | None = None,
        bert: str | None = None,
        batch_size: int = 32,
        uncertain: Literal["positive", "negative", "ignore"] = "positive",
    ) -> None:
        if batch_size < 1:
            raise UserError(f"metrics.chexbert.batch_size={batch_size}: must be more than 0")
        if path is not None and bert is None:
            raise UserError(
                "metrics.chexbert.path needs metrics.chexbert.bert=FOLDER with the config.json and vocab.txt of "
                "bert-base-uncased."
            )
        self.uncertain = uncertain
        self._labeler = None if path is None or bert is None else _read(Path(path), Path(bert), batch_size=batch_size)

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        check_texts(self.name, references, reports)
        labeler = self._available()
        signed = signature(
            implementation="r2gen-chexbert",
            version=f"1, transformers-{version('transformers')}",
            tokenizer=f"wordpiece-{labeler.vocabulary_hash}",
            case="lower",
        )
        signed |= {"model": labeler.model_hash, "truncation": f"{labeler.most_tokens} tokens"}
        return finding_scores(self, references, reports, signature=signed | {"uncertain": self.uncertain})

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> StudySums | None:
        """None without weights: a comparison can use scores that a run has recorded on another machine."""
        return None if self._labeler is None else finding_sums(self, references, reports, scores)

    def count(self, references: Mapping[str, str], reports: Mapping[str, str]) -> dict[str, dict[str, Counts]]:
        """By study id and finding: its counts, each 0 or 1."""
        label = self._available().labels([*references.values(), *reports.values()])
        return {
            id: {
                finding: counted(label[references[id]][finding], label[reports[id]][finding], uncertain=self.uncertain)
                for finding in self.findings
            }
            for id in references
        }

    def _available(self) -> "Labeler":
        if self._labeler is None:
            raise UnavailableError(HOW)
        return self._labeler


def _read(path: Path, bert: Path, *, batch_size: int) -> "Labeler":
    from r2gen.evaluate.chexbert_model import Labeler  # not at the top, since it imports torch

    return Labeler(path, bert, batch_size=batch_size)
