"""Separate query, key and value layers compute timm's fused layer, also with LoRA on query and value."""

from typing import Any

import pytest
import timm
import torch
from small_model import report_generator

from r2gen.model.qkv import split_qkv
from r2gen.model.tune import Lora, add_lora

torch.set_num_threads(1)
BACKBONES: dict[str, dict[str, Any]] = {
    "swin_tiny_patch4_window7_224": {
        "img_size": 32,
        "window_size": 4,
        "embed_dim": 12,
        "depths": (1, 2),
        "num_heads": (2, 3),
    },
    "vit_tiny_patch16_224": {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3},
}


def backbone(name: str) -> Any:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=0, **BACKBONES[name]).eval()


@pytest.mark.parametrize("name", BACKBONES)
def test_the_split_layer_computes_the_fused_one(name: str):
    fused, split = backbone(name), backbone(name)
    split_qkv(split)
    assert any(layer.endswith(".qkv.q") for layer, _ in split.named_modules())
    images_N3HW = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            split.forward_features(images_N3HW), fused.forward_features(images_N3HW), rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("name", BACKBONES)
def test_lora_on_query_and_value_is_lora_on_rows_of_the_fused_layer(name: str):
    adapted, merged = backbone(name), backbone(name)
    add_lora(adapted, Lora(r=2, alpha=6, dropout=0.0), ["q", "v"], name="vision")
    layers = dict(adapted.named_modules())
    with torch.no_grad():
        for layer, module in merged.named_modules():
            if not layer.endswith(".qkv"):
                continue
            width = module.out_features // 3
            for part, first in (("q", 0), ("v", 2 * width)):
                lora = layers[f"{layer}.{part}"]
                lora.lora_B["default"].weight.normal_()
                change = 3.0 * lora.lora_B["default"].weight @ lora.lora_A["default"].weight  # alpha / r
                module.weight[first : first + width] += change
            assert not hasattr(layers[f"{layer}.k"], "lora_A")
        images_N3HW = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(
            adapted.forward_features(images_N3HW), merged.forward_features(images_N3HW), rtol=1e-4, atol=1e-5
        )
    free = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert free
    assert all(".qkv.q.lora_" in name or ".qkv.v.lora_" in name for name in free)


def test_other_lora_targets_do_not_split_the_fused_layer():
    model = report_generator(vision="lora", vision_targets=("fc1",))
    assert not any(name.endswith("qkv.q") for name, _ in model.named_modules())
