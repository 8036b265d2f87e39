"""Scores as plain-text tables, with a line for each system and a column for each score."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from r2gen.config.drop import OTHER
from r2gen.evaluate.recipe import below_table, signature_lines, unavailable_lines
from r2gen.evaluate.scores import LAST_COLUMN, ScoreSpec, specs_from
from r2gen.evaluate.wording import wording_line
from r2gen.runs.metrics_file import Metrics, broken_metrics, read_metrics
from r2gen.runs.progress import WIDTH
from r2gen.runs.verdict import verdict

NO_SUMS = "such a score is not computed from sums over studies, so studies cannot be resampled"


def terminal_table(
    systems: Mapping[str, Mapping[str, float]], specs: Sequence[ScoreSpec], *, width: int = WIDTH
) -> str:
    """The table of scores to three decimals; "-" if a system lacks a score. Systems keep their order."""
    columns = shown_scores((score for scores in systems.values() for score in scores), specs)
    cells = [
        [system, *(f"{scores[column]:.3f}" if column in scores else "-" for column in columns)]
        for system, scores in systems.items()
    ]
    return aligned([["", *columns], *cells], pad=str.rjust, width=width)


def shown_scores(names: Iterable[str], specs: Sequence[ScoreSpec]) -> list[str]:
    """The scores that a table shows, each once, in the order of their columns; scores without a spec are last."""
    columns = {spec.name: spec.column for spec in specs}
    column_of = {name: columns.get(name, LAST_COLUMN) for name in names}
    shown = {name: column for name, column in column_of.items() if column is not None}
    return sorted(shown, key=shown.__getitem__)


def aligned(cells: Sequence[Sequence[str]], *, pad: Callable[[str, int], str] = str.ljust, width: int = WIDTH) -> str:
    """A table as text. `cells` are its lines, the first line and column are headings; `pad` aligns the other columns.

    Columns that do not fit within `width` go into another table below.
    """
    headings, *columns = ([line[column] for line in cells] for column in range(len(cells[0])))
    headings = [cell.ljust(max(map(len, headings))) for cell in headings]
    blocks, room = [[headings]], 0
    for column in columns:
        longest = max(map(len, column))
        if len(blocks[-1]) > 1 and 2 + longest > room:
            blocks.append([headings])
        if len(blocks[-1]) == 1:
            room = width - len(headings[0])
        blocks[-1].append([pad(cell, longest) for cell in column])
        room -= 2 + longest
    return "\n\n".join("\n".join("  ".join(line).rstrip() for line in zip(*block, strict=True)) for block in blocks)


def interval_lines(entry: Mapping[str, Any], specs: Sequence[ScoreSpec], *, width: int = WIDTH) -> str:
    """Lines below a table: the model's 95 % intervals, how they were computed, and the scores without one.

    `entry` is a split in metrics.json. A validation in training has no intervals, and no such lines.
    """
    if "intervals" not in entry:
        return ""
    intervals = entry["intervals"].get("model", {})
    ends = [
        f"{score} {intervals[score]['low']:.3f} to {intervals[score]['high']:.3f}"
        for score in shown_scores(intervals, specs)
        if intervals[score]["low"] is not None
    ]
    lines = [f"model, 95 %: {', '.join(ends)}", interval_note(intervals, specs)] if ends else []
    lines += no_interval_note((score for score in entry["systems"]["model"] if score not in intervals), specs)
    return below_table(lines, width=width)


def interval_note(intervals: Mapping[str, Mapping[str, Any]], specs: Sequence[ScoreSpec]) -> str:
    """How the intervals of these scores were computed."""
    resamples = f"95 %: {max(interval['draws'] for interval in intervals.values()):,} resamples of the studies"
    notes = [spec.interval_note for spec in specs if spec.interval_note and spec.name in intervals]
    return "; ".join([resamples, *notes])


def no_interval_note(scores: Iterable[str], specs: Sequence[ScoreSpec]) -> list[str]:
    """One sentence: which of these scores have no interval, and why. Empty if a table shows none of them."""
    shown = shown_scores(scores, specs)
    return [f"no interval: {', '.join(shown)}; {NO_SUMS}"] if shown else []


def table_of(file: Path, *, width: int = WIDTH) -> str:
    """The scores in a run's metrics file: a table for each split, the model first, then the baselines."""
    metrics = read_metrics(file)
    if not metrics:
        return f"no scores yet: {file} does not exist"
    try:
        return _table_of(metrics, width)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise broken_metrics(file, error) from error


def _table_of(metrics: Metrics, width: int) -> str:
    specs, parts = specs_from(metrics), []
    recipe, unavailable = metrics.get("recipe", {}), metrics.get("unavailable", {})
    signatures = {  # in format 1 a signature was one text
        metric: signature for metric, signature in metrics.get("signatures", {}).items() if isinstance(signature, dict)
    }
    for split, entry in metrics["splits"].items():
        title = f"{split}: {entry['studies']} {'study' if entry['studies'] == 1 else 'studies'}"
        parts.append(
            f"{title}, decoding {metrics.get('generation')}\n{terminal_table(entry['systems'], specs, width=width)}"
            + below_table(verdict(entry, metrics["score_specs"]), width=width)
            + below_table(drop_lines(entry, specs), width=width)
            + below_table(notes_of(entry), width=width)
            + interval_lines(entry, specs, width=width)
            + unavailable_lines(unavailable, width=width)
            + signature_lines(recipe, signatures, width=width)
        )
        for name, of_set in entry.get("sets", {}).items():
            parts.append(
                f"{split}, {name}: {of_set['studies']} {'study' if of_set['studies'] == 1 else 'studies'}\n"
                + terminal_table(of_set["systems"], specs, width=width)
                + below_table(verdict(of_set, metrics["score_specs"]), width=width)
                + interval_lines(of_set, specs, width=width)
            )
        if "truncated" in entry:
            cut = entry["truncated"]
            truncation = f"{cut['tokens']} tokens"
            parts.append(
                f"{title}, against references cut to {truncation}\n"
                + terminal_table(cut["systems"], specs, width=width)
                + interval_lines(cut, specs, width=width)
                + signature_lines(recipe | {"truncation": truncation}, signatures, width=width)
            )
    parts += [f"{split}: skipped, {reason}" for split, reason in metrics.get("skipped", {}).items()]
    if metrics.get("original_choices"):
        choices = "\n".join(f"  {choice}" for choice in metrics["original_choices"])
        parts.append(f"R2GenGPT's choices that were on:\n{choices}")
    return "\n\n".join(parts)


def drop_lines(entry: Mapping[str, Any], specs: Sequence[ScoreSpec]) -> list[str]:
    """Lines below a table: what each input of evaluate.drop gives, in the scores that change beyond noise."""
    lines = []
    for system, drop in entry.get("drops", {}).items():
        if not drop["changed"]:
            why = "no two studies differ in this input" if system.startswith(OTHER) else "no study has this input"
            lines.append(f"{system}: not scored, {why}")
            continue
        margins = entry["drop_margins"][system]
        gains = [
            f"{score} {margins[score]['value']:+.3f}{_ends(margins[score])}"
            for score in shown_scores(margins, specs)
            if not margins[score]["within_noise"]
        ]
        studies = f"{drop['changed']:,} of {entry['studies']:,} studies changed"
        lines.append(f"model minus {system} ({studies}): {', '.join(gains) or 'no score differs beyond noise'}")
    return lines


def _ends(interval: Mapping[str, Any]) -> str:
    return "" if interval["low"] is None else f" ({interval['low']:.3f} to {interval['high']:.3f})"


def notes_of(entry: Mapping[str, Any]) -> list[str]:
    """The notes below the table of a split: its baseline "nearest", the wording of reports, their likelihood."""
    notes = (
        nearest_line(entry.get("nearest")),
        wording_line(entry.get("wording")),
        likelihood_line(entry.get("likelihood"), of=entry["studies"]),
    )
    return [line.strip() for line in notes if line]


def nearest_line(entry: Mapping[str, int] | None) -> str:
    """A line below a table: the share of the training studies that was searched for the nearest images.

    Empty if all were searched, or none.
    """
    if entry is None or entry["compared"] == entry["train"]:
        return ""
    return f"\nnearest: among {entry['compared']:,} of {entry['train']:,} training studies (evaluate.nearest_studies)"


def likelihood_line(entry: Mapping[str, Any] | None, *, of: int) -> str:
    """A line below a table: how likely the model finds the references of a split of `of` studies.

    Empty without an entry.
    """
    if entry is None:
        return ""
    values = {unit: entry[f"perplexity_per_{unit}"] for unit in ("token", "character", "word")}
    perplexities = ", ".join(
        f"{value:.4g} per {unit}" if value is not None else f"above 1e304 per {unit}" for unit, value in values.items()
    )
    altered = f"; the tokenizer alters {entry['altered']} of them" if entry["altered"] else ""
    studies = entry.get("studies", of)  # earlier files lack it, and have all
    part = f" of {studies:,} of {of:,} studies (evaluate.likelihood_studies)" if studies < of else ""
    return (
        f"\nreferences{part}: perplexity {perplexities}; {entry['bits_per_character']:.3f} bits per character{altered}"
    )
