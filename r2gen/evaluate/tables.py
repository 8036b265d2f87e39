"""Scores as a plain-text table: systems as rows, scores as columns."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from r2gen.evaluate.recipe import signature_lines, unavailable_lines
from r2gen.evaluate.scores import LAST_COLUMN, ScoreSpec, specs_from
from r2gen.evaluate.wording import wording_line
from r2gen.runs.metrics_file import Metrics, broken_metrics, read_metrics

WIDTH = 118  # of a line; columns that do not fit stand in a further table under the first
NO_SUMS = "such a score is not computed from sums over studies, so studies cannot be resampled"


def terminal_table(rows: Mapping[str, Mapping[str, float]], specs: Sequence[ScoreSpec]) -> str:
    """The table of systems (rows, in the order given) and scores to three decimals; "-" where a row lacks one."""
    columns = shown_scores((score for scores in rows.values() for score in scores), specs)
    cells = [
        [name, *(f"{scores[column]:.3f}" if column in scores else "-" for column in columns)]
        for name, scores in rows.items()
    ]
    return aligned([["", *columns], *cells], pad=str.rjust)


def shown_scores(names: Iterable[str], specs: Sequence[ScoreSpec]) -> list[str]:
    """The scores that a table shows, each once, in the order of their columns; scores without a spec come last."""
    columns = {spec.name: spec.column for spec in specs}
    places = {name: columns.get(name, LAST_COLUMN) for name in names}
    shown = {name: place for name, place in places.items() if place is not None}
    return sorted(shown, key=shown.__getitem__)


def aligned(cells: Sequence[Sequence[str]], *, pad: Callable[[str, int], str] = str.ljust) -> str:
    """Cells, of which the first row and column are heads, as text; `pad` places what stands in the other columns.

    Columns that do not fit on a line stand in a further table under the first.
    """
    head, *columns = ([row[place] for row in cells] for place in range(len(cells[0])))
    head = [cell.ljust(max(map(len, head))) for cell in head]
    blocks, room = [[head]], 0
    for column in columns:
        width = max(map(len, column))
        if len(blocks[-1]) > 1 and 2 + width > room:
            blocks.append([head])
        if len(blocks[-1]) == 1:
            room = WIDTH - len(head[0])
        blocks[-1].append([pad(cell, width) for cell in column])
        room -= 2 + width
    return "\n\n".join("\n".join("  ".join(row).rstrip() for row in zip(*block, strict=True)) for block in blocks)


def interval_lines(entry: Mapping[str, Any], specs: Sequence[ScoreSpec]) -> str:
    """The model's 95 % intervals as lines below the table, what they are, and the scores that have none.

    `entry` is a split in metrics.json. Empty where the split has no intervals, as those of a validation in training.
    """
    if "intervals" not in entry:
        return ""
    of_model = entry["intervals"].get("model", {})
    ends = [
        f"{score} {of_model[score]['low']:.3f} to {of_model[score]['high']:.3f}"
        for score in shown_scores(of_model, specs)
        if of_model[score]["low"] is not None
    ]
    lines = [f"model, 95 %: {', '.join(ends)}", interval_note(of_model, specs)] if ends else []
    lines += no_interval_note((score for score in entry["systems"]["model"] if score not in of_model), specs)
    return "".join("\n" + fill(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False) for line in lines)


def interval_note(of_scores: Mapping[str, Mapping[str, Any]], specs: Sequence[ScoreSpec]) -> str:
    """What the intervals of these scores are, and what in them stays fixed."""
    resamples = f"95 %: {max(ends['draws'] for ends in of_scores.values()):,} resamples of the studies"
    return "; ".join(
        [resamples, *(spec.interval_note for spec in specs if spec.interval_note and spec.name in of_scores)]
    )


def no_interval_note(scores: Iterable[str], specs: Sequence[ScoreSpec]) -> list[str]:
    """A sentence that names these scores and why they have no interval; empty where a table shows none of them."""
    shown = shown_scores(scores, specs)
    return [f"no interval: {', '.join(shown)}; {NO_SUMS}"] if shown else []


def table_of(file: Path) -> str:
    """The scores in a run's metrics file: one table a split, the model first, then the baselines."""
    metrics = read_metrics(file)
    if not metrics:
        return f"no scores yet: {file} is missing"
    try:
        return _table_of(metrics)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise broken_metrics(file, error) from error


def _table_of(metrics: Metrics) -> str:
    specs, tables = specs_from(metrics), []
    recipe, unavailable = metrics.get("recipe", {}), metrics.get("unavailable", {})
    signatures = {  # format 1 had texts
        metric: signature for metric, signature in metrics.get("signatures", {}).items() if isinstance(signature, dict)
    }
    for name, entry in metrics["splits"].items():
        counted = f"{name}: {entry['studies']} {'study' if entry['studies'] == 1 else 'studies'}"
        tables.append(
            f"{counted}, decoding {metrics.get('generation')}\n{terminal_table(entry['systems'], specs)}"
            + nearest_line(entry.get("nearest"))
            + wording_line(entry.get("wording"))
            + likelihood_line(entry.get("likelihood"))
            + interval_lines(entry, specs)
            + unavailable_lines(unavailable, width=WIDTH)
            + signature_lines(recipe, signatures, width=WIDTH)
        )
        if "truncated" in entry:
            cut = entry["truncated"]
            truncation = f"{cut['tokens']} tokens"
            tables.append(
                f"{counted}, against references cut to {truncation}\n{terminal_table(cut['systems'], specs)}"
                + interval_lines(cut, specs)
                + signature_lines(recipe | {"truncation": truncation}, signatures, width=WIDTH)
            )
    tables += [f"{name}: skipped, {reason}" for name, reason in metrics.get("skipped", {}).items()]
    if metrics.get("original_choices"):
        choices = "\n".join(f"  {choice}" for choice in metrics["original_choices"])
        tables.append(f"R2GenGPT's choices that were on:\n{choices}")
    return "\n\n".join(tables)


def nearest_line(found: Mapping[str, int] | None) -> str:
    """How much of training the nearest images were looked for in, as a line below the table, where it was not all."""
    if found is None or found["compared"] == found["train"]:
        return ""
    return f"\nnearest: among {found['compared']:,} of {found['train']:,} training studies (evaluate.nearest_studies)"


def likelihood_line(found: Mapping[str, Any] | None) -> str:
    """How likely the model finds the references, as a line below the table; nothing where it was not measured."""
    if found is None:
        return ""
    values = {name: found[f"perplexity_per_{name}"] for name in ("token", "character", "word")}
    told = ", ".join(
        f"{value:.4g} a {name}" if value is not None else f"beyond any number a {name}"
        for name, value in values.items()
    )
    altered = f"; its tokenizer alters {found['altered']} of them" if found["altered"] else ""
    return f"\nreferences: perplexity {told}; {found['bits_per_character']:.3f} bits a character{altered}"
