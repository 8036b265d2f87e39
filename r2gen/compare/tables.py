"""Formats a comparison as tables: for the terminal, Markdown, LaTeX and CSV."""

from collections.abc import Mapping, Sequence

from r2gen.compare.comparison import BASELINE, Comparison, JoinedPair
from r2gen.evaluate.recipe import signature_lines
from r2gen.evaluate.scores import ScoreSpec
from r2gen.evaluate.statistics import Interval, Pair
from r2gen.evaluate.tables import aligned, shown_scores
from r2gen.pages.csv_text import csv_text
from r2gen.runs.progress import terminal_width, wrapped

Cells = list[list[str]]  # the first row and the first column are headers
BY_FINDING = "F1 by finding (references with the finding)"


def terminal(comparison: Comparison) -> str:
    """The text that task=compare prints: scores with intervals, differences, means over seeds, F1 by finding, notes."""
    width = terminal_width()
    studies = f"{comparison.studies:,} {'study' if comparison.studies == 1 else 'studies'}"
    head = f"{comparison.split}: {studies}, references {comparison.references}"
    parts = [f"{head}\n{aligned(_cells(comparison.scores, comparison.score_specs), width=width)}"]
    parts += _difference_lines(_tested(comparison), comparison.score_specs)
    if comparison.joined:
        seeds = "; ".join(f"{group.name}: {', '.join(map(str, group.seeds))}" for group in comparison.joined)
        cells = _cells({group.name: group.scores for group in comparison.joined}, comparison.score_specs)
        means = aligned(cells, width=width)
        parts.append(wrapped(f"mean over seeds ({seeds}), with Student's interval") + f"\n{means}")
        parts += _difference_lines(comparison.joined_pairs, comparison.score_specs)
    if comparison.findings:
        parts.append(f"{BY_FINDING}\n{aligned(_finding_cells(comparison), width=width)}")
    notes = "\n".join(wrapped(note) for note in comparison.notes)
    parts.append(notes + signature_lines(comparison.recipe, comparison.signatures, width=width))
    return "\n\n".join(part for part in parts if part)


def differences(pairs: Sequence[Pair] | Sequence[JoinedPair], specs: Sequence[ScoreSpec]) -> dict[str, list[str]]:
    """For each pair, named `B against A`, up to three lines: the scores in which B is better, worse, within noise."""
    lower_is_better = {spec.name for spec in specs if not spec.higher_is_better}

    def gain(pair: Pair | JoinedPair) -> float:
        return -pair.difference.value if pair.score in lower_is_better else pair.difference.value

    lines: dict[str, list[str]] = {}
    for first, second in dict.fromkeys((pair.first, pair.second) for pair in pairs):
        of_pair = {pair.score: pair for pair in pairs if (pair.first, pair.second) == (first, second)}
        shown = [of_pair[score] for score in shown_scores(of_pair, specs)]
        groups = {
            "better": [_difference(pair) for pair in shown if not pair.within_noise and gain(pair) > 0],
            "worse": [_difference(pair) for pair in shown if not pair.within_noise and gain(pair) < 0],
            "within noise": [pair.score for pair in shown if pair.within_noise],
        }
        lines[f"{second} against {first}"] = [f"{group}: {', '.join(ones)}" for group, ones in groups.items() if ones]
    return lines


def _tested(comparison: Comparison) -> list[Pair]:
    """The pairs to report: all but pairs of two baselines."""
    baselines = {system.name for system in comparison.systems if system.kind == BASELINE}
    return [pair for pair in comparison.pairs if not {pair.first, pair.second} <= baselines]


def _difference_lines(pairs: Sequence[Pair] | Sequence[JoinedPair], specs: Sequence[ScoreSpec]) -> list[str]:
    lines = [
        line for title, parts in differences(pairs, specs).items() for line in (title, *(f"  {part}" for part in parts))
    ]
    return ["\n".join(wrapped(line, indent="    ") for line in lines)]


def markdown(comparison: Comparison) -> str:
    """All tables but those of single studies, so without patient text."""
    specs = comparison.score_specs
    parts = [
        f"# {_plain(comparison.title)}",
        f"Split {comparison.split}, {comparison.studies:,} studies, references `{comparison.references}`, "
        f"{comparison.written}.",
        "## Scores, 95 %",
        _pipes(_cells(comparison.scores, specs)),
    ]
    if comparison.pairs:
        differing = differences(_tested(comparison), specs).items()
        lines = [f"- {_plain(title)}: {_plain('; '.join(groups))}" for title, groups in differing]
        parts += ["## Differences", "\n".join(lines), _pipes(_pair_cells(comparison.pairs, specs))]
    if comparison.joined:
        joined = {
            f"{group.name} (seeds {', '.join(map(str, group.seeds))})": group.scores for group in comparison.joined
        }
        parts += ["## Means over seeds, Student's 95 %", _pipes(_cells(joined, specs))]
    if comparison.joined_pairs:
        parts.append(_pipes(_pair_cells(comparison.joined_pairs, specs)))
    if comparison.findings:
        parts += [f"## {BY_FINDING}", _pipes(_finding_cells(comparison))]
    for stratum in comparison.strata:
        parts.append(f"## {stratum.kind.capitalize()}: {stratum.name}, {stratum.studies:,} studies")
        parts.append(_pipes(_cells(stratum.scores, specs)))
    systems = [
        ", ".join([f"{system.name}: {system.source}", *(f"{key} {value}" for key, value in system.about.items())])
        for system in comparison.systems
    ]
    parts += ["## Systems", "\n".join(f"- {_plain(line)}" for line in systems)]
    parts += ["## Notes", "\n".join(f"- {_plain(note)}" for note in _notes(comparison))]
    return "\n\n".join(parts) + "\n"


def latex(comparison: Comparison) -> str:
    """A booktabs table: systems as rows, scores as columns, and the interval below each value."""
    specs = comparison.score_specs
    columns = shown_scores((score for scores in comparison.scores.values() for score in scores), specs)
    rows = [_tex_row(["", *map(_tex, columns)]), r"\midrule"]
    for name, scores in comparison.scores.items():
        rows.append(
            _tex_row([_tex(name), *(f"{scores[score].value:.3f}" if score in scores else "--" for score in columns)])
        )
        rows.append(_tex_row(["", *(_tex_ends(scores.get(score)) for score in columns)]))
    head = f"{comparison.split}: {comparison.studies} studies, references {comparison.references}"
    comments = [f"% {line}" for note in [head, *_notes(comparison)] for line in note.splitlines()]
    begin = rf"\begin{{tabular}}{{l{'r' * len(columns)}}}"
    return "\n".join([*comments, begin, r"\toprule", *rows, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _notes(comparison: Comparison) -> list[str]:
    """The notes, the recipe and the signatures, a line each."""
    signatures = signature_lines(comparison.recipe, comparison.signatures, width=10**6)
    return [*comparison.notes, *signatures.strip().splitlines()]


def csv_of_scores(comparison: Comparison) -> str:
    """A row for each system and score, for all studies and each subgroup; means over seeds have the kind `seeds`."""
    kinds = {system.name: system.kind for system in comparison.systems}
    rows = [(name, kinds[name], "all", comparison.studies, scores) for name, scores in comparison.scores.items()]
    rows += [(group.name, "seeds", "all", comparison.studies, group.scores) for group in comparison.joined]
    rows += [
        (name, kinds[name], part.name, part.studies, scores)
        for part in comparison.strata
        for name, scores in part.scores.items()
    ]
    lines = [
        [name, kind, part, studies, score, interval.value, interval.low, interval.high]
        for name, kind, part, studies, scores in rows
        for score, interval in scores.items()
    ]
    return csv_text(["system", "kind", "studies_of", "studies", "score", "value", "low", "high"], lines)


def csv_of_pairs(comparison: Comparison) -> str:
    """A row for every two systems and score."""
    return csv_text(
        ["first", "second", "over", "score", "difference", "low", "high", "p", "p_holm", "within_noise"],
        [
            [
                pair.first,
                pair.second,
                over,
                pair.score,
                pair.difference.value,
                pair.difference.low,
                pair.difference.high,
                pair.p,
                pair.p_holm,
                "yes" if pair.within_noise else "no",
            ]
            for over, pairs in (("studies", comparison.pairs), ("seeds", comparison.joined_pairs))
            for pair in pairs
        ],
    )


def _cells(columns: Mapping[str, Mapping[str, Interval]], specs: Sequence[ScoreSpec]) -> Cells:
    """Scores as rows, systems as columns."""
    scores = shown_scores((score for of_system in columns.values() for score in of_system), specs)
    return [["", *columns]] + [
        [score, *(_interval(of_system.get(score)) for of_system in columns.values())] for score in scores
    ]


def _finding_cells(comparison: Comparison) -> Cells:
    rows = [
        [
            f"{finding} ({max(score.support for score in of_system.values())})",
            *(_interval(score.f1) for score in of_system.values()),
        ]
        for finding, of_system in comparison.findings.items()
        if any(score.f1 is not None for score in of_system.values())
    ]
    return [["", *(system.name for system in comparison.systems)], *rows]


def _pair_cells(pairs: Sequence[Pair] | Sequence[JoinedPair], specs: Sequence[ScoreSpec]) -> Cells:
    columns = {score: index for index, score in enumerate(shown_scores((pair.score for pair in pairs), specs))}
    in_order = sorted((pair for pair in pairs if pair.score in columns), key=lambda pair: columns[pair.score])
    rows = [
        [
            pair.score,
            pair.first,
            pair.second,
            f"{pair.difference.value:+.3f}",
            _ends(pair.difference, sign="+"),
            f"{pair.p_holm:.4f}",
            "within noise" if pair.within_noise else "beyond noise",
        ]
        for pair in in_order
    ]
    return [["score", "first", "second", "second - first", "95 %", "p (Holm)", ""], *rows]


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    return f"{interval.value:.3f}" + (f" ({_ends(interval)})" if interval.low is not None else "")


def _ends(interval: Interval, *, sign: str = "") -> str:
    if interval.low is None or interval.high is None:
        return "-"
    return f"{interval.low:{sign}.3f} to {interval.high:{sign}.3f}"


def _difference(pair: Pair | JoinedPair) -> str:
    return f"{pair.score} {pair.difference.value:+.3f} ({_ends(pair.difference, sign='+')}, p {pair.p_holm:.4f})"


def _pipes(cells: Cells) -> str:
    head, *rows = [[_plain(cell) for cell in row] for row in cells]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """The text on one line, escaped so that Markdown shows it literally."""
    escaped = " ".join(text.split())
    for character in "\\`*_[]<>|":
        escaped = escaped.replace(character, f"\\{character}")
    return escaped


def _tex(text: str) -> str:
    for character in "_&%#$":
        text = text.replace(character, f"\\{character}")
    return text


def _tex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _tex_ends(interval: Interval | None) -> str:
    return rf"{{\scriptsize {_ends(interval)}}}" if interval is not None and interval.low is not None else ""
