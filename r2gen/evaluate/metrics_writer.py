"""metrics.json as an evaluation writes it: splits that were scored earlier in the same way stay in the file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from r2gen.config.plain import Plain
from r2gen.errors import UserError
from r2gen.evaluate.predictions import Header
from r2gen.evaluate.recipe import METRICS_FORMAT
from r2gen.evaluate.scores import Scores, ScoreSpec, Signature
from r2gen.runs.files import write_whole
from r2gen.runs.metrics_file import Metrics, read_metrics


@dataclass(frozen=True)
class MetricsWriter:
    """Writes the scores of one run with one decoding profile."""

    file: Path
    profile: str
    recipe: Signature  # which texts are scored
    specs: Sequence[ScoreSpec]
    original_choices: Sequence[str]  # R2GenGPT's choices that were on

    def stored_likelihood(self, split: str, *, made_by: Header, studies: int) -> Plain | None:
        """The likelihood of a split's references in the file, if the same model computed it for so many studies."""
        before = self._before()
        if before.get("made_by") != made_by:
            return None
        stored: Plain | None = before["splits"].get(split, {}).get("likelihood")
        return stored if stored is not None and stored.get("studies") == studies else None

    def write(
        self,
        entries: Mapping[str, Plain],
        *,
        made_by: Header,
        scores: Scores,
        constant: str | None = None,
        skipped: Mapping[str, str] | None = None,
    ) -> None:
        """Write the entries of some splits.

        `scores` has the signatures, and the reasons why metrics are unavailable. Splits in the file stay if they have
        the same origin, recipe and signatures, or if there are no entries.
        """
        before = self._before()
        alike = {"made_by": made_by, "recipe": self.recipe, "signatures": scores.signatures}
        same = not entries or all(before.get(key) == value for key, value in alike.items())
        earlier: Metrics = {"splits": {}, "per_report": {}, "signatures": {}} | (before if same else {})
        metrics = {
            "format": METRICS_FORMAT,
            "generation": self.profile,
            "checkpoint": made_by["checkpoint"],
            "made_by": made_by,
            "splits": earlier["splits"]
            | {
                split: {key: value for key, value in entry.items() if key != "per_report"}
                for split, entry in entries.items()
            },
            "recipe": self.recipe,
            "signatures": earlier["signatures"] | scores.signatures,
            "score_specs": [asdict(spec) for spec in self.specs],
            "unavailable": scores.unavailable,
            "constant_report": constant,
            "skipped": dict(skipped or {}),
            "original_choices": list(self.original_choices),
            "per_report": earlier["per_report"] | {split: entry["per_report"] for split, entry in entries.items()},
        }
        write_whole(self.file, json.dumps(metrics, indent=1) + "\n")

    def _before(self) -> Metrics:
        """The content of the file; empty if it is missing or broken, since it is about to be replaced."""
        try:
            return read_metrics(self.file)
        except UserError:
            return {}
