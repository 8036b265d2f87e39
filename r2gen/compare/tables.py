"""A comparison as text: for the terminal, Markdown, LaTeX and CSV. Imports no torch."""

from collections.abc import Mapping, Sequence
from textwrap import fill

from r2gen.compare.comparison import Comparison, Interval, JoinedPair, Pair
from r2gen.evaluate.recipe import signature_lines
from r2gen.evaluate.scores import ScoreSpec
from r2gen.evaluate.tables import WIDTH, aligned, shown_scores
from r2gen.pages.csv_text import csv_text

Cells = list[list[str]]  # the first row and the first column are heads


def terminal(found: Comparison) -> str:
    """Scores with intervals, differences in words, F1 by finding, joined seeds, and what the numbers are."""
    counted = f"{found.split}: {found.studies:,} {'study' if found.studies == 1 else 'studies'}"
    parts = [f"{counted}, references {found.references}\n{aligned(_cells(found.scores, found.score_specs))}"]
    parts += _told(_tested(found), found.score_specs)
    if found.joined:
        seeds = "; ".join(f"{one.name}: {', '.join(map(str, one.seeds))}" for one in found.joined)
        means = aligned(_cells({one.name: one.scores for one in found.joined}, found.score_specs))
        parts.append(_wrapped(f"mean over seeds ({seeds}), with Student's interval") + f"\n{means}")
        parts += _told(found.joined_pairs, found.score_specs)
    if found.findings:
        parts.append("F1 by finding (of so many studies)\n" + aligned(_finding_cells(found)))
    below = "\n".join(_wrapped(note) for note in found.notes)
    parts.append(below + signature_lines(found.recipe, found.signatures, width=WIDTH))
    return "\n\n".join(part for part in parts if part)


def differences(pairs: Sequence[Pair] | Sequence[JoinedPair], specs: Sequence[ScoreSpec]) -> dict[str, list[str]]:
    """`B against A` to up to three lines: where B is better, where worse, and what is within noise."""
    lower_is_better = {spec.name for spec in specs if not spec.higher_is_better}

    def gain(pair: Pair | JoinedPair) -> float:
        return -pair.difference.value if pair.score in lower_is_better else pair.difference.value

    told: dict[str, list[str]] = {}
    for first, second in dict.fromkeys((pair.first, pair.second) for pair in pairs):
        of_pair = {pair.score: pair for pair in pairs if (pair.first, pair.second) == (first, second)}
        shown = [of_pair[score] for score in shown_scores(of_pair, specs)]
        groups = {
            "better": [_difference(pair) for pair in shown if not pair.within_noise and gain(pair) > 0],
            "worse": [_difference(pair) for pair in shown if not pair.within_noise and gain(pair) < 0],
            "within noise": [pair.score for pair in shown if pair.within_noise],
        }
        told[f"{second} against {first}"] = [f"{word}: {', '.join(ones)}" for word, ones in groups.items() if ones]
    return told


def _tested(found: Comparison) -> list[Pair]:
    """The pairs worth a line: two null rows are not."""
    null = {one.name for one in found.systems if one.kind == "null"}
    return [pair for pair in found.pairs if not {pair.first, pair.second} <= null]


def _told(pairs: Sequence[Pair] | Sequence[JoinedPair], specs: Sequence[ScoreSpec]) -> list[str]:
    lines = [
        line for title, parts in differences(pairs, specs).items() for line in (title, *(f"  {part}" for part in parts))
    ]
    return ["\n".join(fill(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False) for line in lines)]


def markdown(found: Comparison) -> str:
    """All tables but the studies', with patient text in none of them."""
    counted = f"Split {found.split}, {found.studies:,} studies, references `{found.references}`, {found.written}."
    parts = [
        f"# {_plain(found.title)}\n\n{counted}",
        "## Scores, 95 %\n\n" + _pipes(_cells(found.scores, found.score_specs)),
    ]
    if found.pairs:
        lines = [
            f"- {_plain(title)}: {_plain('; '.join(told))}"
            for title, told in differences(_tested(found), found.score_specs).items()
        ]
        parts.append(
            "## Differences\n\n" + "\n".join(lines) + "\n\n" + _pipes(_pair_cells(found.pairs, found.score_specs))
        )
    if found.joined:
        joined = {f"{one.name} (seeds {', '.join(map(str, one.seeds))})": one.scores for one in found.joined}
        parts.append("## Means over seeds, Student's 95 %\n\n" + _pipes(_cells(joined, found.score_specs)))
        if found.joined_pairs:
            parts.append(_pipes(_pair_cells(found.joined_pairs, found.score_specs)))
    if found.findings:
        parts.append("## F1 by finding (of so many studies)\n\n" + _pipes(_finding_cells(found)))
    for stratum in found.strata:
        parts.append(
            f"## {stratum.kind.capitalize()}: {stratum.name}, {stratum.studies:,} studies\n\n"
            + _pipes(_cells(stratum.scores, found.score_specs))
        )
    systems = [
        ", ".join([f"{one.name}: {one.source}", *(f"{key} {value}" for key, value in one.about.items())])
        for one in found.systems
    ]
    parts.append("## Systems\n\n" + "\n".join(f"- {_plain(line)}" for line in systems))
    notes = [*found.notes, *signature_lines(found.recipe, found.signatures, width=10**6).strip().splitlines()]
    parts.append("## Notes\n\n" + "\n".join(f"- {_plain(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def latex(found: Comparison) -> str:
    """A table for booktabs: systems as rows, scores as columns, the interval below each value."""
    columns = shown_scores((score for scores in found.scores.values() for score in scores), found.score_specs)
    rows = [" & ".join(["", *map(_tex, columns)]) + r" \\", r"\midrule"]
    for name, scores in found.scores.items():
        values = [f"{scores[score].value:.3f}" if score in scores else "--" for score in columns]
        ends = [_tex_ends(scores.get(score)) for score in columns]
        rows += [" & ".join([_tex(name), *values]) + r" \\", " & ".join(["", *ends]) + r" \\"]
    notes = [f"{found.split}: {found.studies} studies, references {found.references}", *found.notes]
    return (
        "\n".join(
            [
                *(
                    f"% {line}"
                    for note in [*notes, *signature_lines(found.recipe, found.signatures, width=10**6).splitlines()]
                    for line in note.splitlines()
                ),
                rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
                r"\toprule",
                *rows,
                r"\bottomrule",
                r"\end{tabular}",
            ]
        )
        + "\n"
    )


def csv_of_scores(found: Comparison) -> str:
    """A line for each system and score; means over seeds have kind `seeds`, and strata their name."""
    kinds = {one.name: one.kind for one in found.systems}
    rows = [(name, kinds[name], "all", found.studies, scores) for name, scores in found.scores.items()]
    rows += [(one.name, "seeds", "all", found.studies, one.scores) for one in found.joined]
    rows += [
        (name, kinds[name], part.name, part.studies, scores)
        for part in found.strata
        for name, scores in part.scores.items()
    ]
    lines = [
        [name, kind, part, studies, score, one.value, one.low, one.high]
        for name, kind, part, studies, scores in rows
        for score, one in scores.items()
    ]
    return csv_text(["system", "kind", "studies_of", "studies", "score", "value", "low", "high"], lines)


def csv_of_pairs(found: Comparison) -> str:
    """A line for every two systems and score."""
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
            for over, pairs in (("studies", found.pairs), ("seeds", found.joined_pairs))
            for pair in pairs
        ],
    )


def _cells(columns: Mapping[str, Mapping[str, Interval]], specs: Sequence[ScoreSpec]) -> Cells:
    """Scores as rows, systems as columns."""
    scores = shown_scores((score for of_system in columns.values() for score in of_system), specs)
    return [["", *columns]] + [
        [score, *(_interval(of_system.get(score)) for of_system in columns.values())] for score in scores
    ]


def _finding_cells(found: Comparison) -> Cells:
    rows = [
        [
            f"{finding} ({max(one.support for one in of_system.values())})",
            *(_interval(one.f1) for one in of_system.values()),
        ]
        for finding, of_system in found.findings.items()
        if any(one.f1 is not None for one in of_system.values())
    ]
    return [["", *(system.name for system in found.systems)], *rows]


def _pair_cells(pairs: Sequence[Pair] | Sequence[JoinedPair], specs: Sequence[ScoreSpec]) -> Cells:
    shown = {score: place for place, score in enumerate(shown_scores((pair.score for pair in pairs), specs))}
    in_order = sorted((pair for pair in pairs if pair.score in shown), key=lambda pair: shown[pair.score])
    rows = [
        [
            pair.score,
            pair.first,
            pair.second,
            f"{pair.difference.value:+.3f}",
            _ends(pair.difference, sign="+"),
            f"{pair.p_holm:.4f}",
            "within noise" if pair.within_noise else "apart",
        ]
        for pair in in_order
    ]
    return [["score", "first", "second", "second - first", "95 %", "p (Holm)", ""], *rows]


def _interval(found: Interval | None) -> str:
    if found is None:
        return "-"
    return f"{found.value:.3f}" + (f" ({_ends(found)})" if found.low is not None else "")


def _ends(found: Interval, *, sign: str = "") -> str:
    if found.low is None or found.high is None:
        return "-"
    return f"{found.low:{sign}.3f} to {found.high:{sign}.3f}"


def _difference(pair: Pair | JoinedPair) -> str:
    return f"{pair.score} {pair.difference.value:+.3f} ({_ends(pair.difference, sign='+')}, p {pair.p_holm:.4f})"


def _pipes(cells: Cells) -> str:
    head, *rows = [[_plain(cell) for cell in row] for row in cells]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown shows as it stands, on one line."""
    marked = " ".join(text.split())
    for sign in "\\`*_[]<>|":
        marked = marked.replace(sign, f"\\{sign}")
    return marked


def _tex(text: str) -> str:
    for sign in "_&%#$":
        text = text.replace(sign, f"\\{sign}")
    return text


def _tex_ends(found: Interval | None) -> str:
    return rf"{{\scriptsize {_ends(found)}}}" if found is not None and found.low is not None else ""


def _wrapped(line: str) -> str:
    return fill(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
