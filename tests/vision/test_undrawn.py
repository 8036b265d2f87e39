"""A model whose weights are read afterwards is built without drawing them."""

import timm
import torch

from r2gen.vision.undrawn import Undrawn

SWIN = {"model_name": "swin_tiny_patch4_window7_224", "num_classes": 0, "depths": (1, 1, 1, 1)}


def test_no_weight_is_drawn_and_what_is_not_random_is_computed() -> None:
    before = torch.random.get_rng_state()
    with Undrawn():
        swin, resnet = timm.create_model(**SWIN), timm.create_model("resnet18", num_classes=0)
        timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    expected = dict(timm.create_model(**SWIN).named_buffers())
    assert any("relative_position_index" in name for name in expected)
    for name, buffer in swin.named_buffers():
        assert torch.equal(buffer, expected[name])
    assert torch.equal(resnet.bn1.weight, torch.ones(64))
