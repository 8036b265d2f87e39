"""Language models from a checkpoint folder, from the hub, or drawn at random."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    StrictDataclassError,
)
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel
from transformers.utils import logging

from r2gen.errors import UserError
from r2gen.lm.causal import CausalLM
from r2gen.lm.protocol import LanguageModel
from r2gen.lm.tokenizer import ReportTokenizer, read_tokenizer

FAMILIES = ("llama",)  # model_type of config.json
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
FACTS = ["*.json", "*.model", "*.tiktoken"]
OTHER_FORMATS = ["original/*", "onnx/*", "consolidated*"]  # the same weights again, gigabytes
RANDOM_POSITIONS = 2048  # prompt and report of a random LLaMA
IGNORABLE = re.compile(r"rotary_emb\.inv_freq$")  # derived from the config; old checkpoints carry it


def load_lm(
    path: str | Path, *, revision: str | None = None, dtype: str = "float32", attention: str = "sdpa",
    stop: Sequence[str] = (), gradient_checkpointing: bool = False,
) -> LanguageModel:  # fmt: skip
    """The language model of a folder or of a hub id, in eval(), on the CPU.

    The family is read from config.json; code from the checkpoint is never run. `dtype` is float32, bfloat16, float16 or
    auto (the checkpoint's own), `attention` sdpa or eager, `stop` further tokens that end a report. `revision` is the
    hub's. Raises UserError where the checkpoint is missing, incomplete, damaged, or of an unknown family.
    """
    folder = _checkpoint_folder(path, revision)
    _check_family(folder)
    tokenizer = read_tokenizer(folder, stop=stop)
    model = _read_model(folder, dtype=dtype, attention=attention)
    rows = model.get_input_embeddings().get_parameter("weight").shape[0]
    used = max(*tokenizer.eos_ids, tokenizer.pad_id, tokenizer.bos_id or 0, tokenizer.vocabulary_size - 1)
    if used >= rows:
        raise UserError(f"lm.path: {folder}: the tokenizer has ids up to {used}, the weights {rows} rows: these files "
                        "do not belong together")  # fmt: skip
    return CausalLM(model, tokenizer, gradient_checkpointing=gradient_checkpointing)


def random_lm(
    *, tokenizer: ReportTokenizer, seed: int, hidden_size: int, num_hidden_layers: int, num_attention_heads: int,
    intermediate_size: int, dtype: str = "float32", attention: str = "sdpa", gradient_checkpointing: bool = False,
) -> LanguageModel:  # fmt: skip
    """A LLaMA of this shape with weights drawn from the seed; the caller's random state is left as it was.

    `dtype` and `attention` as in load_lm (auto is float32 here); the draw is the same in every dtype. Raises
    UserError where the heads do not divide the width into even parts, which rotary positions need.
    """
    if hidden_size % (2 * num_attention_heads):
        raise UserError(f"lm.architecture.hidden_size={hidden_size}: give a multiple of twice num_attention_heads="
                        f"{num_attention_heads}")  # fmt: skip
    config = LlamaConfig(
        vocab_size=tokenizer.vocabulary_size, hidden_size=hidden_size, num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads, intermediate_size=intermediate_size,
        max_position_embeddings=RANDOM_POSITIONS, bos_token_id=tokenizer.bos_id, eos_token_id=tokenizer.end_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)
    for parameter in model.parameters():  # not model.to(): rotary frequencies are buffers and stay in float32
        parameter.data = parameter.data.to(torch.float32 if dtype == "auto" else DTYPES[dtype])
    return CausalLM(model.eval(), tokenizer, gradient_checkpointing=gradient_checkpointing)


def _checkpoint_folder(path: str | Path, revision: str | None) -> Path:
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) or str(path).startswith("."):
        raise UserError(f"lm.path={path}: there is no such folder; give a checkpoint's folder or a hub id (owner/name)")
    found = _from_hub(str(path), revision, [*FACTS, "*.safetensors"])
    if not any(found.glob("*.safetensors")):
        found = _from_hub(str(path), revision, [*FACTS, "*.bin"])
    return found


def _from_hub(name: str, revision: str | None, patterns: list[str]) -> Path:
    where = f"lm.path={name}" + (f", lm.revision={revision}" if revision else "")
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=OTHER_FORMATS))
    except GatedRepoError as error:
        raise UserError(f"{where}: the hub asks to accept its licence: do so on https://huggingface.co/{name}, then "
                        "run `hf auth login`, and repeat with hub=online") from error  # fmt: skip
    except LocalEntryNotFoundError as error:
        fix = ("the hub could not be reached" if not constants.HF_HUB_OFFLINE else
               "no network is used: fetch it once with hub=online, or set lm.path to a folder")  # fmt: skip
        raise UserError(f"{where} is not a folder, and not in the local hub cache; {fix}") from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(f"{where}: the hub does not give it: {error}") from error


def _check_family(folder: Path) -> None:
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"lm.path: {folder} has no config.json: it is not a checkpoint folder of transformers' layout")
    try:
        family = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError) as error:
        raise UserError(f"lm.path: {file} is not a JSON dictionary: {error}") from error
    if family not in FAMILIES:
        raise UserError(f"lm.path: {file} says model_type={family}; supported: {', '.join(FAMILIES)}")


def _read_model(folder: Path, *, dtype: str, attention: str) -> PreTrainedModel:
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        raise UserError(f"lm.path: {folder} has no weights (*.safetensors or pytorch_model*.bin)")
    try:
        with _quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype="auto" if dtype == "auto" else DTYPES[dtype], attn_implementation=attention,
                trust_remote_code=False, local_files_only=True, weights_only=True, output_loading_info=True,
                ignore_mismatched_sizes=True,
            )  # fmt: skip
    except (UnpicklingError, EOFError) as error:  # torch's text advises to run what the file holds
        raise UserError(f"lm.path: the weights in {folder} cannot be read: a *.bin file is damaged, not fetched "
                        "through git lfs, or holds more than tensors") from error  # fmt: skip
    except (OSError, SafetensorError) as error:
        raise UserError(f"lm.path: the weights in {folder} cannot be read: {error}") from error
    except (KeyError, ValueError, ImportError, StrictDataclassError) as error:
        file = folder / "config.json"
        raise UserError(f"lm.path: transformers cannot build what {file} describes: {error}") from error
    model, report = loaded
    _check_complete(folder, report)
    return model.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar and its table of tensors, of which _check_complete says what matters."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _check_complete(folder: Path, report: dict[str, Any]) -> None:
    """Refuse weights that do not fill the model exactly; transformers would draw the missing ones at random."""
    for kind in ("missing", "unexpected", "mismatched"):
        keys = [key if isinstance(key, str) else key[0] for key in report[f"{kind}_keys"]]
        names = sorted(name for name in keys if not IGNORABLE.search(name))
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise UserError(f"lm.path: {folder}: {len(names)} {kind} tensors: {shown}; the weights and config.json do "
                            "not belong together, or a file is incomplete")  # fmt: skip
