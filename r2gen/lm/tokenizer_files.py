"""The tokenizer of a checkpoint folder, whichever of the published files it has."""

import base64
import re
from pathlib import Path
from typing import Any

from r2gen.errors import UserError
from r2gen.lm.checkpoint import read_json
from r2gen.lm.codecs import SENTENCES, Codec, SentencePiece, Tiktoken, TokenizerJson
from r2gen.lm.families import tokenizer_formats
from r2gen.lm.family import TokenizerFormat
from r2gen.lm.library_logs import quiet_transformers
from r2gen.lm.special_tokens import SpecialToken, SpecialTokens, tokenizer_format

FAST, VOCABULARY, MERGES, TEKKEN = "tokenizer.json", "vocab.json", "merges.txt", "tekken.json"
TIKTOKEN_LINE = re.compile(rb"[A-Za-z0-9+/]+=* \d+\r?\n")
# Of a tekken.json before version 11, which does not list them (mistral-common 1.13, DEPRECATED_SPECIAL_TOKENS).
TEKKEN_SPECIAL = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]"),
    *("[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]"),
    *("[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]"),
)


def tokenizer_files(folder: Path) -> list[Path]:
    """Those that exist of tokenizer.json, sentencepiece's files, those whose name belongs to a published format, and
    where none of these exists, tekken.json or vocab.json with merges.txt."""
    first = [folder / name for name in (FAST, *_slow_names()) if (folder / name).is_file()]
    others = [[folder / TEKKEN], [folder / VOCABULARY, folder / MERGES]]
    return first or next((files for files in others if all(file.is_file() for file in files)), [])


def _slow_names() -> list[str]:
    return ["tokenizer.model", "spiece.model", *(kind.file for kind in tokenizer_formats() if kind.file)]


def read_codec(folder: Path) -> Codec:
    """The tokenizer of a checkpoint folder.

    Raises UserError if there is none, or if tokenizer.json and another tokenizer file encode SENTENCES differently.
    """
    files = tokenizer_files(folder)
    if not files:
        raise UserError(
            f"lm.path: {folder} has neither tokenizer.model nor {FAST} (nor {', '.join(_slow_names()[1:])}, {TEKKEN}, "
            f"{VOCABULARY} with {MERGES}): copy the checkpoint's own tokenizer files into it"
        )
    file = next((file for file in files if file.name != FAST), None)
    if file is None:
        return TokenizerJson.read(files[0])
    if file.name == TEKKEN:
        return read_tekken(file)
    if file.name == VOCABULARY:
        return _from_vocabulary(folder)
    codec = Tiktoken.read(file, _tiktoken_format(file)) if _is_tiktoken(file) else SentencePiece(file)
    if files[0].name == FAST:
        other = TokenizerJson.read(files[0])
        for sentence in SENTENCES:
            if codec.encode(sentence) != other.encode(sentence):
                raise UserError(
                    f"lm.path: {file.name} and tokenizer.json in {folder} encode {sentence!r} "
                    "differently: keep the one this checkpoint was trained with"
                )
        if isinstance(codec, SentencePiece):
            codec.use_fast(other)
    return codec


def read_tekken(file: Path) -> Tiktoken:
    """Mistral's tekken.json. Its special tokens come first, then the byte strings in the order of their ranks."""
    content = read_json(file)
    try:
        settings: Any = content["config"]
        count, size = int(settings["default_num_special_tokens"]), int(settings["default_vocab_size"])
        listed: Any = content.get("special_tokens") or [
            {"rank": i, "token_str": name} for i, name in enumerate(TEKKEN_SPECIAL[:count])
        ]
        special = {str(token["token_str"]): SpecialToken(int(token["rank"])) for token in listed}
        ranks = {base64.b64decode(token["token_bytes"]): int(token["rank"]) for token in content["vocab"]}
        ids = {token: rank + count for token, rank in ranks.items() if rank < size - count}
        if not ids:
            raise ValueError("its vocabulary is empty")
        return Tiktoken("tekken", ids, split=str(settings["pattern"]), special=SpecialTokens(special))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"lm.path: {file} is not a tekken tokenizer ({why}): copy the checkpoint's own tokenizer files"
        ) from error


def _from_vocabulary(folder: Path) -> TokenizerJson:
    """vocab.json and merges.txt as the class in tokenizer_config.json, or that of the model_type, reads them."""
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            return TokenizerJson(tokenizer.backend_tokenizer)
    except Exception as error:  # transformers and tokenizers raise many types
        raise UserError(
            f"lm.path: {folder}: {VOCABULARY} and {MERGES} cannot be read ({' '.join(str(error).split()):.200}): copy "
            f"the checkpoint's {FAST} into it"
        ) from error


def _is_tiktoken(file: Path) -> bool:
    """Whether this is a tiktoken file, by its name or its content: GLM-4's is called tokenizer.model."""
    if file.suffix == ".tiktoken":
        return True
    with file.open("rb") as opened:
        return TIKTOKEN_LINE.fullmatch(opened.readline(200)) is not None


def _tiktoken_format(file: Path) -> TokenizerFormat:
    """The format with this file name, or else the one the checkpoint names, or else the first without a file name."""
    kinds = [kind for kind in tokenizer_formats() if kind.split]
    named = tokenizer_format(file.parent)
    candidates = [kind for kind in kinds if kind.file == file.name] or [kind for kind in kinds if kind == named]
    return (candidates or [kind for kind in kinds if kind.file is None])[0]
