"""Every encoder of conf/vision, with random weights and mostly at a small size: it declares its features and trains."""

from typing import Any

import pytest
import torch
import yaml
from small_model import TOKENIZER, dataset, image
from smallest_run import ROOT
from tiers import fast_only
from torch.nn import functional as F

from r2gen.config.targets import Target, instantiate
from r2gen.data.collate import collate
from r2gen.lm import random_lm
from r2gen.model.projector import LinearProjector
from r2gen.model.report_generator import ReportGenerator
from r2gen.model.tune import Lora, choose_trainable
from r2gen.vision.encoder import TimmEncoder

CONFIGS = {file.stem: yaml.safe_load(file.read_text()) for file in sorted((ROOT / "conf" / "vision").glob("*.yaml"))}
SMALL_VIT = {"img_size": 32, "embed_dim": 48, "depth": 2, "num_heads": 3}
SMALL_SWIN = {"img_size": 64, "window_size": 2, "embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2]}
SMALL_RESNET = {"layers": [1, 1, 1, 1], "channels": [16, 16, 32, 32], "zero_init_last": False}  # as after training
SMALLER: dict[str, dict[str, Any]] = {
    "convnext_tiny": {"image_size_px": 32, "model_args": {"depths": [1, 1, 1, 1], "dims": [8, 16, 16, 16]}},
    "dinov2_base": {"image_size_px": 28, "model_args": {**SMALL_VIT, "img_size": 28}},
    "dinov2_small": {"image_size_px": 28, "model_args": {**SMALL_VIT, "img_size": 28}},
    "efficientnet_lite0": {"image_size_px": 64},
    "rad_dino": {"image_size_px": 28, "model_args": {**SMALL_VIT, "img_size": 28}},
    "resnet50": {"image_size_px": 64, "model_args": SMALL_RESNET},
    "resnet101": {"image_size_px": 64, "model_args": SMALL_RESNET},
    "siglip_base": {"image_size_px": 32, "model_args": SMALL_VIT},
    "swin_base": {"image_size_px": 64, "model_args": SMALL_SWIN},
    "swin_tiny": {"image_size_px": 64, "model_args": SMALL_SWIN},
    "tiny": {"image_size_px": 32},
    "vit_base": {"image_size_px": 32, "model_args": SMALL_VIT},
}


def small(name: str, **options: Any) -> TimmEncoder:
    torch.manual_seed(0)
    arguments = {key: value for key, value in CONFIGS[name].items() if key != "_target_"}
    smaller = {**arguments, "path": None, **SMALLER.get(name, {}), **options}
    if "batch_norm" in smaller:
        smaller["batch_norm"] = "frozen"  # test_batch_norm.py has statistics that move
    encoder: TimmEncoder = instantiate(Target(CONFIGS[name]["_target_"], smaller))
    return encoder


def test_every_smaller_size_belongs_to_an_encoder():
    assert SMALLER.keys() <= CONFIGS.keys()  # an encoder without an entry is tested at its own size


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("views", ["mean", "concat"])
def test_every_encoder_returns_features_of_the_declared_width_and_number(name: str, views: str):
    encoder = small(name, views=views).eval()
    size = encoder.transform.size_px
    images_BVHW = torch.randint(256, (2, 2, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features_BQD, real_BQ = encoder(images_BVHW, torch.tensor([[True, True], [True, False]]))
    features = encoder.num_tokens * (2 if views == "concat" else 1)
    assert features_BQD.shape == (2, features, encoder.dim)
    assert features_BQD.isfinite().all()
    assert real_BQ.sum(dim=1).tolist() == [features, encoder.num_tokens]


@pytest.mark.parametrize("name", fast_only(CONFIGS, "swin_tiny", "tiny"))
@pytest.mark.parametrize("tune", ["frozen", "lora", "full"])
def test_every_encoder_trains_for_twenty_steps_and_every_trainable_parameter_changes(name: str, tune: str):
    if tune == "lora" and not CONFIGS[name]["lora_targets"]:
        pytest.skip("tune=delta is refused for an encoder without vision.lora_targets")
    encoder = small(name)
    lm: Any = random_lm(
        tokenizer=TOKENIZER, seed=1, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48
    )
    projector = LinearProjector(in_dim=encoder.dim, out_dim=lm.dim)
    model = ReportGenerator(vision=encoder, projector=projector, lm=lm, before=[1], after=[7])
    choose_trainable(
        model,
        vision=tune,
        vision_lora=Lora(r=2, alpha=4, dropout=0.0),
        lm="auto",
        lm_lora=None,
        lm_lora_targets=[],
        lm_is_random=True,
    )
    studies = dataset(image=lambda view: resized(image(view), encoder.transform.size_px))
    images = collate([studies[index] for index in range(6)])
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    parts = [parameter for parameter in model.train().parameters() if parameter.requires_grad]
    optimizer, losses = torch.optim.AdamW(parts, lr=3e-3), []
    for _ in range(20):
        loss = model(images) / (images.report_BT >= 0).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] * 0.8
    trainable = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    moved = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert moved <= trainable
    assert {key for key in trainable if key.startswith("vision.")} <= moved


def resized(image_HW: torch.Tensor, size: int) -> torch.Tensor:
    return F.interpolate(image_HW[None, None].float(), size=(size, size))[0, 0].to(torch.uint8)
