"""DINOv2, ViT and SigLIP's vision tower in transformers' layout, converted to timm's VisionTransformer.

Only names differ, and query, key and value are one matrix in timm. transformers adds a position to the class token of a
DINOv2 with registers, which timm does not, so it is added to the stored token.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from r2gen.config.plain import Plain
from r2gen.errors import UserError
from r2gen.ranks import dist
from r2gen.runs.trial import attempt
from r2gen.vision.swin_names import (
    DROP_PATH,
    check_buildable,
    check_shapes,
    fused,
    refuse_difference,
    split_shapes,
    use_statistics,
)
from r2gen.vision.undrawn import Undrawn

# model_type in config.json -> what it is, which names of timm are one, and a choice of vision=.
KINDS = {
    "dinov2": ("DINOv2", re.compile(r"vit_\w+_dinov2$"), "dinov2_base"),
    "dinov2_with_registers": ("DINOv2", re.compile(r"vit_\w+_dinov2$"), "dinov2_base"),
    "vit": ("ViT", re.compile(r"vit_[a-z]+_patch\d+_\d+$"), "vit_base"),
    "siglip_vision_model": ("SigLIP", re.compile(r"vit_\w+_siglip_\w+$"), "siglip_base"),
    "siglip": ("SigLIP", re.compile(r"vit_\w+_siglip_\w+$"), "siglip_base"),
}
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size", "layer_norm_eps")
MOST = 2**20  # of each
TIMMS_EPS = 1e-6
EPS = "layer_norm_eps"  # in model_args; timm has no such argument
ACTIVATIONS = {"gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh", "quick_gelu": "quick_gelu"}

PREFIX = re.compile(r"(dinov2|dinov2_with_registers|vit|siglip|vision_model)\.")
LAYER = re.compile(r"(?:encoder\.)?layers?\.(\d+)\.(.+)")
IN_LAYER = (
    (re.compile(r"(?:(?:attention\.)?attention|self_attn)\.(?:query|q_proj)\b"), "attn.qkv.q"),
    (re.compile(r"(?:(?:attention\.)?attention|self_attn)\.(?:key|k_proj)\b"), "attn.qkv.k"),
    (re.compile(r"(?:(?:attention\.)?attention|self_attn)\.(?:value|v_proj)\b"), "attn.qkv.v"),
    (re.compile(r"(?:attention\.output\.dense|attention\.o_proj|self_attn\.out_proj)\b"), "attn.proj"),
    (re.compile(r"(?:layernorm_before|norm1|layer_norm1)\b"), "norm1"),
    (re.compile(r"(?:layernorm_after|norm2|layer_norm2)\b"), "norm2"),
    (re.compile(r"(?:intermediate\.dense|mlp\.fc1|mlp\.weights_in)\b"), "mlp.fc1"),
    (re.compile(r"(?:output\.dense|mlp\.fc2|mlp\.weights_out)\b"), "mlp.fc2"),
    (re.compile(r"layer_scale(\d)\.lambda1$"), r"ls\1.gamma"),
)
OUTSIDE = (
    (re.compile(r"embeddings\.cls_token$"), "cls_token"),
    (re.compile(r"embeddings\.register_tokens$"), "reg_token"),
    (re.compile(r"embeddings\.(?:position_embeddings|position_embedding\.weight)$"), "pos_embed"),
    (re.compile(r"embeddings\.(?:patch_embeddings\.projection|patch_embedding)(?=\.)"), "patch_embed.proj"),
    (re.compile(r"(?:layernorm|post_layernorm)(?=\.)"), "norm"),
)
# Parts that patch features do not pass: heads, poolers, the other tower, and what only pretraining uses.
LEFT_OUT = re.compile(
    r"(classifier|pooler|head|decoder|text_model)\.|embeddings\.(mask_token|position_ids)$|logit_(scale|bias)$"
)


def timm_name(name: str) -> str | None:
    """timm's name of a tensor, with q, k and v still separate (`attn.qkv.q`); None if it has none."""
    layer = LAYER.match(name)
    head, tail = (f"blocks.{layer[1]}.", layer[2]) if layer else ("", name)
    for pattern, template in IN_LAYER if layer else OUTSIDE:
        match = pattern.match(tail)
        if match:
            return head + match.expand(template) + tail[match.end() :]
    return None


def vit_arguments(config: Mapping[str, Any], *, path: str) -> Plain:
    """The arguments of timm's VisionTransformer, and EPS if it is not timm's; plain data.

    Fields that config.json does not have are those of transformers' class. Raises UserError if timm would compute
    something else than transformers.
    """
    kind = str(config["model_type"])
    fields = _with_defaults(config, path=path)
    if fields.get("num_channels", 3) != 3:
        raise UserError(
            f"vision.path: {path}/config.json has num_channels={fields['num_channels']}, and only 3 is read in "
            "transformers' layout: use the same model in timm's."
        )
    inner = "mlp_ratio" if kind.startswith("dinov2") else "intermediate_size"
    for field in (*SIZES, inner, *(["num_register_tokens"] if kind == "dinov2_with_registers" else [])):
        if not isinstance(fields.get(field), int | float) or not 0 < fields[field] < MOST:
            raise UserError(f"vision.path: {path}/config.json has no single positive number in {field}.")
    activation = fields.get("hidden_act")
    if activation not in ACTIVATIONS:
        raise UserError(
            f"vision.path: {path}/config.json has hidden_act={activation}, and only {', '.join(ACTIVATIONS)} are read."
        )
    width, dinov2 = fields["hidden_size"], kind.startswith("dinov2")
    # int(width * ratio) is the inner width; half a unit keeps it from being rounded to the one before
    ratio = fields["mlp_ratio"] if dinov2 else (fields["intermediate_size"] + 0.5) / width
    eps, swiglu = fields[EPS], fields.get("use_swiglu_ffn") is True
    if swiglu:  # both halves of the gate are in one layer
        ratio = (2 * ((int(int(width * ratio) * 2 / 3) + 7) // 8 * 8) + 0.5) / width
    return {
        "img_size": fields["image_size"],
        "patch_size": fields["patch_size"],
        "embed_dim": width,
        "depth": fields["num_hidden_layers"],
        "num_heads": fields["num_attention_heads"],
        "mlp_ratio": ratio,
        "qkv_bias": fields.get("qkv_bias", True),
        **({} if swiglu else {"act_layer": ACTIVATIONS[activation]}),
        "init_values": 1.0 if dinov2 else None,  # makes LayerScale, whose values are read
        "drop_path_rate": fields.get("drop_path_rate", 0.0),
        "proj_drop_rate": fields.get("hidden_dropout_prob", 0.0),
        "attn_drop_rate": fields.get("attention_probs_dropout_prob", fields.get("attention_dropout", 0.0)),
        "reg_tokens": fields["num_register_tokens"] if kind == "dinov2_with_registers" else 0,
        "no_embed_class": kind == "dinov2_with_registers",
        "class_token": not kind.startswith("siglip"),
        "global_pool": "avg" if kind.startswith("siglip") else "token",
        "fc_norm": False,
        **({} if eps == TIMMS_EPS else {EPS: eps}),
    }


def _with_defaults(config: Mapping[str, Any], *, path: str) -> Plain:
    """config.json of the vision part with the fields that it leaves to transformers' class."""
    from transformers import CONFIG_MAPPING

    kind = str(config["model_type"])
    own = config.get("vision_config") or {} if kind == "siglip" else config
    kind = "siglip_vision_model" if kind == "siglip" else kind

    def fields() -> Plain:
        complete: Plain = CONFIG_MAPPING[kind].from_dict({**own, "model_type": kind}).to_dict()
        return {key: value for key, value in complete.items() if isinstance(value, str | int | float | bool)}

    refusal = f"vision.path: transformers cannot read {path}/config.json"
    fields_read: Plain = attempt(fields, lambda why: UserError(f"{refusal}: {why}."))
    return fields_read


def without_eps(model_args: Mapping[str, Any]) -> tuple[Plain, float | None]:
    """The arguments that timm has, and the epsilon of the LayerNorms; None for that of the model in timm."""
    return {key: value for key, value in model_args.items() if key != EPS}, model_args.get(EPS)


def set_eps(model: nn.Module, eps: float) -> None:
    """Set the epsilon of every LayerNorm."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = eps


def create_vit(
    name: str,
    path: str,
    config: Mapping[str, Any],
    *,
    tensors: Mapping[str, torch.Tensor],
    model_args: Mapping[str, Any],
) -> nn.Module:
    """timm's VisionTransformer for a folder's config.json, with exactly the weights of the folder.

    `model_args` may not contradict config.json, except that another img_size resizes the position embeddings. Raises
    UserError with the tensors that are missing or left over.
    """
    kind, names, choice = KINDS[config["model_type"]]
    if not names.match(name):
        raise UserError(
            f"vision.path={path} contains a {kind}, but vision.name={name} is not one. Use vision={choice}."
        )
    arguments, eps = without_eps(vit_arguments(config, path=path))
    if kind == "DINOv2" and ("giant" in name) != ("act_layer" not in arguments):
        giant = "vit_giant_patch14_dinov2" if "giant" not in name else "vit_base_patch14_dinov2"
        raise UserError(
            f"vision.path={path}: config.json says use_swiglu_ffn={'act_layer' not in arguments}, which "
            f"vision.name={name} is not. Pass vision.name={giant}."
        )
    eps = eps or TIMMS_EPS
    own = dict(model_args)
    size = own.pop("img_size", arguments["img_size"])
    for key, value in own.items():
        stated = eps if key == EPS else arguments.get(key, value)
        if stated != value and key != DROP_PATH:
            raise UserError(f"vision.model_args.{key}={value} contradicts {path}/config.json, which has {stated}.")
    arguments |= without_eps(own)[0]
    check_buildable(name, arguments, tensors, file=Path(path).expanduser() / "config.json")
    with Undrawn():
        model: Any = timm.create_model(name, num_classes=0, **arguments)
    model.load_state_dict(match_tensors(tensors, dict(model.state_dict()), path=path))
    set_eps(model, eps)
    if size != arguments["img_size"]:
        model.set_input_size(img_size=size)
    use_statistics(model, path)
    return model


def match_tensors(
    tensors: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], *, path: str
) -> dict[str, torch.Tensor]:
    """The wanted tensors under timm's names, and no other; says which parts of the file are left out."""
    renamed: dict[str, torch.Tensor] = {}
    unknown, unused = [], set()
    for name, tensor in tensors.items():
        bare = PREFIX.sub("", name, count=1) if PREFIX.match(name) else name
        ours = timm_name(bare)
        if ours is not None and ours not in renamed:
            renamed[ours] = tensor[None] if ours == "pos_embed" and tensor.ndim == 2 else tensor
        elif LEFT_OUT.match(bare):
            unused.add(bare.removeprefix("embeddings.").partition(".")[0])
        else:
            unknown.append(name)
    positions = renamed.get("pos_embed")
    if "reg_token" in renamed and "cls_token" in renamed and positions is not None and positions.ndim == 3:
        renamed |= {"cls_token": renamed["cls_token"] + positions[:, :1], "pos_embed": positions[:, 1:]}
    expected = split_shapes(wanted)
    left_over = [*unknown, *(renamed.keys() - expected.keys())]
    refuse_difference(f"vision.path={path}", missing=expected.keys() - renamed.keys(), left_over=left_over)
    check_shapes(renamed, expected, path=path)
    if unused and dist.is_first():
        print(f"vision.path={path}: not used for patch features: {', '.join(sorted(unused))}", flush=True)
    return fused(renamed)
