"""Scores as a plain-text table: systems as rows, scores as columns."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from r2gen.errors import UserError
from r2gen.evaluate.recipe import signature_lines, unavailable_lines
from r2gen.evaluate.wording import wording_line

# The order of the columns; scores of other names follow in the order in which they come.
COLUMNS = (
    "bleu_1",
    "bleu_2",
    "bleu_3",
    "bleu_4",
    "meteor",
    "rouge_l",
    "cider",
    "findings_f1_micro_14",
    "findings_f1_macro_14",
    "findings_f1_micro_5",
    "findings_f1_macro_5",
    "findings_f1_normal",
    "findings_precision",
    "findings_recall",
    "findings_f1",
)
# In metrics.json and the page's table of findings, not here: a row would not fit on a line.
LEFT_OUT = re.compile("[a-z]+_(precision|recall)_(micro|macro)_")

WIDTH = 118  # of a line; columns that do not fit stand in a further table under the first


def terminal_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The table of systems (rows, in the order given) and scores to three decimals; "-" where a row lacks one."""
    columns = shown_scores(score for scores in rows.values() for score in scores)
    cells = [
        [name, *(f"{scores[column]:.3f}" if column in scores else "-" for column in columns)]
        for name, scores in rows.items()
    ]
    return aligned([["", *columns], *cells], pad=str.rjust)


def shown_scores(names: Iterable[str]) -> list[str]:
    """The scores that a table shows, in its order, each once."""
    given = dict.fromkeys(name for name in names if not LEFT_OUT.match(name))
    return [name for name in COLUMNS if name in given] + [name for name in given if name not in COLUMNS]


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


def interval_lines(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """The model's 95 % intervals as lines below the table, and what they are; nothing where there are none.

    `found` is a split's `intervals` in metrics.json: by system and score, the fields of an Interval.
    """
    of_model = found.get("model", {})
    told = [
        f"{score} {of_model[score]['low']:.3f} to {of_model[score]['high']:.3f}"
        for score in shown_scores(of_model)
        if of_model[score]["low"] is not None
    ]
    if not told:
        return ""
    lines = f"model, 95 %: {', '.join(told)}", interval_note(of_model)
    return "".join("\n" + fill(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False) for line in lines)


def interval_note(of_scores: Mapping[str, Mapping[str, Any]]) -> str:
    """What the intervals of these scores are, and what in them stays fixed."""
    parts = [f"95 %: {max(ends['draws'] for ends in of_scores.values()):,} resamples of the studies"]
    if "cider" in of_scores:
        parts.append("CIDEr's document frequencies stay those of all references")
    return "; ".join(parts)


def table_of(file: Path) -> str:
    """The scores in a run's metrics file: one table a split, the model's row first, then the null rows."""
    if not file.is_file():
        return f"no scores yet: {file} is missing"
    try:
        metrics = json.loads(file.read_text(encoding="utf-8"))
        splits = {name: (int(split["studies"]), dict(split["systems"])) for name, split in metrics["splits"].items()}
        below = {
            name: nearest_line(split.get("nearest"))
            + wording_line(split.get("wording"))
            + likelihood_line(split.get("likelihood"))
            for name, split in metrics["splits"].items()
        }
        cut = {
            name: (int(split["truncated"]["tokens"]), dict(split["truncated"]["systems"]))
            for name, split in metrics["splits"].items()
            if "truncated" in split
        }
        recipe, unavailable = dict(metrics.get("recipe", {})), dict(metrics.get("unavailable", {}))
        signatures = {
            metric: signature
            for metric, signature in metrics.get("signatures", {}).items()
            if isinstance(signature, dict)
        }  # texts before format 2
        original = [str(choice) for choice in metrics.get("original_choices", [])]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} holds no scores of a run ({error!r}): remove it and run task=evaluate") from error
    tables = []
    for name, (studies, systems) in splits.items():
        counted = f"{name}: {studies} {'study' if studies == 1 else 'studies'}"
        tables.append(f"{counted}, decoding {metrics.get('generation')}\n{terminal_table(systems)}{below[name]}")
        tables[-1] += interval_lines(metrics["splits"][name].get("intervals", {}))
        tables[-1] += unavailable_lines(unavailable, width=WIDTH) + signature_lines(recipe, signatures, width=WIDTH)
        if name in cut:
            tokens, systems = cut[name]
            tables.append(
                f"{counted}, against references cut to {tokens} tokens\n{terminal_table(systems)}"
                + interval_lines(metrics["splits"][name]["truncated"].get("intervals", {}))
            )
            tables[-1] += signature_lines(recipe | {"truncation": f"{tokens} tokens"}, signatures, width=WIDTH)
    skipped = [f"{name}: skipped, {reason}" for name, reason in metrics.get("skipped", {}).items()]
    chosen = (
        ["R2GenGPT's choices that were on:\n" + "\n".join(f"  {choice}" for choice in original)] if original else []
    )
    return "\n\n".join(tables + skipped + chosen)


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
