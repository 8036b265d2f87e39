"""RadGraph F1 compares in lower case, and is unavailable without weights or the package."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from r2gen.errors import UserError
from r2gen.evaluate.nlg import Bleu
from r2gen.evaluate.radgraph import LEVELS, RadGraphF1, _add_missing_methods, f1
from r2gen.evaluate.scoring import score_reports

MODEL = "radgraph-xl"
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "lungs",
    "are",
    "clear",
    "no",
    "heart",
    "is",
    "large",
    ".",
    "a",
    "b",
]
BERT = {
    "model_type": "bert",
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
CLEAR = {
    "1": {"tokens": "Lungs", "label": "Anatomy::definitely present", "relations": []},
    "2": {"tokens": "Clear", "label": "Observation::definite", "relations": [["located_at", "1"]]},
}
LOWER = {number: {**entity, "tokens": entity["tokens"].lower()} for number, entity in CLEAR.items()}
UNRELATED = {number: {**entity, "relations": []} for number, entity in LOWER.items()}


@pytest.mark.parametrize(("level", "expected"), [("simple", 1.0), ("partial", 1 / 2), ("complete", 1 / 2)])
def test_entities_and_relations_are_compared_in_lower_case(level: str, expected: float) -> None:
    facts = LEVELS[level]
    assert f1(facts(CLEAR), facts(LOWER)) == 1.0  # the package gives at most 2/3, since "Lungs" and "lungs" differ
    assert f1(facts(LOWER), facts(UNRELATED)) == pytest.approx(expected)
    assert f1(facts(LOWER), facts({})) == f1(facts({}), facts({})) == 0.0


def test_without_weights_it_is_unavailable_and_other_metrics_are_scored() -> None:
    scores = score_reports({"radgraph": RadGraphF1(), "bleu": Bleu()}, {"a": "x"}, {"a": "x"})
    assert "metrics.radgraph.path=FOLDER" in scores.unavailable["radgraph"]
    assert "bleu_4" in scores.corpus


def test_without_the_package_it_is_unavailable(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    (files[0] / "weights.th").touch()
    monkeypatch.setitem(sys.modules, "radgraph", None)  # type: ignore[arg-type]
    scores = score_reports({"radgraph": RadGraphF1(path=str(files[0]), bert=str(files[1]))}, {"a": "x"}, {"a": "x"})
    assert "pip install -c constraints.txt -e '.[radgraph]'" in scores.unavailable["radgraph"]


def test_a_wrong_folder_is_refused(files: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"the folder has no weights\.th"):
        RadGraphF1(path=str(files[0]), bert=str(files[1]))
    with pytest.raises(UserError, match=r"needs metrics\.radgraph\.bert"):
        RadGraphF1(path=str(files[0]))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A small model in the published layout: the unpacked archive without weights.th, and the encoder's folder."""
    bert, model = tmp_path / "bert", tmp_path / "radgraph-xl"
    bert.mkdir()
    (bert / "config.json").write_text(json.dumps(BERT))
    (bert / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (model / "vocabulary").mkdir(parents=True)
    named = {"bert": {"max_length": 32, "model_name": "microsoft/an-encoder-on-the-hub"}}
    modules = {
        "coref": {"max_antecedents": 10, "spans_per_word": 0.3},
        "ner": {},
        "relation": {"spans_per_word": 0.5},
        "events": {
            "argument_spans_per_word": 0.8,
            "loss_weights": {"arguments": 1, "trigger": 1},
            "trigger_spans_per_word": 0.3,
        },
    }
    settings = {
        "type": "dygie",
        "embedder": {"token_embedders": named},
        "feature_size": 5,
        "max_span_width": 3,
        "feedforward_params": {"dropout": 0.4, "hidden_dims": 8, "num_layers": 1},
        "initializer": {},
        "module_initializer": {},
        "loss_weights": {"ner": 0.2, "relation": 1.0, "coref": 0.0, "events": 0.0},
        "modules": modules,
        "target_task": "relation",
    }
    reader = {"max_span_width": 3, "token_indexers": named}
    (model / "config.json").write_text(json.dumps({"dataset_reader": reader, "model": settings}))
    labels = {
        "ner": ["", *(f"Observation::{status}" for status in ("definitely present", "uncertain")), "Anatomy::x"],
        "relation": ["", "modify", "located_at"],
    }
    (model / "vocabulary" / "non_padded_namespaces.txt").write_text("*labels\n*tags\n")
    for kind, names in labels.items():
        (model / "vocabulary" / f"{MODEL}__{kind}_labels.txt").write_text("\n".join(names) + "\n")
    return model, bert


def test_the_package_runs_on_local_files(files: tuple[Path, Path]) -> None:
    pytest.importorskip("radgraph")
    from radgraph.rewards import compute_reward

    model, bert = files
    torch.save(random_weights(model, bert), model / "weights.th")
    metric = RadGraphF1(path=str(model), bert=str(bert))
    references = {"same": "the heart is large .", "case": "The Heart is LARGE .", "other": "lungs clear", "empty": "no"}
    reports = {"same": "the heart is large .", "case": "the heart is large .", "other": "the heart is", "empty": ""}
    scores = metric(references, reports)
    for level in LEVELS:
        of_study = scores.per_report[f"radgraph_{level}"]
        assert of_study["same"] == of_study["case"] == 1.0
        assert of_study["empty"] == 0.0
    assert metric._read is not None
    both = metric._read([references["other"], reports["other"], references["case"], reports["case"]])
    rewards = dict(
        zip(LEVELS, compute_reward(both["1"], both["0"], "all"), strict=True)
    )  # the package agrees on texts in lower case
    assert {level: scores.per_report[f"radgraph_{level}"]["other"] for level in LEVELS} == pytest.approx(rewards)
    assert compute_reward(both["3"], both["2"], "simple") < 1  # the package distinguishes "Heart" and "heart"
    assert scores.signatures["radgraph"]["version"] == "0.1.18"
    assert len(scores.signatures["radgraph"]["model"]) == 16


def random_weights(model: Path, bert: Path) -> dict[str, Any]:
    """Random weights with the names in the package's model."""
    from radgraph.allennlp.common import cached_transformers
    from radgraph.allennlp.data import Vocabulary
    from radgraph.allennlp.modules import text_field_embedders, token_embedders
    from radgraph.dygie.models import dygie

    _add_missing_methods(cached_transformers)
    settings = json.loads((model / "config.json").read_text())["model"]
    for name in ("type", "embedder", "initializer", "module_initializer"):
        del settings[name]
    encoder = token_embedders.PretrainedTransformerMismatchedEmbedder(model_name=str(bert), max_length=32)
    embedder = text_field_embedders.BasicTextFieldEmbedder({"bert": encoder})
    network = dygie.DyGIE(Vocabulary.from_files(str(model / "vocabulary")), embedder, **settings)
    source = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(tensor.shape, generator=source) if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
