"""RadGraph F1: entities and relations that the published model reads in both texts (Delbrouck et al., ACL 2024).

The package `radgraph` has the model's code, and its archive the weights. Version 0.1.18 calls two methods that
transformers 5 has removed; `_add_missing_methods` adds them. It also compares entities without relations with case and
others without; the comparison here is our own, always in lower case.
"""

import contextlib
import io
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from r2gen.errors import UserError
from r2gen.evaluate.scores import Scores, ScoreSpec, UnavailableError
from r2gen.evaluate.scoring import check_texts, signature
from r2gen.evaluate.study_sums import StudySums, mean_sums
from r2gen.runs.provenance import files_hash
from r2gen.runs.untrusted import read_json

NO_WEIGHTS = (
    "metrics.radgraph.path is null. Download radgraph-xl.tar.gz (on the Hugging Face hub in "
    "StanfordAIMI/RRG_scorers), unpack it, and pass metrics.radgraph.path=FOLDER and metrics.radgraph.bert="
    "FOLDER of the encoder that its config.json names (config.json and the tokenizer's files)."
)
NO_PACKAGE = "The package radgraph is not installed. Run pip install -c constraints.txt -e '.[radgraph]'"
FILES = ("config.json", "vocabulary", "weights.th")
_MOST_CACHED = 200_000

Entities = dict[str, dict[str, Any]]  # number to tokens, label, relations ([kind, number] each)
Facts = set[tuple[object, ...]]


class RadGraphF1:
    """F1 of the facts that RadGraph reads in a report, as the mean over reports; a report without entities scores 0.

    A fact is an entity (simple), an entity and whether it has a relation (partial), or an entity with each relation and
    its object (complete), like the package's rewards of the same names, but in lower case. `path` is the unpacked
    archive, `bert` a folder with the encoder's config.json and tokenizer files. The metric is unavailable if path is
    null or the package is not installed. Raises UserError if the files cannot be used.
    """

    name = "radgraph"
    scores = tuple(ScoreSpec(f"radgraph_{level}", f"RadGraph, {level}") for level in ("simple", "partial", "complete"))
    weights = ("path", "bert")

    def __init__(
        self,
        *,
        path: str | None = None,
        bert: str | None = None,
        model: Literal["radgraph", "radgraph-xl", "modern-radgraph-xl"] = "radgraph-xl",
    ) -> None:
        self.model = model
        self._reason, self._read = NO_WEIGHTS, None
        if path is None:
            return
        if bert is None:
            raise UserError(
                "metrics.radgraph.path needs metrics.radgraph.bert=FOLDER with the config.json and the tokenizer's "
                "files of the encoder that its config.json names."
            )
        missing = [name for name in FILES if not (Path(path) / name).exists()]
        if missing:
            raise UserError(
                f"metrics.radgraph.path={path}: the folder has no {', '.join(missing)}. Pass the unpacked archive."
            )
        self._weights_hash = files_hash(Path(path) / "weights.th")
        try:
            self._read = _reader(Path(path), Path(bert), model)
        except ModuleNotFoundError as error:
            self._reason = f"{NO_PACKAGE} ({error})"
        self._cache: dict[str, Entities] = {}

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        check_texts(self.name, references, reports)
        if self._read is None:
            raise UnavailableError(self._reason)
        entities = self._entities([*references.values(), *reports.values()])
        pairs = {id: (entities[references[id]], entities[reports[id]]) for id in references}
        per_report = {
            f"radgraph_{level}": {id: f1(facts(reference), facts(report)) for id, (reference, report) in pairs.items()}
            for level, facts in LEVELS.items()
        }
        signed = signature(implementation="radgraph", version=version("radgraph"), tokenizer=self.model, case="lower")
        return Scores(
            corpus={name: sum(values.values()) / len(values) for name, values in per_report.items()},
            per_report=per_report,
            signatures={self.name: signed | {"model": self._weights_hash}},
        )

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> StudySums | None:
        return mean_sums(scores.per_report, ids=references)

    def _entities(self, texts: Sequence[str]) -> dict[str, Entities]:
        assert self._read is not None
        if len(self._cache) > _MOST_CACHED:
            self._cache.clear()
        new = sorted({text for text in texts if text.strip() and text not in self._cache})
        read = self._read(new) if new else {}
        for index, text in enumerate(new):
            if str(index) not in read:  # the package prints an error and leaves the text out
                raise UserError(
                    f'metrics=radgraph: the package could not read "{text:.80}". Leave radgraph out of metrics.'
                )
            self._cache[text] = read[str(index)]["entities"]
        return {text: self._cache[text] if text.strip() else {} for text in texts}


def _simple(entities: Entities) -> Facts:
    return {(entity["tokens"].lower(), entity["label"]) for entity in entities.values()}


def _partial(entities: Entities) -> Facts:
    return {(entity["tokens"].lower(), entity["label"], bool(entity["relations"])) for entity in entities.values()}


def _complete(entities: Entities) -> Facts:
    alone = {(entity["tokens"].lower(), entity["label"]) for entity in entities.values() if not entity["relations"]}
    related = {
        (entity["tokens"].lower(), entity["label"], kind, entities[of]["tokens"].lower())
        for entity in entities.values()
        for kind, of in entity["relations"]
    }
    return alone | related


LEVELS: dict[str, Callable[[Entities], Facts]] = {"simple": _simple, "partial": _partial, "complete": _complete}


def f1(reference: Facts, report: Facts) -> float:
    """The F1 of two sets; 0 if they share nothing."""
    return 2 * len(reference & report) / (len(reference) + len(report)) if reference & report else 0.0


def _reader(path: Path, bert: Path, model: str) -> Callable[[list[str]], dict[str, Any]]:
    """The package's model with these files. Its config.json names an encoder on the hub, so it gets a changed copy.

    Raises ModuleNotFoundError if the package is not installed.
    """
    from radgraph import RadGraph
    from radgraph.allennlp.common import cached_transformers

    _add_missing_methods(cached_transformers)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        staged = Path(folder) / model
        staged.mkdir()
        for name in ("vocabulary", "weights.th"):
            (staged / name).symlink_to((path / name).absolute())
        try:
            config = read_json(path / "config.json")
            for node in (
                config["dataset_reader"]["token_indexers"]["bert"],
                config["model"]["embedder"]["token_embedders"]["bert"],
            ):
                node["model_name"] = str(bert.absolute())
            (staged / "config.json").write_text(json.dumps(config), encoding="utf-8")
            read = RadGraph(model_type=model, model_cache_dir=folder)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"metrics.radgraph.path={path} with metrics.radgraph.bert={bert}: {reason:.300}") from error

    def quietly(texts: list[str]) -> dict[str, Any]:
        with contextlib.redirect_stdout(io.StringIO()):
            entities: dict[str, Any] = read(texts)
        return entities

    return quietly


def _add_missing_methods(cached_transformers: Any) -> None:
    """Give the package's tokenizers the two methods that transformers 5 has removed."""
    original = cached_transformers.get_tokenizer

    def get_tokenizer(name: str, **options: Any) -> Any:
        tokenizer = original(name, **options)
        if not hasattr(tokenizer, "encode_plus"):
            tokenizer.encode_plus = tokenizer.__call__
            tokenizer.build_inputs_with_special_tokens = lambda ids: [
                tokenizer.cls_token_id,
                *ids,
                tokenizer.sep_token_id,
            ]
        return tokenizer

    cached_transformers.get_tokenizer = get_tokenizer
