"""table.md and table.csv of a sweep: a row a job, scores with their 95 % intervals, what it took. Imports no torch."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from r2gen.evaluate.scores import ScoreSpec
from r2gen.evaluate.statistics import Interval
from r2gen.evaluate.tables import shown_scores
from r2gen.pages.csv_text import csv_text
from r2gen.runs.files import write_whole
from r2gen.sweeps.rows import SweepRow, joined

COSTS = ("device_seconds", "total_seconds", "peak_memory_gib", "trainable", "parameters")
HEADINGS = {"device_seconds": "device s", "total_seconds": "total s", "peak_memory_gib": "peak GiB"}


def write_tables(folder: Path, rows: Sequence[SweepRow], *, title: str) -> list[Path]:
    """Write table.md and table.csv into the folder, each whole or not at all, and give their paths."""
    paths = [folder / "table.md", folder / "table.csv"]
    write_whole(paths[0], markdown(rows, title=title))
    write_whole(paths[1], comma_separated(rows))
    return paths


def score_names(rows: Sequence[SweepRow], split: str) -> list[str]:
    """The scores of a table in the order of their columns: those that some row has and a table shows."""
    return shown_scores((score for row in rows for score in row.scores.get(split, {})), specs_of(rows))


def specs_of(rows: Sequence[SweepRow]) -> list[ScoreSpec]:
    """What the metrics of these rows state about their scores, each once."""
    return list({spec.name: spec for row in rows for spec in row.score_specs}.values())


def splits_of(rows: Sequence[SweepRow]) -> list[str]:
    found = dict.fromkeys(split for row in rows for split in row.scores)
    return sorted(found, key=lambda split: ("val", "test").index(split) if split in ("val", "test") else 2)


def markdown(rows: Sequence[SweepRow], *, title: str) -> str:
    """A table a split; then means over seeds; then what the other jobs came to."""
    columns = list(rows[0].choices) if rows else []
    parts = [f"# {_cell(title)}"]
    for split in splits_of(rows):
        scores, scored = score_names(rows, split), [row for row in rows if split in row.scores]
        costs = [cost for cost in COSTS if any(getattr(row.cost, cost) is not None for row in scored)]
        parts.append(
            f"## {_cell(split)}\n\nScores with 95 % intervals over studies.\n\n"
            + _lines(
                [*columns, *scores, *(HEADINGS.get(cost, cost) for cost in costs)],
                [
                    [
                        *(row.choices[column] for column in columns),
                        *(_told(row.scores[split].get(score)) for score in scores),
                        *(_number(getattr(row.cost, cost)) for cost in costs),
                    ]
                    for row in scored
                ],
            )
        )
        of_seeds = [one for one in joined(rows) if split in one.scores]
        if of_seeds:
            parts.append(
                "Means over seeds, with Student's 95 % intervals over seeds.\n\n"
                + _lines(
                    [*of_seeds[0].choices, "seeds", *scores],
                    [
                        [
                            *one.choices.values(),
                            ", ".join(one.seeds),
                            *(_told(one.scores[split].get(score)) for score in scores),
                        ]
                        for one in of_seeds
                    ],
                )
            )
    if len({row.scored_as for row in rows if row.scores}) > 1:
        parts.append("Not all rows were scored alike (see the signatures in their metrics.json): do not compare them.")
    unscored = [row for row in rows if not row.scores]
    if unscored:
        parts.append(
            "## Without scores\n\n"
            + _lines(["job", "state", "why"], [[row.name, row.state, row.reason or ""] for row in unscored])
        )
    return "\n\n".join(parts) + "\n"


def comma_separated(rows: Sequence[SweepRow]) -> str:
    """One line a job and split; a job without scores has one line."""
    columns = list(rows[0].choices) if rows else []
    scores = list(dict.fromkeys(score for split in splits_of(rows) for score in score_names(rows, split)))
    heads = [f"{score}{end}" for score in scores for end in ("", "_low", "_high")]
    lines: list[list[object]] = []
    for row in rows:
        cost = asdict(row.cost)
        known = [
            row.name,
            *row.choices.values(),
            row.state,
            row.reason or "",
            str(row.run_dir or ""),
            *(cost[name] for name in (*COSTS, "device")),
        ]
        for split in row.scores or [""]:
            found = row.scores.get(split, {})
            ends_of = [
                (found[score].value, found[score].low, found[score].high) if score in found else ("", "", "")
                for score in scores
            ]
            lines.append([*known, split, *(end for ends in ends_of for end in ends)])
    return csv_text(["job", *columns, "state", "reason", "run_dir", *COSTS, "device", "split", *heads], lines)


def _lines(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[_cell(head) for head in heads], ["---"] * len(heads), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _cell(text: str) -> str:
    """Text that stays in its cell and is no markup."""
    line = " ".join(str(text).split())
    return line.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _told(one: Interval | None) -> str:
    if one is None:
        return "-"
    return f"{one.value:.3f}" + ("" if one.low is None or one.high is None else f" [{one.low:.3f}, {one.high:.3f}]")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
