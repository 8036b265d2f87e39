"""A GGUF file (llama.cpp) as a checkpoint: transformers reads its configuration, tokenizer and weights.

Of the files that are read here, the logits were compared with those of the model that the file was made from
(benchmarks/published_forms.py). Any other architecture is refused, since transformers would leave out what it does not
know: scaled rotary frequencies, for example.
"""

import shutil
from collections import Counter
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel
from transformers.tokenization_utils_base import generate_merges

from r2gen.errors import UserError
from r2gen.lm.checkpoint_forms import check_gguf
from r2gen.lm.library_logs import quiet_transformers
from r2gen.runs.untrusted import parse_json

# The value of general.architecture, and those of tokenizer.ggml.pre: how a text is split before pairs are merged.
ARCHITECTURES = ("gemma2", "gemma3", "llama", "qwen2", "qwen3")
SPLITS = ("default", "gpt-2", "qwen2", "smollm")
HEAD_WIDTH = {"gemma2": 256, "gemma3": 256}  # with another one, the scale of attention is not in the file
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
NEXT_TO_IT = (
    "config.json",
    "generation_config.json",
    *TOKENIZER_FILES,
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "chat_template.jinja",
)
FULL_PRECISION = ("F32", "F16", "BF16")
_unpacked: dict[Path, "TemporaryDirectory[str]"] = {}


def unpacked(file: Path) -> Path:
    """A folder with the config.json and the tokenizer of a GGUF file; it is removed when this process ends.

    A config.json or tokenizer in the folder of the file is used instead, since it is complete. Raises UserError if the
    file is damaged, or transformers does not read all of it.
    """
    file = file.resolve()
    parent = file.parent
    has_tokenizer = any((parent / name).is_file() for name in TOKENIZER_FILES)
    if (parent / "config.json").is_file() and has_tokenizer:
        return parent
    if file not in _unpacked:
        metadata = _metadata(file)
        temporary = TemporaryDirectory(prefix="r2gen-gguf-")
        folder = Path(temporary.name) / file.name
        folder.mkdir()
        for name in NEXT_TO_IT:
            if (parent / name).is_file():
                shutil.copyfile(parent / name, folder / name)
        try:
            with quiet_transformers():
                if not (folder / "config.json").is_file():
                    _refuse_unknown(file, metadata)
                    AutoConfig.from_pretrained(parent, gguf_file=file.name, local_files_only=True).save_pretrained(
                        folder
                    )
                if not has_tokenizer:
                    _refuse_other_split(file, metadata)
                    tokenizer: Any = AutoTokenizer.from_pretrained(parent, gguf_file=file.name, local_files_only=True)
                    if metadata.get("tokenizer.ggml.model") == "llama":
                        _merge_pairs(tokenizer.backend_tokenizer)
                    tokenizer.save_pretrained(folder)
        except UserError:
            raise
        except Exception as error:  # transformers and gguf raise many types
            raise _damaged(file, error) from error
        _unpacked[file] = temporary
    return Path(_unpacked[file].name) / file.name


def _merge_pairs(tokenizer: Tokenizer) -> None:
    """Let the tokenizer of a Gemma merge pairs of pieces in the order of its vocabulary.

    transformers before version 5.18 makes one of unigrams instead, which cuts most words into many pieces, and calls
    the byte 9 a tabulator.
    """
    if not isinstance(tokenizer.model, Unigram):
        return
    unigram = parse_json(tokenizer.to_str())["model"]
    pieces = [piece for piece, _ in unigram["vocab"]]
    pieces[pieces.index("<0x08>") + 1] = "<0x09>"
    numbers = {piece: number for number, piece in enumerate(pieces)}
    tokenizer.model = BPE(
        numbers,
        generate_merges(numbers, {piece: -number for piece, number in numbers.items()}),
        unk_token=pieces[unigram["unk_id"]],
        fuse_unk=True,
        byte_fallback=unigram["byte_fallback"],
    )


def check_all_read(file: Path, model: PreTrainedModel) -> None:
    """Raise UserError unless the file and the model have the same number of weights: transformers skips a tensor that
    it does not know. Then the model is one in full precision, which can be saved."""
    metadata = _metadata(file.resolve())
    stored = metadata["weights"]
    made = sum(parameter.numel() for parameter in model.parameters())
    if stored != made:
        raise UserError(
            f"lm.path: {file} has {stored:,} weights, and what transformers makes of it has {made:,}: put the "
            "config.json of the model from which the file was made next to it, or pass that model's own folder"
        )
    model.__dict__["hf_quantizer"], model.__dict__["gguf_type"] = None, _type(metadata)
    del model.config.quantization_config


def _type(metadata: dict[str, Any]) -> str | None:
    """The name of the quantisation, such as Q4_K; None if the weights are in full precision."""
    return None if metadata["type"] in FULL_PRECISION else f"GGUF {metadata['type']}"


def _reader(file: Path) -> Any:
    check_gguf(file)
    from gguf import GGUFReader

    try:
        return GGUFReader(file)
    except Exception as error:  # struct, numpy and gguf raise many types on a damaged file
        raise _damaged(file, error) from error


@lru_cache(maxsize=1)  # seconds for a large vocabulary
def _metadata(file: Path) -> dict[str, Any]:
    """The single values of a GGUF file by name, the names of its `tensors`, and the number of its `weights`."""
    reader = _reader(file)
    try:
        fields = {name: field.contents() for name, field in reader.fields.items() if len(field.data) == 1}
    except Exception as error:
        raise _damaged(file, error) from error
    by_type: Counter[str] = Counter()
    for tensor in reader.tensors:
        by_type[tensor.tensor_type.name] += int(tensor.n_elements)
    (most, _), *_ = by_type.most_common(1) or [("F32", 0)]
    return {
        **fields,
        "tensors": {tensor.name for tensor in reader.tensors},
        "weights": by_type.total(),
        "type": most,  # of most weights
    }


def _refuse_unknown(file: Path, metadata: dict[str, Any]) -> None:
    architecture = metadata.get("general.architecture")
    unknown = None
    if architecture not in ARCHITECTURES:
        unknown = f"its architecture is {architecture}, and those that are read are {', '.join(ARCHITECTURES)}"
    elif metadata.get(f"{architecture}.rope.scaling.type", "none") != "none" or any(
        name.startswith("rope_") for name in metadata["tensors"]
    ):
        unknown = "its rotary frequencies are scaled, which transformers does not read from it"
    else:
        width = metadata.get(f"{architecture}.attention.key_length")
        if width != HEAD_WIDTH.get(str(architecture), width):
            unknown = f"its attention heads have {width} values, and the scale of their scores is not in the file"
    if unknown is not None:
        raise UserError(
            f"lm.path: {file}: {unknown}: put the config.json of the model from which it was made next to it, or pass "
            "that model's own folder"
        )


def _refuse_other_split(file: Path, metadata: dict[str, Any]) -> None:
    split = metadata.get("tokenizer.ggml.pre", "default")
    if metadata.get("tokenizer.ggml.model") == "gpt2" and split not in SPLITS:
        raise UserError(
            f"lm.path: {file}: transformers does not read its tokenizer ({split}) exactly: put the tokenizer.json and "
            "tokenizer_config.json of the model from which it was made next to it"
        )


def _damaged(file: Path, error: Exception) -> UserError:
    why = " ".join(str(error).split()) or type(error).__name__
    return UserError(
        f"lm.path: {file} cannot be read as GGUF: it is truncated or damaged ({why:.300}): download it again"
    )
