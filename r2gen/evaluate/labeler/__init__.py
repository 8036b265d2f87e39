"""Labels chest X-ray reports with the 14 CheXpert observations, by rules: no weights, no network, no torch."""

from r2gen.evaluate.labeler.labeler import (
    FIVE,
    NO_FINDING,
    OBSERVATIONS,
    VERSION,
    ReportLabels,
    Status,
    label_report,
    stated_findings,
)
from r2gen.evaluate.labeler.phrases import digest

__all__ = [
    "FIVE",
    "NO_FINDING",
    "OBSERVATIONS",
    "VERSION",
    "ReportLabels",
    "Status",
    "digest",
    "label_report",
    "stated_findings",
]
