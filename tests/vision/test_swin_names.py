"""Swin weights of transformers, under old and new names, give the same features in timm's Swin."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import SwinConfig, SwinModel

from r2gen.errors import UserError
from r2gen.vision.encoder import TimmEncoder

torch.set_num_threads(1)
# Names that differ between transformers 5 and 4.41
OLD = [
    (r"attention\.q_proj", "attention.self.query"),
    (r"attention\.k_proj", "attention.self.key"),
    (r"attention\.v_proj", "attention.self.value"),
    (r"attention\.o_proj", "attention.output.dense"),
    (r"attention\.relative_position_bias\.", "attention.self."),
    (r"mlp\.fc1", "intermediate.dense"),
    (r"mlp\.fc2", "output.dense"),
]


def encoder(folder: Path, size_px: int = 32, **options: Any) -> TimmEncoder:
    return TimmEncoder(name="swin_base_patch4_window7_224", path=str(folder), image_size_px=size_px, **options).eval()


def renamed(name: str, *, old: bool) -> str:
    for new, before in OLD if old else ():
        name = re.sub(new, before, name)
    return name


@pytest.fixture
def swin(tmp_path: Path) -> tuple[Path, SwinModel]:
    """A folder in the layout of transformers 5, with shifted windows, merges and heads of two widths."""
    torch.manual_seed(0)
    config = SwinConfig(image_size=32, patch_size=2, embed_dim=12, depths=[2, 2, 1], num_heads=[2, 3, 4], window_size=4)
    model = SwinModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    return tmp_path, model


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("prefix", ["", "swin."])
def test_features_are_those_of_transformers(old: bool, prefix: str, swin: tuple[Path, SwinModel]):
    folder, model = swin
    tensors = load_file(folder / "model.safetensors")
    tensors = {prefix + renamed(name, old=old): tensor for name, tensor in tensors.items()}
    if prefix:
        tensors["classifier.weight"] = torch.zeros(5, 48)
    save_file(tensors, folder / "model.safetensors")
    images_N3HW = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(images_N3HW).last_hidden_state
        torch.testing.assert_close(encoder(folder).encode(images_N3HW), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_hub_id_in_the_local_cache_is_read_like_its_folder(
    file: str, swin: tuple[Path, SwinModel], monkeypatch: pytest.MonkeyPatch
):
    folder, model = swin
    cache = folder / "cache"
    snapshot = cache / "models--microsoft--swin" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (cache / "models--microsoft--swin" / "refs").mkdir()
    (cache / "models--microsoft--swin" / "refs" / "main").write_text("0" * 40)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(constants, name, str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"vision\.path=microsoft/swin is not a folder on this machine and cannot be downloaded"
    ):
        encoder(Path("microsoft/swin"))
    (folder / "config.json").rename(snapshot / "config.json")
    (snapshot / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    with pytest.raises(UserError, match=r"vision\.path=microsoft"):
        encoder(Path("microsoft/swin"))
    if file.endswith(".bin"):
        torch.save(load_file(folder / "model.safetensors"), snapshot / file)
    else:
        (folder / file).rename(snapshot / file)
    images_N3HW = torch.randn(2, 3, 32, 32)
    read = encoder(Path("microsoft/swin"))
    with torch.no_grad():
        torch.testing.assert_close(read.encode(images_N3HW), model(images_N3HW).last_hidden_state, rtol=1e-5, atol=1e-5)
    assert read.mean_C.tolist() == [0.5] * 3


@pytest.mark.parametrize("harm", ["missing", "left over", "other shape", "swapped rows"])
def test_weights_that_do_not_fit_are_refused_with_their_names(harm: str, swin: tuple[Path, SwinModel]):
    folder, model = swin
    tensors = load_file(folder / "model.safetensors")
    name = "encoder.layers.1.blocks.1.attention.k_proj.weight"
    if harm == "swapped rows":  # control: exchanging query and value must change the features
        other = name.replace("k_proj", "v_proj")
        tensors[name], tensors[other] = tensors[other], tensors[name]
        save_file(tensors, folder / "model.safetensors")
        images_N3HW = torch.randn(1, 3, 32, 32)
        with torch.no_grad():
            assert (encoder(folder).encode(images_N3HW) - model(images_N3HW).last_hidden_state).abs().max() > 1e-3
        return
    if harm == "missing":
        del tensors[name]
    elif harm == "left over":
        tensors["encoder.layers.1.blocks.9.layernorm_after.weight"] = tensors[name].clone()
    else:
        tensors[name] = torch.zeros(24, 25)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"layers\.1\.blocks\.(1\.attn\.qkv|9)"):
        encoder(folder)


def test_options_may_not_contradict_config_json(swin: tuple[Path, SwinModel]):
    folder, _ = swin
    with pytest.raises(UserError, match=r"vision\.image_size_px=64"):
        encoder(folder, size_px=64)
    with pytest.raises(UserError, match=r"vision\.model_args\.window_size=7"):
        encoder(folder, model_args={"window_size": 7})
    config = json.loads((folder / "config.json").read_text())
    for change, words in (({"layer_norm_eps": 0.1}, "layer_norm_eps"), ({"window_size": 5}, "windows of 5")):
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(UserError, match=words):
            encoder(folder)


def test_mean_and_deviation_of_the_folder_are_used(swin: tuple[Path, SwinModel]):
    folder, _ = swin
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1] * 3, "image_std": [0.2] * 3}))
    assert encoder(folder).mean_C.tolist() == pytest.approx([0.1] * 3)
    assert encoder(folder).std_C.tolist() == pytest.approx([0.2] * 3)
