"""BiomedCLIP's image encoder in open_clip's layout, and weights that a name of timm's form hf-hub:OWNER/NAME means."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from r2gen.errors import UserError
from r2gen.vision.encoder import TimmEncoder, create_backbone
from r2gen.vision.hub import named_repository

NAME = "test_vit"
CLIP = [0.48145466, 0.4578275, 0.40821073]
FILES = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin", "model.safetensors"]


def saved(folder: Path, file: str = FILES[0], **vision: Any) -> Any:
    """A small CLIP around a random model of timm, which is returned."""
    torch.manual_seed(0)
    model = timm.create_model(NAME, num_classes=0).eval()
    tensors = {f"visual.trunk.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {
        "visual.head.proj.weight": torch.zeros(4, 4),
        "text.cls_emb": torch.zeros(4),
        "logit_scale": torch.ones(1),
    }
    if file.endswith(".bin"):
        torch.save(tensors, folder / file)
    else:
        save_file(tensors, folder / file)
    config = {"model_cfg": {"embed_dim": 4, "vision_cfg": {"timm_model_name": NAME, **vision}}}
    config["preprocess_cfg"] = {"mean": CLIP, "std": [0.27, 0.26, 0.28]}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return model


@pytest.mark.parametrize("file", FILES)
def test_the_image_encoder_of_a_clip_is_read_with_its_statistics(file: str, tmp_path: Path):
    model = saved(tmp_path, file)
    read = TimmEncoder(name=NAME, path=str(tmp_path), image_size_px=160).eval()
    images_N3HW = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        assert torch.equal(read.encode(images_N3HW), model.forward_features(images_N3HW))
    assert read.mean_C.tolist() == pytest.approx(CLIP)
    resized = TimmEncoder(name=NAME, path=str(tmp_path), image_size_px=96, model_args={"img_size": 96})
    assert resized.num_tokens < read.num_tokens


@pytest.mark.parametrize(
    ("name", "vision", "message"),
    [
        (
            "vit_base_patch16_224",
            {},
            "contains timm's test_vit, but vision.name=vit_base_patch16_224. Pass",
        ),
        (NAME, {"timm_model_name": None}, "is not one of timm's .timm_model_name is null"),
        (NAME, {"timm_model_name": "test_vit2"}, "lacks .* tensors"),
    ],
)
def test_a_clip_that_cannot_be_read_is_refused(name: str, vision: Any, message: str, tmp_path: Path):
    saved(tmp_path, **vision)
    with pytest.raises(UserError, match=message) as error:
        create_backbone(name if vision.get("timm_model_name") != "test_vit2" else "test_vit2", str(tmp_path), {})
    assert "\n" not in str(error.value)


def published(folder: Path, **facts: Any) -> Any:
    model = timm.create_model(NAME, num_classes=0, depth=2).eval()
    save_file(model.state_dict(), folder / "model.safetensors")
    statistics = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]}
    config = {"architecture": NAME, "model_args": {"depth": 2}, "pretrained_cfg": statistics, **facts}
    (folder / "config.json").write_text(json.dumps(config))
    return model


@pytest.mark.parametrize("form", ["local-dir:", "hf-hub:"])
def test_a_name_of_a_repository_means_its_architecture_weights_and_statistics(form: str, tmp_path: Path):
    model = published(tmp_path)
    name, path = (f"{form}{tmp_path}", None) if form == "local-dir:" else (f"{form}OWNER/NAME", str(tmp_path))
    read = TimmEncoder(name=name, path=path, image_size_px=160).eval()
    images_N3HW = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        assert torch.equal(read.encode(images_N3HW), model.forward_features(images_N3HW))
    assert read.mean_C.tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_weights_with_other_statistics_than_those_of_the_name_are_pointed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    published(tmp_path)
    create_backbone(NAME, str(tmp_path), {"depth": 2})
    assert f"vision.name=local-dir:{tmp_path} vision.path=null has the former" in capsys.readouterr().out
    published(tmp_path, pretrained_cfg={"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]})
    create_backbone(NAME, str(tmp_path), {"depth": 2})
    assert not capsys.readouterr().out


@pytest.mark.parametrize("facts", [{"architecture": None}, {"model_args": 3}, {"model_args": {"checkpoint_path": "x"}}])
def test_a_repository_that_names_no_architecture_is_refused(facts: Any, tmp_path: Path):
    published(tmp_path, **facts)
    with pytest.raises(UserError, match="names no architecture of timm"):
        named_repository(f"local-dir:{tmp_path}", None)


def test_a_repository_that_is_not_here_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"vision\.path=MahmoodLab/UNI is not a folder .* cannot be downloaded"):
        named_repository("hf-hub:MahmoodLab/UNI", None)
