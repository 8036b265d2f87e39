"""CheXbert's scores agree with labels computed here with plain tensors, from a checkpoint in the published layout."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import BertConfig, BertModel

from r2gen.errors import UserError
from r2gen.evaluate.chexbert import CheXbert
from r2gen.evaluate.chexbert_model import HEADS, Labeler
from r2gen.evaluate.nlg import Bleu
from r2gen.evaluate.scoring import score_reports, sums_of_scores

VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] the lungs are clear no effusion heart is large edema of both . ##s opacity"
WORDS = VOCABULARY.split()
SHAPE = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 12,
}
REFERENCES = {
    "a": "The lungs are clear.",
    "b": "no effusion . heart is large",
    "c": "edema of both lungs .",
    "d": "opacity . the heart is large .",
    "e": "no edema no opacity",
}
REPORTS = {"a": "the lungs are clear .", "b": "heart is large", "c": "opacity", "d": "", "e": "edema " * 40}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **SHAPE}))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder


def weights() -> dict[str, torch.Tensor]:
    """Random weights with the published names. Attention weights are large, so that labels depend on the words."""
    source = torch.Generator().manual_seed(3)
    model = BertModel(BertConfig(**SHAPE))
    tensors = {
        f"module.bert.{name}": torch.randn(tensor.shape, generator=source) * (4 if "attention" in name else 1)
        for name, tensor in model.state_dict().items()
    }
    for head in range(14):
        classes = 2 if head == 13 else 4
        tensors[f"module.linear_heads.{head}.weight"] = torch.randn(classes, 16, generator=source)
        tensors[f"module.linear_heads.{head}.bias"] = torch.randn(classes, generator=source)
    return tensors


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("chexbert") / "chexbert.pth"
    torch.save({"epoch": 3, "model_state_dict": weights(), "loss": 0.5}, file, _use_new_zipfile_serialization=False)
    return file


def expected_labels(text: str) -> list[int]:
    """The class of each head, by an encoder of plain tensor operations on one text."""
    w = {name.removeprefix("module."): value.double() for name, value in weights().items()}
    ids = [2, *(WORDS.index(word) for word in text.lower().replace(".", " . ").split()), 3]
    ids = ids if len(ids) <= 12 else [*ids[:11], 3]
    at, layer = "bert.embeddings.", "bert.encoder.layer.0."

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(x, (16,), w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-12)

    x = w[f"{at}word_embeddings.weight"][ids] + w[f"{at}position_embeddings.weight"][: len(ids)]
    x = norm(x + w[f"{at}token_type_embeddings.weight"][0], f"{at}LayerNorm")
    q, k, v = (
        linear(x, f"{layer}attention.self.{name}").view(-1, 2, 8).transpose(0, 1) for name in ("query", "key", "value")
    )
    mixed = (torch.softmax(q @ k.transpose(1, 2) / 8**0.5, dim=-1) @ v).transpose(0, 1).reshape(-1, 16)
    x = norm(x + linear(mixed, f"{layer}attention.output.dense"), f"{layer}attention.output.LayerNorm")
    inner = functional.gelu(linear(x, f"{layer}intermediate.dense"))
    x = norm(x + linear(inner, f"{layer}output.dense"), f"{layer}output.LayerNorm")
    return [int(linear(x[0], f"linear_heads.{head}").argmax()) for head in range(14)]


def test_labels_and_scores_agree_with_plain_tensor_operations(checkpoint: Path, bert: Path) -> None:
    metric = CheXbert(path=str(checkpoint), bert=str(bert), batch_size=3)
    true = {id: expected_labels(text) for id, text in REFERENCES.items()}
    stated = {id: expected_labels(text) for id, text in REPORTS.items()}
    assert len({tuple(labels) for labels in (*true.values(), *stated.values())}) > 3
    scores = score_reports({"chexbert": metric}, REFERENCES, REPORTS)
    positive = {1, 3}  # uncertain counts as positive
    rates = []
    for head in range(14):
        pairs = [(true[id][head] in positive, stated[id][head] in positive) for id in REFERENCES]
        right, reported, support = (
            sum(both) for both in ((t and s for t, s in pairs), (s for _, s in pairs), (t for t, _ in pairs))
        )
        rates.append((HEADS[head], right, reported, support))
        assert scores.details["chexbert"][HEADS[head]]["support"] == support
        assert scores.details["chexbert"][HEADS[head]]["stated"] == reported
    five = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
    for size, chosen in (("14", rates), ("5", [counts for counts in rates if counts[0] in five])):
        right, reported, support = (sum(counts[part] for counts in chosen) for part in (1, 2, 3))
        assert scores.corpus[f"chexbert_f1_micro_{size}"] == pytest.approx(2 * right / (reported + support))
        each = [2 * counts[1] / (counts[2] + counts[3]) for counts in chosen if counts[3]]
        assert scores.corpus[f"chexbert_f1_macro_{size}"] == pytest.approx(sum(each) / len(each))
    assert set(scores.corpus) == {spec.name for spec in CheXbert.scores}
    for sums in sums_of_scores({"chexbert": metric}, REFERENCES, REPORTS, scores):
        assert sums.of_all() == pytest.approx([scores.corpus[name] for name in sums.names])


def test_a_label_does_not_depend_on_the_batch(checkpoint: Path, bert: Path) -> None:
    texts = [*REFERENCES.values(), *REPORTS.values(), "no\n\teffusion  . heart is large"]
    together = Labeler(checkpoint, bert, batch_size=32).labels(texts)
    alone = Labeler(checkpoint, bert, batch_size=1).labels(texts)
    assert together == alone
    assert together[texts[-1]] == together[REFERENCES["b"]]


def test_the_signature_names_the_weights(checkpoint: Path, bert: Path) -> None:
    signed = CheXbert(path=str(checkpoint), bert=str(bert))(REFERENCES, REPORTS).signatures["chexbert"]
    assert len(signed["model"]) == 16
    assert signed["truncation"] == "12 tokens"
    assert signed["uncertain"] == "positive"


def test_without_weights_it_is_unavailable_and_other_metrics_are_scored() -> None:
    metrics: dict[str, Any] = {"chexbert": CheXbert(), "bleu": Bleu()}
    scores = score_reports(metrics, REFERENCES, REPORTS)
    assert "metrics.chexbert.path=FILE" in scores.unavailable["chexbert"]
    assert not any(name.startswith("chexbert") for name in scores.corpus)
    assert {name for sums in sums_of_scores(metrics, REFERENCES, REPORTS, scores) for name in sums.names} == set(
        scores.corpus
    )


def broken(tensors: dict[str, torch.Tensor], change: str) -> Any:
    if change == "a head is missing":
        tensors.pop("module.linear_heads.5.bias")
    if change == "a tensor too many":
        tensors["module.classifier.weight"] = torch.zeros(2)
    if change == "another width":
        tensors["module.linear_heads.0.weight"] = torch.zeros(4, 8)
    return {"model_state_dict": tensors if change != "no tensors" else {"a": 1}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("a head is missing", r"Missing key.*linear_heads\.5\.bias"),
        ("a tensor too many", r"Unexpected key.*classifier"),
        ("another width", r"size mismatch"),
        ("no tensors", "contains no model_state_dict of tensors"),
    ],
)
def test_a_checkpoint_is_read_strictly(tmp_path: Path, bert: Path, change: str, message: str) -> None:
    file = tmp_path / "chexbert.pth"
    torch.save(broken(weights(), change), file)
    with pytest.raises(UserError, match=message):
        CheXbert(path=str(file), bert=str(bert))


def test_wrong_files_are_refused(tmp_path: Path, checkpoint: Path, bert: Path) -> None:
    (tmp_path / "text").write_text("no checkpoint")
    with pytest.raises(UserError, match="cannot be read as tensors"):
        CheXbert(path=str(tmp_path / "text"), bert=str(bert))
    with pytest.raises(UserError, match="not a file"):
        CheXbert(path=str(tmp_path), bert=str(bert))
    with pytest.raises(UserError, match=r"the folder has no config\.json"):
        CheXbert(path=str(checkpoint), bert=str(tmp_path))
    with pytest.raises(UserError, match=r"needs metrics\.chexbert\.bert=FOLDER"):
        CheXbert(path=str(checkpoint))
