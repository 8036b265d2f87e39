"""The recipe of scores: which texts they compare, by section, cleaning, truncation and data.

Two scores can be compared if they have the same recipe and the same metric signature (scoring.py).
"""

from collections.abc import Mapping

from r2gen.data.reports import ReportData
from r2gen.evaluate.scores import Signature
from r2gen.runs.progress import wrapped

METRICS_FORMAT = 2  # of metrics.json; in format 1 a signature was one text, which cannot be compared part by part
WHOLE = "none"  # truncation of references


def recipe_of(data: ReportData, digest: str) -> Signature:
    """The recipe of a data set with this digest."""
    return {
        "section": data.section,
        "cleaner": data.cleaner,
        "case": _case(data.cleaner.split("+")),  # those of a mix are joined
        "truncation": WHOLE,
        "data": digest,
    }


def _case(cleaners: list[str]) -> str:
    if "none" not in cleaners:
        return "lower"
    return "kept" if len(cleaners) == 1 else "mixed"


def signature_lines(recipe: Signature, signatures: Mapping[str, Signature], *, width: int) -> str:
    """Lines below a table: the recipe, then each signature after the metrics that have it."""
    lines = [f"recipe: {_listed(recipe)}"] if recipe else []
    metrics_of: dict[str, list[str]] = {}
    for metric, signature in signatures.items():
        metrics_of.setdefault(_listed(signature), []).append(metric)
    lines += [f"{', '.join(metrics)}: {signature}" for signature, metrics in metrics_of.items()]
    return below_table(lines, width=width)


def unavailable_lines(unavailable: Mapping[str, str], *, width: int) -> str:
    """Lines below a table: each metric without a value, and the reason."""
    return below_table([f"{metric}: unavailable: {reason}" for metric, reason in unavailable.items()], width=width)


def below_table(lines: list[str], *, width: int) -> str:
    """Lines as the text that follows a table, each wrapped to the width."""
    return "".join("\n" + wrapped(line, width=width) for line in lines)


def _listed(signature: Signature) -> str:
    return ", ".join(f"{key} {value}" for key, value in signature.items())
