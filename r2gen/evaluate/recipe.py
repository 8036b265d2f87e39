"""What texts the scores of a run are of: section, cleaning, truncation and data. Imports no torch.

With the metrics' own signatures this is all that two scores must share to be compared.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill

from r2gen.config.targets import Target
from r2gen.data.reports import ANNOTATED
from r2gen.evaluate.scores import Signature

METRICS_FORMAT = 2  # of metrics.json; in 1 signatures were texts, which cannot be compared part by part
WHOLE = "none"  # truncation: a reference is never cut
NOT_STATED = "not stated"


def recipe_of(data: Target, data_hash: str) -> Signature:
    """The recipe of a run's data: the node `data` of its configuration, and the hash of what it names."""
    cleaner = str(data.arguments.get("cleaner", "none"))
    return {
        "section": section_of(data),
        "cleaner": cleaner,
        "case": "kept" if cleaner == "none" else "lower",
        "truncation": WHOLE,
        "data": data_hash,
    }


def section_of(data: Target) -> str:
    """The section of a report that is its reference: as data.section says, or as task=prepare wrote.

    A data set in another format than R2Gen's gives whole reports.
    """
    if data.get("section") is not None:
        return str(data.get("section"))
    if data.name != ANNOTATED:
        return "whole"
    annotation = Path(data.arguments["root"]) / data.arguments["annotation"]
    try:
        facts = json.loads(annotation.with_name(f"{annotation.stem}.provenance.json").read_text(encoding="utf-8"))
        ours = facts["annotation_sha256"] == hashlib.sha256(annotation.read_bytes()).hexdigest()
        return str(facts["policy"]["sections"]) if ours else NOT_STATED
    except (OSError, ValueError, KeyError, TypeError):
        return NOT_STATED


def signature_lines(recipe: Signature, signatures: Mapping[str, Signature], *, width: int) -> str:
    """Lines below a table: the recipe, then each way of scoring after the metrics that are computed so."""
    lines = [f"recipe: {_told(recipe)}"] if recipe else []
    alike: dict[str, list[str]] = {}
    for metric, signature in signatures.items():
        alike.setdefault(_told(signature), []).append(metric)
    lines += [f"{', '.join(metrics)}: {told}" for told, metrics in alike.items()]
    return "".join("\n" + fill(line, width, subsequent_indent="  ", break_on_hyphens=False) for line in lines)


def unavailable_lines(unavailable: Mapping[str, str], *, width: int) -> str:
    """A line below a table for each metric that has no value here."""
    lines = [f"{metric}: unavailable: {why}" for metric, why in unavailable.items()]
    return "".join("\n" + fill(line, width, subsequent_indent="  ", break_on_hyphens=False) for line in lines)


def _told(signature: Signature) -> str:
    return ", ".join(f"{key} {value}" for key, value in signature.items())
