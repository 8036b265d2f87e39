"""RadGraph F1: entities and relations that the published model reads in both texts (Delbrouck et al., ACL 2024).

The package `radgraph` brings the model's code; its archive the weights. Version 0.1.18 calls what transformers 5 no
longer has, which is given back here, and compares entities without relations in their own case, others in lower case:
the comparison here is ours, in lower case throughout.
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

NO_WEIGHTS = (
    "metrics.radgraph.path is null: get radgraph-xl.tar.gz (on the Hugging Face hub in "
    "StanfordAIMI/RRG_scorers), unpack it, and give metrics.radgraph.path=FOLDER and metrics.radgraph.bert="
    "FOLDER of the encoder that its config.json names (config.json and the tokenizer's files)"
)
NO_PACKAGE = "the package radgraph is missing: pip install -c constraints.txt -e '.[radgraph]'"
FILES = ("config.json", "vocabulary", "weights.th")
_MOST_KNOWN = 200_000

Entities = dict[str, dict[str, Any]]  # number to tokens, label, relations ([kind, number] each)
Facts = set[tuple[object, ...]]


class RadGraphF1:
    """F1 of what RadGraph reads in a report, mean over reports: entities (simple), entities and whether they have a
    relation (partial), entities with each relation and its object (complete). The package's rewards of the same names,
    in lower case; a report without an entity scores 0.

    `path`: the unpacked archive; `bert`: a folder with the encoder's config.json and tokenizer files. Unavailable where
    path is null or the package is not installed. Raises UserError where the files cannot be used.
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
        self._why, self._read = NO_WEIGHTS, None
        if path is None:
            return
        if bert is None:
            raise UserError(
                "metrics.radgraph.path needs metrics.radgraph.bert=FOLDER, with the config.json and the "
                "tokenizer's files of the encoder that its config.json names"
            )
        lacks = [name for name in FILES if not (Path(path) / name).exists()]
        if lacks:
            raise UserError(
                f"metrics.radgraph.path={path}: there is no {', '.join(lacks)} in it: give the unpacked archive"
            )
        self._weights_hash = files_hash(Path(path) / "weights.th")
        try:
            self._read = _reader(Path(path), Path(bert), model)
        except ModuleNotFoundError as error:
            self._why = f"{NO_PACKAGE} ({error})"
        self._known: dict[str, Entities] = {}

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        check_texts(self.name, references, reports)
        if self._read is None:
            raise UnavailableError(self._why)
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
        if len(self._known) > _MOST_KNOWN:
            self._known.clear()
        new = sorted({text for text in texts if text.strip() and text not in self._known})
        found = self._read(new) if new else {}
        for index, text in enumerate(new):
            if str(index) not in found:  # the package prints the error and leaves the text out
                raise UserError(f'metrics=radgraph: the package could not read "{text:.80}": leave radgraph out')
            self._known[text] = found[str(index)]["entities"]
        return {text: self._known[text] if text.strip() else {} for text in texts}


def _simple(entities: Entities) -> Facts:
    return {(one["tokens"].lower(), one["label"]) for one in entities.values()}


def _partial(entities: Entities) -> Facts:
    return {(one["tokens"].lower(), one["label"], bool(one["relations"])) for one in entities.values()}


def _complete(entities: Entities) -> Facts:
    alone = {(one["tokens"].lower(), one["label"]) for one in entities.values() if not one["relations"]}
    related = {
        (one["tokens"].lower(), one["label"], kind, entities[of]["tokens"].lower())
        for one in entities.values()
        for kind, of in one["relations"]
    }
    return alone | related


LEVELS: dict[str, Callable[[Entities], Facts]] = {"simple": _simple, "partial": _partial, "complete": _complete}


def f1(reference: Facts, report: Facts) -> float:
    """Of two sets; 0 where they share nothing."""
    return 2 * len(reference & report) / (len(reference) + len(report)) if reference & report else 0.0


def _reader(path: Path, bert: Path, model: str) -> Callable[[list[str]], dict[str, Any]]:
    """The package's model on these files. It fetches from the hub what its config.json names, so it gets another one.

    Raises ModuleNotFoundError where the package is not installed.
    """
    from radgraph import RadGraph
    from radgraph.allennlp.common import cached_transformers

    _mend(cached_transformers)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        staged = Path(folder) / model
        staged.mkdir()
        for name in ("vocabulary", "weights.th"):
            (staged / name).symlink_to((path / name).absolute())
        try:
            config = json.loads((path / "config.json").read_text(encoding="utf-8"))
            for place in (
                config["dataset_reader"]["token_indexers"]["bert"],
                config["model"]["embedder"]["token_embedders"]["bert"],
            ):
                place["model_name"] = str(bert.absolute())
            (staged / "config.json").write_text(json.dumps(config), encoding="utf-8")
            read = RadGraph(model_type=model, model_cache_dir=folder)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            told = " ".join(str(error).split())
            raise UserError(f"metrics.radgraph.path={path} with metrics.radgraph.bert={bert}: {told:.300}") from error

    def quietly(texts: list[str]) -> dict[str, Any]:
        with contextlib.redirect_stdout(io.StringIO()):
            found: dict[str, Any] = read(texts)
        return found

    return quietly


def _mend(cached_transformers: Any) -> None:
    """Give the package's tokenizers the two methods that transformers 5 has dropped."""
    made = cached_transformers.get_tokenizer

    def get_tokenizer(name: str, **options: Any) -> Any:
        tokenizer = made(name, **options)
        if not hasattr(tokenizer, "encode_plus"):
            tokenizer.encode_plus = tokenizer.__call__
            tokenizer.build_inputs_with_special_tokens = lambda ids: [
                tokenizer.cls_token_id,
                *ids,
                tokenizer.sep_token_id,
            ]
        return tokenizer

    cached_transformers.get_tokenizer = get_tokenizer
