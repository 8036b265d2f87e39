"""The end of a run or an evaluation on the terminal: verdict, scores, a report next to its reference, what to do next.

It fits the width of the terminal. The page and verbose=true have the rest: intervals, signatures, the validation.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from textwrap import wrap

from r2gen.errors import UserError, printable
from r2gen.evaluate.predictions import predictions_file
from r2gen.evaluate.recipe import below_table, unavailable_lines
from r2gen.evaluate.scores import ScoreSpec, specs_from
from r2gen.evaluate.tables import aligned, drop_lines, shown_scores, table_of
from r2gen.runs.metrics_file import Metrics, broken_metrics, read_metrics
from r2gen.runs.prediction_lines import read_prediction_lines
from r2gen.runs.progress import terminal_width
from r2gen.runs.verdict import verdict

_CHOSEN_BY = ("rouge_l", "bleu_4")  # the score whose median chooses the report that is shown


def ending(run_dir: Path, file: Path, *, verbose: bool) -> str:
    """The text for the scores in `file`, the metrics file of a run; with `verbose` all tables.

    Raises UserError if the file is damaged.
    """
    width = terminal_width()
    metrics = read_metrics(file)
    scores = table_of(file, width=width) if verbose or not metrics else _summary(file, metrics, width)
    return f"{printable(scores)}\n\n{_next(run_dir, verbose=verbose)}"


def _summary(file: Path, metrics: Metrics, width: int) -> str:
    try:
        split = next((name for name in ("test", *metrics["splits"]) if name in metrics["splits"]), None)
        if split is None:
            return "no split was scored" + below_table(_skipped(metrics), width=width)
        entry, specs = metrics["splits"][split], specs_from(metrics)
        words = below_table(verdict(entry, metrics["score_specs"]), width=width).strip()
        studies = f"{entry['studies']:,} {'study' if entry['studies'] == 1 else 'studies'}"
        table = f"{split}: {studies}, decoding {metrics.get('generation')}\n{_by_score(entry['systems'], specs, width)}"
        table += below_table(drop_lines(entry, specs), width=width)
        table += unavailable_lines(metrics.get("unavailable", {}), width=width)
        table += below_table(_skipped(metrics), width=width)
        if "sets" in entry:
            of_model = {
                f"{name} ({of_set['studies']:,})": of_set["systems"]["model"] for name, of_set in entry["sets"].items()
            }
            table += f"\n\nthe model by data set (studies)\n{_by_score(of_model, specs, width)}"
        if "truncated" in entry:
            cut = entry["truncated"]
            table += f"\n\nagainst references cut to {cut['tokens']} tokens\n{_by_score(cut['systems'], specs, width)}"
        parts = [words, table, _example(file, metrics, split, width)]
        return "\n\n".join(part for part in parts if part)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise broken_metrics(file, error) from error


def _by_score(systems: Mapping[str, Mapping[str, float]], specs: Sequence[ScoreSpec], width: int) -> str:
    """A line for each score and a column for each system, which is narrower than the other way round."""
    rows = [
        [score, *(f"{scores[score]:.3f}" if score in scores else "-" for scores in systems.values())]
        for score in shown_scores((score for scores in systems.values() for score in scores), specs)
    ]
    return aligned([["", *systems], *rows], pad=str.rjust, width=width)


def _skipped(metrics: Metrics) -> list[str]:
    return [f"{split}: skipped, {reason}" for split, reason in metrics.get("skipped", {}).items()]


def _example(file: Path, metrics: Metrics, split: str, width: int) -> str:
    """A report of median quality next to its reference; empty without predictions."""
    try:
        lines = read_prediction_lines(predictions_file(file.parent, split, str(metrics["generation"])))
    except (OSError, UserError):  # the scores are shown in any case
        return ""
    if lines is None:
        return ""
    predictions = {prediction["id"]: prediction for prediction in lines[1]}
    study, score = _median(metrics.get("per_report", {}).get(split, {}), list(predictions))
    shown = predictions[study]
    return f"study {study}{score}\n{side_by_side(shown['report'], shown['reference'], width=width)}"


def _median(per_report: Mapping[str, Mapping[str, float]], studies: Sequence[str]) -> tuple[str, str]:
    """The study with the median score, and what to call it; the first one without such a score."""
    name = next((name for name in _CHOSEN_BY if name in per_report), None)
    values = per_report[name] if name is not None else {}
    ranked = sorted((study for study in studies if study in values), key=lambda study: values[study])
    return (ranked[len(ranked) // 2], f" (median {name})") if ranked else (studies[0], "")


def side_by_side(report: str, reference: str, *, width: int) -> str:
    """Two texts in columns, wrapped at words."""
    column = (width - 2) // 2
    texts = {"generated": report, "reference": reference}
    columns = [[title, *wrap(printable(text), column)] for title, text in texts.items()]
    return "\n".join(f"{left:<{column}}  {right}".rstrip() for left, right in zip_longest(*columns, fillvalue=""))


def _next(run_dir: Path, *, verbose: bool) -> str:
    """Where the page is, and commands to type next."""
    run = shlex.quote(str(from_here(run_dir)))
    commands = [
        f"python run.py task=generate run_dir={run} images=[IMAGE.png]",
        f"python run.py task=compare 'runs=[{from_here(run_dir)},OTHER_RUN]'",
    ]
    more = [] if verbose else ["verbose=true with the same command adds intervals, signatures and other splits"]
    page = f"page: {from_here(run_dir / 'report.html')}"
    return "\n".join([page, *more, "next:", *(f"  {command}" for command in commands)])


def from_here(path: Path) -> Path:
    """The path as it is shorter to type: relative to the working directory, if it is below it."""
    here = Path(os.getcwd())  # noqa: PTH109  a shell may have entered the folder through a link
    return path.relative_to(here) if path.is_relative_to(here) else path
