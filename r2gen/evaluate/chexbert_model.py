"""The published CheXbert labeler: BERT's last layer at [CLS] and 14 linear heads.

The classes of a head are blank, positive, negative and uncertain; "No Finding" has blank and positive only. Source:
github.com/stanfordmlgroup/CheXbert.
"""

import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertModel, BertTokenizer

from r2gen.errors import UserError
from r2gen.evaluate.labeler import NO_FINDING, Status
from r2gen.runs.provenance import files_hash
from r2gen.runs.untrusted import refuse_compressed

# The heads of the checkpoint, in order.
HEADS = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    NO_FINDING,
)
CLASSES = (None, Status.POSITIVE, Status.NEGATIVE, Status.UNCERTAIN)
_BUFFER = "bert.embeddings.position_ids"  # transformers before 4.31 saved this buffer
_MOST_CACHED = 200_000

Labels = dict[str, Status | None]


class Labeler:
    """The published labeler, read from its files. It labels on the GPU if there is one, and leaves it afterwards."""

    def __init__(self, checkpoint: Path, bert: Path, *, batch_size: int) -> None:
        if not checkpoint.is_file():
            raise UserError(f"metrics.chexbert.path={checkpoint}: not a file. Pass chexbert.pth.")
        for file in (bert / "config.json", bert / "vocab.txt"):
            if not file.is_file():
                raise UserError(
                    f"metrics.chexbert.bert={bert}: the folder has no {file.name}. Pass that of bert-base-uncased."
                )
        config = BertConfig.from_pretrained(bert)
        self.most_tokens: int = config.max_position_embeddings
        self.model_hash = files_hash(checkpoint)
        self.vocabulary_hash = hashlib.sha256((bert / "vocab.txt").read_bytes()).hexdigest()[:8]
        self._tokenizer = BertTokenizer.from_pretrained(bert, do_lower_case=True)
        self._model = _model(checkpoint, config)
        self._batch_size = batch_size
        self._cache: dict[str, Labels] = {}  # every system is scored against the same references

    def labels(self, texts: Sequence[str]) -> dict[str, Labels]:
        """By text and observation: its status, None if the text does not mention it."""
        if len(self._cache) > _MOST_CACHED:
            self._cache.clear()
        new = sorted({text for text in texts if text not in self._cache}, key=lambda text: (len(text), text))
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model.to(device)
        for start in range(0, len(new), self._batch_size):
            batch = new[start : start + self._batch_size]
            self._cache |= dict(zip(batch, self._label(batch, device), strict=True))
        self._model.to("cpu")
        return {text: self._cache[text] for text in texts}

    @torch.inference_mode()
    def _label(self, texts: Sequence[str], device: torch.device) -> list[Labels]:
        # B texts, T tokens, H heads
        ids_of = [self._ids(text) for text in texts]
        longest = max(map(len, ids_of))
        ids_BT = torch.tensor([[*ids, *[self._tokenizer.pad_token_id] * (longest - len(ids))] for ids in ids_of])
        mask_BT = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in ids_of])
        classes_HB = [scores.argmax(dim=1).tolist() for scores in self._model(ids_BT.to(device), mask_BT.to(device))]
        return [
            {finding: CLASSES[chosen] for finding, chosen in zip(HEADS, of_text, strict=True)}
            for of_text in zip(*classes_HB, strict=True)
        ]

    def _ids(self, text: str) -> list[int]:
        """[CLS], the tokens of the text, [SEP]; a long text is cut at its end."""
        ids: list[int] = self._tokenizer(" ".join(text.split()), verbose=False)["input_ids"]
        return ids if len(ids) <= self.most_tokens else [*ids[: self.most_tokens - 1], self._tokenizer.sep_token_id]


class _Heads(nn.Module):
    """The published modules, with the names that they have in the checkpoint."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.bert = BertModel(config)
        sizes = [2 if finding == NO_FINDING else len(CLASSES) for finding in HEADS]
        self.linear_heads = nn.ModuleList(nn.Linear(config.hidden_size, size) for size in sizes)

    def forward(self, ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> list[torch.Tensor]:
        first_BD = self.bert(ids_BT, attention_mask=mask_BT).last_hidden_state[:, 0]
        return [head(first_BD) for head in self.linear_heads]


def _model(checkpoint: Path, config: BertConfig) -> _Heads:
    option = f"metrics.chexbert.path={checkpoint}"
    try:
        refuse_compressed(checkpoint)
        content: Any = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(f"{option}: cannot be read as tensors: {str(error).splitlines()[0]}") from error
    state = content.get("model_state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{option}: contains no model_state_dict of tensors. Pass chexbert.pth.")
    weights = {name.removeprefix("module."): value for name, value in state.items()}
    weights.pop(_BUFFER, None)
    # The initial weights are overwritten, and must not change a run's random numbers.
    with torch.random.fork_rng(devices=[]):
        model = _Heads(config)
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        reasons = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise UserError(f"{option}: does not fit the BERT of metrics.chexbert.bert: {reasons:.400}") from error
    return model.eval()
