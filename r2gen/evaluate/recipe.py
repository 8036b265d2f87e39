"""What texts the scores of a run are of: section, cleaning, truncation and data. Imports no torch.

With the metrics' own signatures this is all that two scores must share to be compared.
"""

from collections.abc import Mapping
from textwrap import fill

from r2gen.data.reports import ReportData
from r2gen.evaluate.scores import Signature

METRICS_FORMAT = 2  # of metrics.json; in 1 signatures were texts, which cannot be compared part by part
WHOLE = "none"  # truncation: a reference is never cut


def recipe_of(data: ReportData, digest: str) -> Signature:
    """The recipe of a data set whose digest is given."""
    return {
        "section": data.section,
        "cleaner": data.cleaner,
        "case": "kept" if data.cleaner == "none" else "lower",
        "truncation": WHOLE,
        "data": digest,
    }


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
