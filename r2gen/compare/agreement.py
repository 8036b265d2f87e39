"""What systems must share to be compared: references, the recipe of their texts, and the signatures of their metrics.

Different references are always an error. A different recipe or signature for the same references is an error unless
all reports are scored again (compare.rescore=true).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from r2gen.compare.source import Source
from r2gen.data.cleaning import Cleaner, clean_report, is_empty
from r2gen.errors import UserError, shown
from r2gen.evaluate.scores import Signature
from r2gen.evaluate.scoring import named

_SHOWN_CHARACTERS = 60  # of a text in a message
_UNCLEANED = 0.05  # a share of reports that cleaning changes; a model may write some character that it removes
CLEANERS: tuple[Cleaner, ...] = ("iu_xray", "mimic_cxr")
RESCORE = "Set compare.rescore=true to score the reports of all systems again, in the same way."


def cleaned(source: Source, cleaner: Cleaner) -> Source:
    """The source with all its texts cleaned. Texts that were cleaned before do not change."""
    references = source.references
    return replace(
        source,
        reports=cleaned_texts(source.reports, cleaner),
        references=None if references is None else cleaned_texts(references, cleaner),
        constant=None if source.constant is None else _clean(source.constant, cleaner),
    )


def cleaned_texts(texts: Mapping[str, str], cleaner: Cleaner) -> dict[str, str]:
    return {id: _clean(text, cleaner) for id, text in texts.items()}


def _clean(text: str, cleaner: Cleaner) -> str:
    # A cleaner applied twice leaves double spaces. An empty report stays empty.
    return " ".join(clean_report(text, cleaner).split()) if not is_empty(text) else ""


def shared_references(
    sources: Sequence[Source], of_data: Mapping[str, str] | None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The references of all systems, and notes on files whose own references differ from them.

    They are those of the runs, else those of the requested data set (`of_data`), else those of a file. Raises UserError
    if runs and data set differ, if a system has other studies, or if there are no references.
    """
    runs = {source.name: source.references for source in sources if source.kind == "run"}
    files = {source.name: source.references for source in sources if source.kind == "file"}
    candidates = (*runs.items(), ("data", of_data), *files.items())
    available = [(name, texts) for name, texts in candidates if texts is not None]
    if not available:
        raise UserError(
            "runs: none of the entries has references. Add a run folder with the same studies, set data=NAME "
            "data.root=DIR, or put R2GenGPT's test_refs.json next to its test_result.json."
        )
    first, references = available[0]
    for name, texts in available[1:]:
        if name in runs or name == "data":
            _refuse_others(first, references, name, texts)
    notes = []
    for source in sources:
        _refuse_other_studies(source, references, of=first)
        differing = _differing(references, files.get(source.name) or references)
        if differing:
            notes.append(
                f"{source.name} has its own references for {len(differing)} of {len(references)} studies "
                f"(truncated or cleaned differently); it is scored against those of {first}"
            )
        if source.kind == "file":
            notes += _uncleaned(source, references)
    return dict(references), tuple(notes)


def references_digest(references: Mapping[str, str]) -> str:
    """16 hex digits of all ids and reference texts."""
    return hashlib.sha256(json.dumps(sorted(references.items())).encode()).hexdigest()[:16]


def agreed_recipe(sources: Sequence[Source], *, rescored: bool) -> Signature:
    """The recipe of the texts of all runs. If all reports are scored again, it lists all values of an entry.

    Raises UserError if recipes differ and reports are not scored again.
    """
    recipes = {source.name: source.recipe for source in sources if source.recipe}
    differences = _differences(recipes)
    if differences and not rescored:
        raise UserError(
            f"runs: the recipes of their texts differ ({'; '.join(differences)}), though their references are equal. "
            f"{RESCORE}"
        )
    keys = dict.fromkeys(key for recipe in recipes.values() for key in recipe)
    return {key: " / ".join(dict.fromkeys(recipe[key] for recipe in recipes.values() if key in recipe)) for key in keys}


def agreed_signatures(by_system: Mapping[str, Mapping[str, Signature]]) -> dict[str, Signature]:
    """The signature of each metric, from those of each system. Raises UserError naming every difference."""
    agreed: dict[str, Signature] = {}
    differences = []
    for metric in dict.fromkeys(metric for signatures in by_system.values() for metric in signatures):
        of_metric = {name: signatures[metric] for name, signatures in by_system.items() if metric in signatures}
        differences += [f"{metric}: {difference}" for difference in _differences(of_metric)]
        agreed[metric] = next(iter(of_metric.values()))
    if differences:
        raise UserError(f"runs: the systems were scored in different ways ({'; '.join(differences)}). {RESCORE}")
    return agreed


def _differences(signatures: Mapping[str, Signature]) -> list[str]:
    """`version 1.1 (A) / 1.2 (B, C)` for every key in which the signatures differ."""
    differences = []
    for key in dict.fromkeys(key for signature in signatures.values() for key in signature):
        names: dict[str, list[str]] = {}
        for name, signature in signatures.items():
            names.setdefault(signature.get(key, "not stated"), []).append(name)
        if len(names) > 1:
            differences.append(f"{key} " + " / ".join(f"{value} ({', '.join(of)})" for value, of in names.items()))
    return differences


def _refuse_others(first: str, references: Mapping[str, str], name: str, texts: Mapping[str, str]) -> None:
    """Raise UserError if ids or texts differ: scores against different references cannot be compared."""
    if references.keys() != texts.keys():
        raise UserError(
            f"runs: {first} and {name} have different studies ({len(references)} and {len(texts)}; "
            f"{_ids(references, texts, first, name)}). Compare runs of the same data set and split."
        )
    differing = _differing(references, texts)
    if not differing:
        return
    id = differing[0]
    fix = "Evaluate both on the same data: scores against different references cannot be compared."
    for cleaner in CLEANERS:
        if not _differing(cleaned_texts(references, cleaner), cleaned_texts(texts, cleaner)):
            fix = f"Set compare.cleaner={cleaner} to clean all texts in the same way and to score them again."
            break
    raise UserError(
        f"runs: {first} and {name} have different references for {len(differing)} of {len(references)} studies, "
        f"such as {shown(id)}: {references[id]!r:.{_SHOWN_CHARACTERS}} and {texts[id]!r:.{_SHOWN_CHARACTERS}}. {fix}"
    )


def _refuse_other_studies(source: Source, references: Mapping[str, str], *, of: str) -> None:
    if source.reports.keys() != references.keys():
        raise UserError(
            f"{source.path}: {len(source.reports)} reports for {len(references)} studies "
            f"({_ids(references, source.reports, of, source.name)}). Give one report for each study, and an empty one "
            "where a system wrote nothing."
        )


def _ids(first: Mapping[str, str], second: Mapping[str, str], first_name: str, second_name: str) -> str:
    parts = []
    for name, only in ((first_name, first.keys() - second.keys()), (second_name, second.keys() - first.keys())):
        if only:
            parts.append(f"only {name} has {named(map(shown, only))}")
    return "; ".join(parts)


def _differing(references: Mapping[str, str], texts: Mapping[str, str]) -> list[str]:
    return [id for id in references if id in texts and references[id] != texts[id]]


def _uncleaned(source: Source, references: Mapping[str, str]) -> list[str]:
    """A note if the reports of a file were not cleaned as the references were: their words then differ by punctuation.

    A text was cleaned if cleaning it again changes nothing but its end, which a report may lack.
    """
    fitting = [cleaner for cleaner in CLEANERS if _changed(references, cleaner) == 0]
    if not fitting:
        return []
    least, cleaner = min((_changed(source.reports, cleaner), cleaner) for cleaner in fitting)
    raw = _looks_raw(source.reports)
    if not raw and least < _UNCLEANED * len(source.reports):
        return []
    what = (
        "has capital letters and the references have none"
        if raw
        else (
            f"was not cleaned as the references were (cleaning changes {least} of {len(source.reports)} reports), "
            "which lowers its scores"
        )
    )
    other = f" (or {' or '.join(name for name in fitting if name != cleaner)})" if len(fitting) > 1 else ""
    return [f"{source.name} {what}; compare.cleaner={cleaner}{other} cleans all texts in the same way"]


def _changed(texts: Mapping[str, str], cleaner: Cleaner) -> int:
    """How many texts change when they are cleaned."""
    words = ((text.split(), _clean(text, cleaner).split()) for text in texts.values() if not is_empty(text))
    return sum(before not in (after, after[:-1]) for before, after in words)


def _looks_raw(texts: Mapping[str, str]) -> bool:
    return any(text != text.lower() for text in texts.values())
