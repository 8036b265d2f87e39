"""The image encoder of a CLIP model in open_clip's layout (BiomedCLIP), where it is one of timm's models."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from r2gen.config.plain import Plain
from r2gen.errors import UserError, shown
from r2gen.ranks import dist
from r2gen.vision.layouts import OPEN_CLIP, TIMM, read_facts
from r2gen.vision.swin_names import are_statistics, check_shapes, refuse_difference
from r2gen.vision.undrawn import Undrawn

TRUNK = "visual.trunk."


def open_clip_config(path: str | None, file: str | None = None) -> Plain | None:
    """`name` of timm's model, `mean` and `std` in a folder in open_clip's layout; None if it is something else.

    Raises UserError if its image encoder is not one of timm's.
    """
    folder = Path(path or "").expanduser()
    if path is None or not (folder / OPEN_CLIP).is_file() or TIMM in read_facts(folder / "config.json"):
        return None
    if file is not None and "open_clip" not in file and file not in ("model.safetensors", "pytorch_model.bin"):
        return None
    content = read_facts(folder / OPEN_CLIP)
    vision: Any = _dictionary(_dictionary(content.get("model_cfg")).get("vision_cfg"))
    name = str(vision.get("timm_model_name")).partition(".")[0]
    if name not in timm.list_models():
        raise UserError(
            f"vision.path={path}: the image encoder in {OPEN_CLIP} is not one of timm's (timm_model_name is "
            f"{shown(vision.get('timm_model_name'))}). Pass weights of that encoder in timm's layout, for example "
            "vision.name=vit_base_patch16_clip_224.openai vision.path=null."
        )
    statistics = _dictionary(content.get("preprocess_cfg"))
    for key in ("mean", "std"):
        if key in statistics and not are_statistics(key, statistics[key]):
            raise UserError(f"vision.path: {folder / OPEN_CLIP} has no three numbers in preprocess_cfg.{key}.")
    return {"name": name, **{key: statistics[key] for key in ("mean", "std") if key in statistics}}


def create_trunk(
    name: str, path: str, config: Plain, *, tensors: Mapping[str, torch.Tensor], model_args: Mapping[str, Any]
) -> nn.Module:
    """timm's model with exactly the weights of the image encoder. Another img_size resizes the position embeddings."""
    if name.partition(".")[0] != config["name"]:
        raise UserError(
            f"vision.path={path} contains timm's {config['name']}, but vision.name={name}. Pass "
            f"vision.name={config['name']}."
        )
    own = {key: tensor for key, tensor in tensors.items() if key.startswith(TRUNK)}
    own = {key.removeprefix(TRUNK): tensor for key, tensor in own.items()}
    arguments = dict(model_args)
    size = arguments.pop("img_size", None)
    try:
        with Undrawn():
            model: Any = timm.create_model(name, num_classes=0, **arguments)
    except Exception as error:  # timm's constructors raise many types
        raise UserError(f"vision.name={name} with vision.model_args={arguments}: {error}") from error
    expected = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    what = f"vision.path={path}, under {TRUNK}*,"
    refuse_difference(what, missing=expected.keys() - own.keys(), left_over=own.keys() - expected.keys())
    check_shapes(own, expected, path=path)
    model.load_state_dict(own)
    if size is not None:
        model.set_input_size(img_size=size)
    if dist.is_first():
        print(
            f"vision.path={path}: the image encoder of a CLIP model, {len(own)} tensors; {len(tensors) - len(own)} "
            "others are not used",
            flush=True,
        )
    backbone: nn.Module = model
    return backbone


def _dictionary(value: Any) -> Plain:
    return value if isinstance(value, dict) else {}
