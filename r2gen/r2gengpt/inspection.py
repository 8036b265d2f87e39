"""Print the configuration that a checkpoint of R2GenGPT records, as JSON:  python -m r2gen.r2gengpt.inspection FILE

A process of its own, since it imports torch and the command does not.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from r2gen.errors import DONE, FIXABLE, UserError
from r2gen.r2gengpt.checkpoint import Original, read_checkpoint
from r2gen.r2gengpt.facts import Facts
from r2gen.r2gengpt.names import lora_layers, mode_of

DATA = {"iu_xray": "iu", "mimic_cxr": "mimic"}
# Options of R2GenGPT, the same options in R2Gen, and the types that their values may have.
SAME: dict[str, tuple[str, tuple[type, ...]]] = {
    "max_length": ("evaluate.max_reference_tokens", (int,)),
    "beam_size": ("generation.num_beams", (int,)),
    "min_new_tokens": ("generation.min_new_tokens", (int,)),
    "max_new_tokens": ("generation.max_new_tokens", (int,)),
    "repetition_penalty": ("generation.repetition_penalty", (int, float)),
    "length_penalty": ("generation.length_penalty", (int, float)),
}
# Options of R2GenGPT with which it trains another model than that of R2Gen.
REFUSED = {
    "llm_use_lora": "LoRA on the language model",
    "global_only": "one pooled feature in place of the patches",
}


def facts_of(original: Original) -> Facts:
    """Raises UserError if the checkpoint is of a model that R2Gen does not have."""
    options, mode = original.options, mode_of(original.tensors)
    for key, description in REFUSED.items():
        if options.get(key):
            raise UserError(
                f"the checkpoint was trained with {key}={options[key]} ({description}), which cannot be imported"
            )
    if options.get("end_sym", "</s>") != "</s>":
        raise UserError(f"the checkpoint was trained with end_sym={options['end_sym']}; only </s> can be imported")
    overrides: dict[str, str | int | float] = {}
    for key, (option, types) in SAME.items():
        value = options.get(key)
        if isinstance(value, types) and isinstance(value, int | float) and not isinstance(value, bool):
            overrides[option] = value
    if mode == "delta":
        layers, rank = lora_layers(original.tensors)
        overrides |= {"vision.lora_targets": f"[{','.join(layers)}]", "tune.lora.r": rank}
        alpha, dropout = options.get("vis_alpha"), options.get("lora_dropout")
        if isinstance(alpha, int) and not isinstance(alpha, bool):
            overrides["tune.lora.alpha"] = alpha
        if isinstance(dropout, float):
            overrides["tune.lora.dropout"] = dropout
    return Facts(mode, DATA.get(str(options.get("dataset"))), overrides)


def main(file: Path) -> int:
    try:
        print(json.dumps(asdict(facts_of(read_checkpoint(file)))))
    except UserError as error:
        print(error, file=sys.stderr)
        return FIXABLE
    return DONE


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
