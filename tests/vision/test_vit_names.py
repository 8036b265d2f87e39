"""DINOv2, ViT and SigLIP of transformers give the same patch features in timm's VisionTransformer."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from r2gen.errors import UserError
from r2gen.vision.encoder import TimmEncoder, create_backbone
from r2gen.vision.layouts import timm_arguments, transformers_config

torch.set_num_threads(1)
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 32, "patch_size": 8}
NAMES = {
    "Dinov2": "vit_base_patch14_dinov2",
    "Dinov2WithRegisters": "vit_small_patch14_reg4_dinov2",
    "ViT": "vit_base_patch16_224",
    "SiglipVision": "vit_base_patch16_siglip_gap_224",
    "Siglip": "vit_base_patch16_siglip_224",
}
CHOICES = {"Dinov2": "dinov2_base", "ViT": "vit_base", "SiglipVision": "siglip_base"}


def saved(kind: str, folder: Path, **fields: Any) -> nn.Module:
    """A random model of transformers, saved in the folder; of a SiglipModel, its vision part."""
    torch.manual_seed(0)
    inner = {} if kind.startswith("Dinov2") else {"intermediate_size": 50}
    sizes = {**SIZES, **inner, **fields}
    if kind == "Siglip":
        text = {**sizes, "vocab_size": 11, "max_position_embeddings": 5}
        config = transformers.SiglipConfig(vision_config=sizes, text_config=text)
    else:
        config = getattr(transformers, f"{kind}Config")(**sizes)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return model.vision_model if kind == "Siglip" else model


def encoder(kind: str, folder: Path, size_px: int = 32, **options: Any) -> TimmEncoder:
    return TimmEncoder(name=NAMES[kind], path=str(folder), image_size_px=size_px, **options).eval()


@pytest.mark.parametrize("kind", NAMES)
def test_features_are_those_of_transformers(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = saved(kind, tmp_path)
    images_N3HW = torch.randn(2, 3, 32, 32)
    read = encoder(kind, tmp_path)
    assert ("text_model" in capsys.readouterr().out) == (kind == "Siglip")
    with torch.no_grad():
        expected = model(images_N3HW).last_hidden_state
        torch.testing.assert_close(read.encode(images_N3HW), expected, rtol=1e-5, atol=1e-5)
    rebuilt = create_backbone(NAMES[kind], None, timm_arguments(transformers_config(str(tmp_path)), path="config.json"))
    rebuilt.load_state_dict(read.backbone.state_dict())  # as an exported run does, which has no path
    with torch.no_grad():
        torch.testing.assert_close(rebuilt.eval().forward_features(images_N3HW), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["Dinov2", "ViT", "SiglipVision"])
def test_the_name_must_be_of_that_kind_and_options_may_not_contradict(kind: str, tmp_path: Path):
    saved(kind, tmp_path)
    for other in NAMES.keys() - {kind, "Siglip", "Dinov2WithRegisters"}:
        with pytest.raises(UserError, match=f"is not one. Use vision={CHOICES[kind]}"):
            create_backbone(NAMES[other], str(tmp_path), {})
    with pytest.raises(UserError, match=r"vision\.model_args\.depth=3 contradicts"):
        encoder(kind, tmp_path, model_args={"depth": 3})


def test_position_embeddings_are_resized_where_img_size_says_so(tmp_path: Path):
    saved("Dinov2", tmp_path)
    assert encoder("Dinov2", tmp_path, size_px=48, model_args={"img_size": 48}).num_tokens == 37


@pytest.mark.parametrize("harm", ["missing", "left over", "other shape"])
def test_weights_that_do_not_fit_are_refused_with_their_names(harm: str, tmp_path: Path):
    saved("Dinov2", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = next(name for name in tensors if "query.weight" in name or "q_proj.weight" in name)
    if harm == "missing":
        del tensors[name]
    elif harm == "left over":
        tensors[name.replace(".1.", ".9.").replace(".0.", ".9.")] = tensors[name].clone()
    else:
        tensors[name] = torch.zeros(24, 25)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"blocks\.\d\.attn\.qkv"):
        encoder("Dinov2", tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"use_swiglu_ffn": True}, "use_swiglu_ffn=True, which vision.name=vit_base_patch14_dinov2 is not. Pass"),
        ({"num_channels": 1}, "num_channels=1, and only 3 is read"),
        ({"hidden_act": "silu"}, "hidden_act=silu, and only gelu"),
        ({"hidden_size": "wide"}, "(cannot read|cannot build)"),
        ({"hidden_size": 0}, "no single positive number in hidden_size"),
        ({"image_size": [32, 64]}, "no single positive number in image_size"),
        ({"num_hidden_layers": 10**5}, "cannot build|do not belong together"),
        ({"model_type": "convnext"}, "model_type=.?convnext.?, and timm's layout is read, and transformers' of Swin"),
    ],
)
def test_what_is_not_read_is_refused(change: dict[str, Any], words: str, tmp_path: Path):
    saved("Dinov2", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=words) as error:
        encoder("Dinov2", tmp_path)
    assert "\n" not in str(error.value)


def test_the_gated_layers_of_a_giant_dinov2_are_read(tmp_path: Path):
    model = saved("Dinov2", tmp_path, use_swiglu_ffn=True)
    images_N3HW = torch.randn(2, 3, 32, 32)
    read = TimmEncoder(name="vit_giant_patch14_dinov2", path=str(tmp_path), image_size_px=32).eval()
    with torch.no_grad():
        expected = model(images_N3HW).last_hidden_state
        torch.testing.assert_close(read.encode(images_N3HW), expected, rtol=1e-5, atol=1e-5)


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path):
    saved("ViT", tmp_path)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 346293852\n"
    (tmp_path / "model.safetensors").write_text(pointer)
    with pytest.raises(UserError, match=r"vision\.path: .*safetensors is a git-LFS pointer to a file of 346\.3 MB"):
        encoder("ViT", tmp_path)


def test_a_file_that_only_the_published_repository_has_can_be_unset(tmp_path: Path):
    """vision=rad_dino names a file in DINOv2's own layout."""
    saved("Dinov2", tmp_path)
    with pytest.raises(UserError, match=r"add vision\.file=null"):
        encoder("Dinov2", tmp_path, file="backbone_compatible.safetensors")
