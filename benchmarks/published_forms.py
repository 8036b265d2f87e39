"""Published tokenizers and GGUF files against the libraries that define them, on sentences of your own.

    python benchmarks/published_forms.py SENTENCES.txt mistral=FOLDER llama3=FOLDER FOLDER ... [--gguf]

SENTENCES.txt has one sentence per line. FOLDER has the published tokenizer files (weights are not needed) and, after a
row of conf/lm, is also used for its prompt. For each folder the table shows how many sentences

* `two files`: have other ids in tokenizer.json than in the other tokenizer file (- if there is one file),
* `library`: have other ids than those of transformers or, for tekken.json, of mistral-common,
* `decoded`: do not come back from their ids,

and whether the row's prompt has the ids that transformers gives the published chat template. With --gguf, tiny random
models of each architecture that r2gen/lm/gguf.py reads are written as GGUF with the folder's tokenizer.json, in the
layout of llama.cpp, and read again: the largest difference of logits, and sentences with other ids.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from omegaconf import OmegaConf
from transformers import AutoTokenizer, PreTrainedModel

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

from r2gen.config.prompt_pieces import MESSAGE
from r2gen.errors import UserError
from r2gen.lm import Prompt, load_lm
from r2gen.lm.chat_template import IMAGE, PLACEHOLDER
from r2gen.lm.codecs import Codec, TokenizerJson
from r2gen.lm.tokenizer import read_tokenizer
from r2gen.lm.tokenizer_files import read_codec, tokenizer_files

CONF = Path(__file__).parents[1] / "conf" / "lm"
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
# Architecture: its classes, and the fields that the file must have.
MODELS = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", {}),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", {}),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {"head_dim": 128}),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", {"head_dim": 256}),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", {"head_dim": 256}),
}


def differing(codec: Codec, others: Sequence[list[int]], sentences: Sequence[str]) -> int:
    return sum(codec.encode(sentence) != ids for sentence, ids in zip(sentences, others, strict=True))


def by_library(folder: Path, sentences: Sequence[str]) -> list[list[int]] | None:
    """Ids by transformers or mistral-common; None if that package is not installed."""
    if [file.name for file in tokenizer_files(folder)] == ["tekken.json"]:
        try:
            from mistral_common.tokens.tokenizers.tekken import Tekkenizer
        except ImportError:
            return None
        tekken = Tekkenizer.from_file(folder / "tekken.json")
        return [tekken.encode(sentence, bos=False, eos=False) for sentence in sentences]
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return [tokenizer.encode(sentence, add_special_tokens=False) for sentence in sentences]


def prompt_of_row(row: str, folder: Path) -> tuple[list[int], list[int]]:
    written: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{row}.yaml"))
    tokenizer = read_tokenizer(folder, stop=written["stop"], special_tokens=written.get("special_tokens"))
    prompt = {"before": "", "after": "", **written["prompt"]}
    around = Prompt(**prompt).around(tokenizer, context=False)
    return around.before, around.after


def prompt_of_template(folder: Path) -> tuple[list[int], list[int]]:
    """The ids of transformers for the checkpoint's chat template around the same message."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    user = {"role": "user", "content": MESSAGE.replace(IMAGE, PLACEHOLDER)}
    options = {"date_string": "26 Jul 2024", "enable_thinking": False}
    text = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True, **options)
    before, after = (tokenizer.encode(part, add_special_tokens=False) for part in text.split(PLACEHOLDER))
    return before, after


def prompt_line(row: str, folder: Path) -> str:
    try:
        ours, theirs = prompt_of_row(row, folder), prompt_of_template(folder)
    except (UserError, ValueError) as error:
        return f"{' '.join(str(error).split()):.80}"
    return "equal" if ours == theirs else f"differs: {ours} {theirs}"


def check_tokenizer(row: str, folder: Path, sentences: Sequence[str]) -> str:
    codec, fast = read_codec(folder), folder / "tokenizer.json"
    two = "-"
    if not isinstance(codec, TokenizerJson) and fast.is_file():
        other = TokenizerJson.read(fast)
        two = str(differing(codec, [other.encode(sentence) for sentence in sentences], sentences))
    library = by_library(folder, sentences)
    decoded = sum(codec.decode(codec.encode(sentence)) != sentence for sentence in sentences)
    counts = (two, "-" if library is None else differing(codec, library, sentences), decoded)
    prompt = prompt_line(row, folder) if row else ""
    return f"{row or folder.name:20} " + " ".join(f"{count!s:>9}" for count in counts) + f"  {prompt}"


def random_model(architecture: str, rows: int) -> PreTrainedModel:
    config_class, model_class, fields = MODELS[architecture]
    config = getattr(transformers, config_class)(vocab_size=rows, **{**SHAPE, **fields})
    torch.manual_seed(0)
    model: PreTrainedModel = getattr(transformers, model_class)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms of 1 would hide an offset
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def check_gguf(architecture: str, folder: Path, sentences: Sequence[str]) -> str:
    from gguf_file import write_gguf

    fast = TokenizerJson.read(folder / "tokenizer.json")
    rows = max(fast.tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    model = random_model(architecture, rows)
    pre = {"llama": "llama-bpe", "gemma2": "default", "gemma3": "default"}.get(architecture, "qwen2")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / f"{architecture}.gguf"
        write_gguf(file, model, folder, pre=pre)
        try:
            lm = load_lm(file, family=model.config.model_type)
        except UserError as error:
            return f"{architecture:20} {' '.join(str(error).split()):.300}"
    ids_BT = torch.randint(0, rows, (2, 40))
    with torch.no_grad():
        error = (model(ids_BT).logits - lm.model(ids_BT).logits).abs().max().item()
    ids = [fast.encode(sentence) for sentence in sentences]
    count = differing(lm.tokenizer.codec, ids, sentences)
    return f"{architecture:20} logits differ by {error:.1e}, {count} of {len(sentences)} sentences have other ids"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sentences", type=Path)
    parser.add_argument("folders", nargs="+", help="FOLDER or ROW=FOLDER; with --gguf ARCHITECTURE=FOLDER")
    parser.add_argument("--gguf", action="store_true")
    args = parser.parse_args()
    sentences = args.sentences.read_text(encoding="utf-8").splitlines()
    print(f"transformers {transformers.__version__}, {len(sentences):,} sentences", flush=True)
    if not args.gguf:
        print(f"{'':20} {'two files':>9} {'library':>9} {'decoded':>9}  prompt")
    for given in args.folders:
        row, _, folder = given.rpartition("=")
        check = check_gguf if args.gguf else check_tokenizer
        print(check(row, Path(folder), sentences), flush=True)


if __name__ == "__main__":
    main()
