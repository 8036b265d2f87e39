"""What must be the same before two systems stand side by side: references, their recipe, and how they were scored.

Other references are other data, and refused whatever is typed. Another recipe or signature over the same references is
refused too, unless everything is scored anew (compare.rescore=true). Imports no torch.
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

_TEXT = 60  # characters of a text in a message
CLEANERS: tuple[Cleaner, ...] = ("iu_xray", "mimic_cxr")
RESCORE = "compare.rescore=true scores the reports of all of them anew, with one recipe"


def cleaned(source: Source, cleaner: Cleaner) -> Source:
    """All texts of a source through one cleaner; what has passed it before comes out the same."""
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
    # A cleaner leaves a second space when it runs twice; an empty report stays empty.
    return " ".join(clean_report(text, cleaner).split()) if not is_empty(text) else ""


def shared_references(
    sources: Sequence[Source], of_data: Mapping[str, str] | None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The references of all systems, and notes on files whose own are others.

    They are those of the runs, else of the data set typed, else of a file. Raises UserError where runs and data differ,
    where a system has other studies, or where there are none.
    """
    runs = {source.name: source.references for source in sources if source.kind == "run"}
    files = {source.name: source.references for source in sources if source.kind == "file"}
    known = [(name, texts) for name, texts in (*runs.items(), ("data", of_data), *files.items()) if texts is not None]
    if not known:
        raise UserError(
            "task=compare: none of runs=[...] brings references: add a run folder of the same studies, "
            "data=NAME data.root=DIR, or test_refs.json beside R2GenGPT's test_result.json"
        )
    first, references = known[0]
    for name, texts in known[1:]:
        if name in runs or name == "data":
            _refuse_others(first, references, name, texts)
    notes = []
    for source in sources:
        _refuse_other_studies(source, references, of=first)
        differing = _differing(references, files.get(source.name) or references)
        if differing:
            notes.append(
                f"{source.name} came with other references for {len(differing)} of {len(references)} studies "
                f"(cut, or cleaned otherwise): it is scored against those of {first}"
            )
        if source.kind == "file" and _looks_raw(source.reports) and not _looks_raw(references):
            notes.append(
                f"{source.name} has capital letters and the references have none: compare.cleaner=iu_xray (or "
                "mimic_cxr) cleans all texts alike"
            )
    return dict(references), tuple(notes)


def references_digest(references: Mapping[str, str]) -> str:
    """16 hex digits of all ids and reference texts."""
    return hashlib.sha256(json.dumps(sorted(references.items())).encode()).hexdigest()[:16]


def agreed_recipe(sources: Sequence[Source], *, rescored: bool) -> Signature:
    """The recipe of the texts of all runs; where they were scored anew, several values stand side by side.

    Raises UserError where recipes differ and nothing is scored anew.
    """
    recipes = {source.name: source.recipe for source in sources if source.recipe}
    told = _differences(recipes)
    if told and not rescored:
        raise UserError(
            f"the runs were scored with different recipes: {'; '.join(told)}. Their references are the "
            f"same texts: {RESCORE}"
        )
    keys = dict.fromkeys(key for recipe in recipes.values() for key in recipe)
    return {key: " / ".join(dict.fromkeys(recipe[key] for recipe in recipes.values() if key in recipe)) for key in keys}


def agreed_signatures(found: Mapping[str, Mapping[str, Signature]]) -> dict[str, Signature]:
    """Metric to its signature, from those by system. Raises UserError with every difference between systems."""
    agreed: dict[str, Signature] = {}
    told = []
    for metric in dict.fromkeys(metric for signatures in found.values() for metric in signatures):
        of_metric = {name: signatures[metric] for name, signatures in found.items() if metric in signatures}
        told += [f"{metric}: {difference}" for difference in _differences(of_metric)]
        agreed[metric] = next(iter(of_metric.values()))
    if told:
        raise UserError(f"the systems were scored in different ways: {'; '.join(told)}: {RESCORE}")
    return agreed


def _differences(signatures: Mapping[str, Signature]) -> list[str]:
    """`version 1.1 (A) / 1.2 (B, C)` for every key in which they differ."""
    told = []
    for key in dict.fromkeys(key for signature in signatures.values() for key in signature):
        names: dict[str, list[str]] = {}
        for name, signature in signatures.items():
            names.setdefault(signature.get(key, "not stated"), []).append(name)
        if len(names) > 1:
            told.append(f"{key} " + " / ".join(f"{value} ({', '.join(of)})" for value, of in names.items()))
    return told


def _refuse_others(first: str, references: Mapping[str, str], name: str, texts: Mapping[str, str]) -> None:
    """Other ids or other texts: two scores against them have nothing to do with each other."""
    if references.keys() != texts.keys():
        raise UserError(
            f"{first} and {name} are of different studies ({len(references)} and {len(texts)}): "
            f"{_ids(references, texts, first, name)}: compare runs of one data set and split"
        )
    differing = _differing(references, texts)
    if not differing:
        return
    id = differing[0]
    fix = "evaluate both on the same data; scores against other references cannot be compared"
    for cleaner in CLEANERS:
        if not _differing(cleaned_texts(references, cleaner), cleaned_texts(texts, cleaner)):
            fix = f"compare.cleaner={cleaner} cleans the texts of all systems alike and scores them anew"
            break
    raise UserError(
        f"{first} and {name} have different references for {len(differing)} of {len(references)} studies, "
        f"such as {shown(id)}: {references[id]!r:.{_TEXT}} and {texts[id]!r:.{_TEXT}}: {fix}"
    )


def _refuse_other_studies(source: Source, references: Mapping[str, str], *, of: str) -> None:
    if source.reports.keys() != references.keys():
        raise UserError(
            f"{source.path} has {len(source.reports)} reports for {len(references)} studies: "
            f"{_ids(references, source.reports, of, source.name)}: give every study one report (an empty "
            "one where a system wrote nothing), and no other"
        )


def _ids(first: Mapping[str, str], second: Mapping[str, str], first_name: str, second_name: str) -> str:
    parts = []
    for name, only in ((first_name, first.keys() - second.keys()), (second_name, second.keys() - first.keys())):
        if only:
            parts.append(f"only {name} has {named(map(shown, only))}")
    return "; ".join(parts)


def _differing(references: Mapping[str, str], texts: Mapping[str, str]) -> list[str]:
    return [id for id in references if id in texts and references[id] != texts[id]]


def _looks_raw(texts: Mapping[str, str]) -> bool:
    return any(text != text.lower() for text in texts.values())
