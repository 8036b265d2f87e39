"""What an original checkpoint says of its configuration:  python -m r2gen.r2gengpt.facts FILE

Prints one JSON object for configuration.py, which imports no torch and so cannot look itself.
"""

import json
import sys
from pathlib import Path
from typing import Any

from r2gen.errors import UserError
from r2gen.r2gengpt.checkpoint import Original, read_checkpoint
from r2gen.r2gengpt.names import lora_layers, mode_of

DATA = {"iu_xray": "iu", "mimic_cxr": "mimic"}
# Its options that are ours under another name, with the kinds of value they may have.
SAME: dict[str, tuple[str, tuple[type, ...]]] = {
    "max_length": ("evaluate.max_reference_tokens", (int,)),
    "beam_size": ("generation.num_beams", (int,)),
    "min_new_tokens": ("generation.min_new_tokens", (int,)),
    "max_new_tokens": ("generation.max_new_tokens", (int,)),
    "repetition_penalty": ("generation.repetition_penalty", (int, float)),
    "length_penalty": ("generation.length_penalty", (int, float)),
}
# Options under which its model is another than the one we have.
REFUSED = {
    "llm_use_lora": "LoRA on the language model",
    "global_only": "one pooled feature in place of the patches",
}


def facts(original: Original) -> dict[str, Any]:
    """`mode`, `data` (None where it does not say) and `overrides`, as one would type them."""
    options, mode = original.options, mode_of(original.tensors)
    for key, words in REFUSED.items():
        if options.get(key):
            raise UserError(f"the checkpoint was trained with {key}={options[key]} ({words}), which is not imported")
    if options.get("end_sym", "</s>") != "</s>":
        raise UserError(f"the checkpoint was trained with end_sym={options['end_sym']}, only </s> is imported")
    overrides: dict[str, Any] = {}
    for key, (name, kinds) in SAME.items():
        value = options.get(key)
        if isinstance(value, kinds) and not isinstance(value, bool):
            overrides[name] = value
    if mode == "delta":
        layers, rank = lora_layers(original.tensors)
        overrides |= {"vision.lora_targets": f"[{','.join(layers)}]", "tune.lora.r": rank}
        alpha, dropout = options.get("vis_alpha"), options.get("lora_dropout")
        if isinstance(alpha, int) and not isinstance(alpha, bool):
            overrides["tune.lora.alpha"] = alpha
        if isinstance(dropout, float):
            overrides["tune.lora.dropout"] = dropout
    return {"mode": mode, "data": DATA.get(str(options.get("dataset"))), "overrides": overrides}


def main(file: Path) -> int:
    try:
        print(json.dumps(facts(read_checkpoint(file))))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
