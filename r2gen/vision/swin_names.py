"""Swin weights in transformers' layout (names before and since version 5), converted to timm's model.

Only names differ: relative positions have the same numbers, the four merged patches the same order, and the merge that
ends stage i in transformers begins stage i + 1 in timm. timm has one matrix for query, key and value, in this order.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from r2gen.config.plain import Plain
from r2gen.errors import UserError
from r2gen.runs.trial import attempt
from r2gen.runs.untrusted import parse_json, read_text, reason
from r2gen.vision.undrawn import Undrawn

# The name of each layer in transformers before version 5, since version 5, and in timm; I and J are stage and block.
LAYERS = (
    ("embeddings.patch_embeddings.projection", "embeddings.patch_embeddings.projection", "patch_embed.proj"),
    ("embeddings.norm", "embeddings.norm", "patch_embed.norm"),
    ("layernorm", "layernorm", "norm"),
    *(
        (f"encoder.layers.I.blocks.J.{old}", f"encoder.layers.I.blocks.J.{new}", f"layers.I.blocks.J.{ours}")
        for old, new, ours in (
            ("layernorm_before", "layernorm_before", "norm1"),
            ("layernorm_after", "layernorm_after", "norm2"),
            ("attention.self.query", "attention.q_proj", "attn.qkv.q"),
            ("attention.self.key", "attention.k_proj", "attn.qkv.k"),
            ("attention.self.value", "attention.v_proj", "attn.qkv.v"),
            ("attention.self", "attention.relative_position_bias", "attn"),  # for relative_position_bias_table
            ("attention.output.dense", "attention.o_proj", "attn.proj"),
            ("intermediate.dense", "mlp.fc1", "mlp.fc1"),
            ("output.dense", "mlp.fc2", "mlp.fc2"),
        )
    ),
)


def _pattern(layer: str) -> re.Pattern[str]:
    tail = r"(?=\.relative_position_bias_table$)" if layer.endswith((".self", "_bias", ".attn")) else r"(?=\.)"
    return re.compile(re.escape(layer).replace("I", r"(\d+)", 1).replace("J", r"(\d+)", 1) + tail)


def _template(layer: str) -> str:
    return layer.replace("I", r"\1", 1).replace("J", r"\2", 1)


TO_TIMM = [(_pattern(name), _template(ours)) for old, new, ours in LAYERS for name in dict.fromkeys((old, new))]
FROM_TIMM = [(_pattern(ours), _template(old)) for old, _, ours in LAYERS]
MERGE = re.compile(r"encoder\.layers\.(\d+)\.downsample(?=\.)")
# Tensors that follow from the window size; transformers 5 no longer stores them.
DERIVED = re.compile(r"\.relative_position_index$")
# Fields of config.json that are arguments of timm's Swin, and fields for which timm's Swin supports one value only.
ARGUMENTS = {
    "image_size": "img_size",
    "patch_size": "patch_size",
    "embed_dim": "embed_dim",
    "depths": "depths",
    "num_heads": "num_heads",
    "window_size": "window_size",
    "mlp_ratio": "mlp_ratio",
    "qkv_bias": "qkv_bias",
    "drop_path_rate": "drop_path_rate",
    "hidden_dropout_prob": "proj_drop_rate",
    "attention_probs_dropout_prob": "attn_drop_rate",
}
FIXED = {"hidden_act": "gelu", "use_absolute_embeddings": False, "layer_norm_eps": 1e-5, "num_channels": 3}


DROP_PATH = "drop_path_rate"  # timm's name; config.json has it too, but it belongs to the training, not to the weights
LARGEST_JSON = 2**25  # bytes
MISSING = 2**26  # weights that config.json may describe beyond those of the files; fewer are named


def timm_name(name: str) -> str | None:
    """timm's name of a transformers Swin tensor, with q, k and v still separate (`attn.qkv.q`); None if it has none."""
    merge = MERGE.match(name)
    if merge:
        return f"layers.{int(merge[1]) + 1}.downsample{name[merge.end() :]}"
    return _renamed(name, TO_TIMM)


def transformers_name(name: str) -> str | None:
    """The inverse of timm_name, in the names before version 5."""
    merge = re.match(r"layers\.(\d+)\.downsample(?=\.)", name)
    if merge:
        return f"encoder.layers.{int(merge[1]) - 1}.downsample{name[merge.end() :]}"
    return _renamed(name, FROM_TIMM)


def _renamed(name: str, table: list[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, template in table:
        match = pattern.match(name)
        if match:
            return match.expand(template) + name[match.end() :]
    return None


def fused(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors with `attn.qkv.q`, `.k` and `.v` joined into timm's `attn.qkv`. Raises KeyError if one is missing."""
    joined: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        match = re.match(r"(.+\.attn\.qkv)\.[qkv]\.(weight|bias)$", name)
        if not match:
            joined[name] = tensor
        elif f"{match[1]}.{match[2]}" not in joined:
            parts = [tensors[f"{match[1]}.{part}.{match[2]}"] for part in "qkv"]
            joined[f"{match[1]}.{match[2]}"] = torch.cat(parts)
    return joined


def split_shapes(wanted: Mapping[str, torch.Tensor]) -> dict[str, list[int]]:
    """Name and shape of each tensor, with timm's fused `attn.qkv` as its three parts."""
    shapes: dict[str, list[int]] = {}
    for name, tensor in wanted.items():
        match = re.match(r"(.+\.attn\.qkv)\.(weight|bias)$", name)
        if match:
            third = [tensor.shape[0] // 3, *tensor.shape[1:]]
            shapes |= {f"{match[1]}.{part}.{match[2]}": third for part in "qkv"}
        else:
            shapes[name] = list(tensor.shape)
    return shapes


def read_config(file: Path) -> Any:
    """What a JSON file of a checkpoint has. Raises UserError naming it."""
    try:
        return parse_json(read_text(file, most=LARGEST_JSON))
    except (OSError, ValueError) as error:
        raise UserError(f"vision.path: {file} is not JSON: {reason(error)}") from error


def model_arguments(config: Mapping[str, Any], *, path: str) -> Plain:
    """The arguments of timm's Swin. Raises UserError if it would compute something else than transformers."""
    for field, value in FIXED.items():
        if config.get(field, value) != value:
            raise UserError(
                f"vision.path: {path}/config.json has {field}={config[field]}, but timm's Swin supports only {value}."
            )
    missing = [
        field
        for field in ("image_size", "patch_size", "embed_dim", "depths", "num_heads", "window_size")
        if field not in config
    ]
    if missing:
        raise UserError(f"vision.path: {path}/config.json has no {', '.join(missing)}.")
    grid, window = int(config["image_size"]) // int(config["patch_size"]), int(config["window_size"])
    for stage, _ in enumerate(config["depths"]):
        if grid != window and (grid < window or grid % window):
            raise UserError(
                f"vision.path: {path}/config.json: windows of {window} do not divide the {grid} x {grid} patches of "
                f"stage {stage}, and timm pads differently from transformers."
            )
        grid = (grid + 1) // 2
    return {ours: config[field] for field, ours in ARGUMENTS.items() if field in config}


def create_swin(
    name: str,
    path: str,
    config: Mapping[str, Any],
    *,
    tensors: Mapping[str, torch.Tensor],
    model_args: Mapping[str, Any],
) -> nn.Module:
    """timm's Swin for a folder's config.json, with exactly the weights of the folder.

    `model_args` may not contradict config.json. Mean and deviation are those of preprocessor_config.json, if the folder
    has one. Raises UserError with the tensors that are missing or left over.
    """
    if not name.startswith("swin_"):
        raise UserError(f"vision.path={path} contains a Swin, but vision.name={name} is not one. Use vision=swin_base.")
    arguments = model_arguments(config, path=path)
    check_buildable(name, arguments, tensors, file=Path(path).expanduser() / "config.json")
    for key, value in model_args.items():
        if key in arguments and key != DROP_PATH and arguments[key] != value:
            raise UserError(
                f"vision.model_args.{key}={value} contradicts {path}/config.json, which has {arguments[key]}."
            )
    with Undrawn():
        model: Any = timm.create_model(name, num_classes=0, **{**arguments, **model_args})
    model.load_state_dict(match_tensors(tensors, dict(model.state_dict()), path=path))
    use_statistics(model, path)
    return model


def use_statistics(model: Any, path: str) -> None:
    """Let the model have mean and deviation of the folder's preprocessor_config.json, if it has one."""
    preprocessor = Path(path).expanduser() / "preprocessor_config.json"
    if preprocessor.is_file():
        facts = read_config(preprocessor)
        for key in ("mean", "std"):
            values: Any = facts.get(f"image_{key}", model.pretrained_cfg[key]) if isinstance(facts, dict) else None
            if not are_statistics(key, values):
                raise UserError(f"vision.path: {preprocessor} has no three numbers in image_{key}.")
            model.pretrained_cfg[key] = tuple(values)


def check_buildable(
    name: str, arguments: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], *, file: Path
) -> None:
    """Raise UserError where timm cannot build what config.json describes, or it is far larger than the weights."""

    def parameters() -> int:
        with torch.device("meta"):
            model: Any = timm.create_model(name, num_classes=0, **arguments)
        return sum(parameter.numel() for parameter in model.parameters())

    described = attempt(
        parameters, lambda why: UserError(f"vision.path: timm cannot build what {file} describes: {why}.")
    )
    stored = sum(tensor.numel() for tensor in tensors.values())
    if described > stored + MISSING:
        raise UserError(
            f"vision.path: {file} describes a model of {described:,} weights, and the files have {stored:,}: they do "
            "not belong together."
        )


def are_statistics(key: str, values: Any) -> bool:
    """Whether these are the mean or the deviation (`std`) of three channels."""
    return (
        isinstance(values, list | tuple)
        and len(values) == 3
        and all(isinstance(value, int | float) and math.isfinite(value) for value in values)
        and (key != "std" or min(values) > 0)
    )


def match_tensors(
    tensors: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], *, path: str
) -> dict[str, torch.Tensor]:
    """The wanted tensors under timm's names, and no other. The classifier of a published checkpoint is dropped."""
    renamed: dict[str, torch.Tensor] = {}
    unknown = []
    for name, tensor in tensors.items():
        bare = name.removeprefix("swin.")
        ours = timm_name(bare)
        if ours is not None:
            renamed[ours] = tensor
        elif not DERIVED.search(bare) and bare not in ("classifier.weight", "classifier.bias"):
            unknown.append(name)
    expected = split_shapes(wanted)
    left_over = [*unknown, *(renamed.keys() - expected.keys())]
    refuse_difference(f"vision.path={path}", missing=expected.keys() - renamed.keys(), left_over=left_over)
    check_shapes(renamed, expected, path=path)
    return fused(renamed)


def check_shapes(tensors: Mapping[str, torch.Tensor], expected: Mapping[str, list[int]], *, path: str) -> None:
    """Raise UserError for the first tensor with another shape than config.json implies."""
    for name, shape in expected.items():
        if list(tensors[name].shape) != shape:
            raise UserError(
                f"vision.path={path}: {name} is {list(tensors[name].shape)}, but config.json implies {shape}."
            )


def refuse_difference(what: str, *, missing: Any, left_over: Any) -> None:
    """Raise UserError with the first tensors that are missing or left over, if there are any."""
    parts = [
        f"{word} {len(names)} tensors: {', '.join(sorted(names)[:5])}{', ...' if len(names) > 5 else ''}"
        for word, names in (("lacks", missing), ("has", left_over))
        if names
    ]
    if parts:
        tail = " that nothing here takes" if left_over else ""
        raise UserError(f"{what} {', and '.join(parts)}{tail}")
