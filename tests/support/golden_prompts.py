"""The golden prompts: text and token ids around the image for every LM config.  python tests/support/golden_prompts.py

    python tests/support/golden_prompts.py                                        add those that are missing
    python tests/support/golden_prompts.py --checkpoint qwen2 my_lm               add or rewrite that of my_lm
    python tests/support/golden_prompts.py --check                                exit with 2 if any is missing

It writes tests/golden/prompts.json, which tests/lm/test_lm_prompts.py compares with conf/lm, and
tests/golden/contexts.json, the same prompts with the context of one study. The ids are those of a
tiny checkpoint under $R2GEN_SHARED/lm/golden: the one of the option, or the one with the name of the config. If there
is neither, only the text is written. The first 30 entries were made without r2gen, by sentencepiece, tokenizers and
tiktoken. This command writes what R2Gen gives: read it before you commit it.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml
from prompt_ids import prompt_ids

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from composed import composed  # noqa: E402
from golden_checkpoints import PUBLISHED  # noqa: E402

from r2gen.config.context import ContextConfig  # noqa: E402
from r2gen.config.prompt_pieces import pieces  # noqa: E402
from r2gen.data.context_text import written as written_pieces  # noqa: E402
from r2gen.data.reports import Prior, Study  # noqa: E402
from r2gen.lm import Prompt, read_tokenizer  # noqa: E402

FILE = ROOT / "tests" / "golden" / "prompts.json"
CONTEXTS_FILE = ROOT / "tests" / "golden" / "contexts.json"
GOLDEN_PROMPTS: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
GOLDEN_CONTEXTS: dict[str, dict[str, Any]] = json.loads(CONTEXTS_FILE.read_text(encoding="utf-8"))
STUDY = Study(
    id="s",
    views=("a",),
    report="",
    indication="Cough.",
    technique="PA.",
    comparison="XXXX.",
    age=67.0,
    sex="F",
    prior=Prior(id="p", views=("b",), report="Clear.", days=12.0),
)


def lm_config(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "conf" / "lm" / f"{name}.yaml").read_text(encoding="utf-8"))
    return config


ALL = sorted(file.stem for file in (ROOT / "conf" / "lm").glob("*.yaml"))
LM_CONFIGS = [name for name in ALL if lm_config(name)["path"]]  # the others train a tokenizer in each run
MISSING = [name for name in LM_CONFIGS if name not in GOLDEN_PROMPTS or name not in GOLDEN_CONTEXTS]


def tokenizer_of(name: str, checkpoint: str) -> Any:
    config = lm_config(name)
    return read_tokenizer(PUBLISHED / checkpoint, stop=config["stop"], special_tokens=config.get("special_tokens"))


def golden_prompt(name: str, checkpoint: str | None) -> dict[str, Any]:
    """What R2Gen makes of an LM config today, with the tokenizer of a tiny checkpoint."""
    prompt = {"before": "", "after": "", **lm_config(name)["prompt"]}
    entry: dict[str, Any] = {"checkpoint": checkpoint, **{side: text_of(prompt[side]) for side in ("before", "after")}}
    if checkpoint is None:
        return entry
    tokenizer = tokenizer_of(name, checkpoint)
    before, after = prompt_ids(Prompt(**prompt), tokenizer)
    ends = {"eos_ids": list(tokenizer.eos_ids), "stop_texts": list(tokenizer.stop_texts)}
    return entry | {"before_ids": before, "after_ids": after} | ends


def golden_context(name: str, checkpoint: str | None) -> dict[str, Any]:
    """Where the context goes in the prompt of an LM config, and the ids of each text of context=all."""
    if checkpoint is None:
        return {}
    tokenizer = tokenizer_of(name, checkpoint)
    prompt = Prompt(**{"before": "", "after": "", **lm_config(name)["prompt"]}).around(tokenizer, context=True)
    assert prompt.context is not None
    around = getattr(prompt, prompt.context.side)
    ids = {f"{side}_ids": getattr(prompt, side) for side in ("before", "after")}
    changed = {key: value for key, value in ids.items() if value != GOLDEN_PROMPTS[name][key]}
    assert 0 <= prompt.context.index <= len(around)
    texts = [[piece.text, tokenizer.encode(piece.text)] for piece in written_pieces(STUDY, options_of("all"))]
    return {"side": prompt.context.side, "index": prompt.context.index, **changed, "texts": texts}


def options_of(choice: str) -> ContextConfig:
    return composed(f"context={choice}").context


def text_of(side: Any) -> str:
    """The text of a prompt's side as its YAML file writes it, with the names of special tokens."""
    return "".join(str(value) for _, value in pieces(side, ""))


def written(prompts: dict[str, dict[str, Any]]) -> str:
    """The file: one line per key."""
    entries = []
    for name, prompt in sorted(prompts.items()):
        lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in prompt.items()]
        entries.append(f"{json.dumps(name)}: {{\n" + ",\n".join(lines) + "}")
    return "{\n" + ",\n".join(entries) + "\n}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="LM configs; default: those without a golden prompt")
    parser.add_argument("--checkpoint", help=f"a folder of {PUBLISHED}")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    if options.check:
        if MISSING:
            print(f"no golden prompt: {', '.join(MISSING)}: run python tests/support/golden_prompts.py")
        return 2 if MISSING else 0
    for name in options.names or MISSING:
        same_name = name if (PUBLISHED / name).is_dir() else None
        present = GOLDEN_PROMPTS.get(name, {}).get("checkpoint")
        GOLDEN_PROMPTS[name] = golden_prompt(name, options.checkpoint or present or same_name)
        GOLDEN_CONTEXTS[name] = golden_context(name, GOLDEN_PROMPTS[name]["checkpoint"])
        print(f"{name}: {json.dumps(GOLDEN_PROMPTS[name], ensure_ascii=False)}")
    FILE.write_text(written(GOLDEN_PROMPTS), encoding="utf-8")
    CONTEXTS_FILE.write_text(written(GOLDEN_CONTEXTS), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
