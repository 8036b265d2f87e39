"""Encoders: the features of each backbone, and how their weights are read."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from r2gen.errors import UserError
from r2gen.vision.encoder import TimmEncoder
from r2gen.vision.transforms import ImageTransform

torch.set_num_threads(1)  # several threads are slower for matrices this small
SMALL_CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 16, 16, 16]}


def convnext(**options: Any) -> TimmEncoder:
    torch.manual_seed(0)
    return TimmEncoder(**{"name": "convnext_atto", "image_size_px": 32, "model_args": SMALL_CONVNEXT, **options})


def images(*views: int, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images of studies with these numbers of views, padded to the largest, and the mask of existing views."""
    drawn = torch.Generator().manual_seed(0)
    there_BV = torch.arange(max(views)) < torch.tensor(views)[:, None]
    images_BVHW = torch.randint(256, (*there_BV.shape, size, size), dtype=torch.uint8, generator=drawn)
    return images_BVHW * there_BV[:, :, None, None], there_BV


@pytest.mark.parametrize("views", ["mean", "concat"])
def test_missing_views_change_nothing(views: str):
    encoder = convnext(views=views).eval()
    images_BVHW, there_BV = images(1, 3, 2)
    images_BVHW[~there_BV] = 255  # the values of a missing view must not matter
    with torch.no_grad():
        features_BQD, real_BQ = encoder(images_BVHW, there_BV)
        for study, count in enumerate((1, 3, 2)):
            alone_BQD, alone_BQ = encoder(images_BVHW[study : study + 1, :count], there_BV[study : study + 1, :count])
            torch.testing.assert_close(features_BQD[study][real_BQ[study]], alone_BQD[0][alone_BQ[0]])


def test_the_mean_is_over_existing_views_and_concat_distinguishes_them():
    images_BVHW, there_BV = images(2)
    with torch.no_grad():
        mean, concat = convnext(views="mean").eval(), convnext(views="concat").eval()
        each_VPD = torch.stack([mean(images_BVHW[:, [v]], there_BV[:, [v]])[0][0] for v in (0, 1)])
        torch.testing.assert_close(mean(images_BVHW, there_BV)[0][0], each_VPD.mean(dim=0))
        twice_BQD, _ = concat(images_BVHW[:, [0, 0]], there_BV)
        assert not torch.allclose(*twice_BQD[0].chunk(2))


def test_more_images_than_max_views_are_refused():
    with pytest.raises(UserError, match=r"vision\.max_views=2"):
        convnext(views="concat", max_views=2)(*images(3))


def test_frozen_batch_norm_statistics_never_change():
    encoder = TimmEncoder(name="resnet18", image_size_px=32, model_args={"channels": [8, 8, 8, 8]}).train()
    before = {name: tensor.clone() for name, tensor in encoder.backbone.named_buffers()}
    assert any("running_mean" in name for name in before)
    encoder(*images(2, 2))
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.backbone.named_buffers())


def test_drop_path_skips_blocks_in_training_only():
    images_BVHW, there_BV = images(2, 1)
    plain, dropping = convnext().eval(), convnext(drop_path=0.5)
    assert all(torch.equal(*pair) for pair in zip(plain.parameters(), dropping.parameters(), strict=True))
    with torch.no_grad():
        first, second = (dropping(images_BVHW, there_BV)[0] for _ in range(2))
        assert not torch.equal(first, second)
        assert torch.equal(dropping.eval()(images_BVHW, there_BV)[0], plain(images_BVHW, there_BV)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop_path": 1.0}, r"vision\.drop_path=1\.0: give a rate of at least 0 and less than 1\."),
        ({"drop_path": -0.1}, r"vision\.drop_path=-0\.1"),
        (
            {"name": "vgg11", "model_args": {}, "drop_path": 0.1},
            r"vision\.drop_path=0\.1: timm's vgg11 has no",
        ),
    ],
)
def test_a_drop_path_that_is_not_possible_is_refused(options: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        convnext(**options)


def test_checkpointed_layers_give_the_same_gradients():
    def gradients(checkpointing: bool) -> dict[str, torch.Tensor]:
        encoder = convnext(gradient_checkpointing=checkpointing).train()
        torch.manual_seed(1)
        encoder(*images(2, 1))[0].square().sum().backward()
        return {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}

    plain, again = gradients(False), gradients(True)
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)


# Weights


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """A published checkpoint in timm's layout, with the classifier that the encoder drops."""
    torch.manual_seed(5)
    return timm.create_model("convnext_atto", num_classes=10, **SMALL_CONVNEXT).state_dict()


@pytest.mark.parametrize("file_name", ["model.safetensors", "pytorch_model.bin", "file.pth"])
def test_weights_of_a_folder_or_file_are_read(file_name: str, tensors: dict[str, torch.Tensor], tmp_path: Path):
    file = tmp_path / file_name
    save_file(tensors, file) if file.suffix == ".safetensors" else torch.save(tensors, file)
    encoder = convnext(path=str(file if file_name == "file.pth" else tmp_path))
    for name, tensor in encoder.backbone.state_dict().items():
        assert torch.equal(tensor, tensors[name]), name


@pytest.mark.parametrize("harm", ["missing", "unexpected", "other shape", "only a classifier"])
def test_weights_that_do_not_fit_exactly_are_refused(harm: str, tensors: dict[str, torch.Tensor], tmp_path: Path):
    tensors, name = dict(tensors), "stages.1.blocks.0.mlp.fc1.weight"
    if harm == "missing":
        del tensors[name]
    elif harm == "unexpected":
        tensors["stages.1.blocks.7.mlp.fc1.weight"] = tensors[name].clone()
    elif harm == "other shape":
        tensors[name] = torch.zeros(3, 3)
    else:
        tensors = {key: tensor for key, tensor in tensors.items() if key.startswith("head.fc")}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"vision\.path"):
        convnext(path=str(tmp_path))


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harm_was_done"),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("written", [pickle.dump, torch.save])
def test_a_pickle_that_contains_code_is_refused_without_running_it(
    written: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with Path("pytorch_model.bin").open("wb") as out:
        written({"stem.0.weight": Malicious()}, out)
    with pytest.raises(UserError, match=r"vision\.path"):
        convnext(path=str(tmp_path))
    assert not Path("harm_was_done").exists()


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\x10\0\0\0\0\0\0\0{"])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_broken_file_is_refused(content: bytes, name: str, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"vision\.path"):
        convnext(path=str(tmp_path))


@pytest.mark.parametrize("path", ["/no/such/folder", "no_such_folder", "a/b/c"])
def test_a_path_that_does_not_exist_is_refused(path: str):
    with pytest.raises(UserError, match=r"vision\.path"):
        convnext(path=path)


def test_an_empty_folder_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"vision\.path"):
        convnext(path=str(tmp_path))


def test_a_hub_id_is_refused_when_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"vision\.path=timm/no_such_model.*\n.*hub=online"):
        convnext(path="timm/no_such_model")


def test_an_unknown_backbone_argument_or_size_is_refused():
    with pytest.raises(UserError, match=r"vision\.name=convnext_nano_atto"):
        convnext(name="convnext_nano_atto")
    with pytest.raises(UserError, match=r"vision\.model_args"):
        convnext(model_args={"dephts": [1]})
    with pytest.raises(UserError, match=r"vision\.image_size_px=48"):
        TimmEncoder(name="vit_tiny_patch16_224", image_size_px=48, model_args={"depth": 1})


def test_weights_in_dinov2s_layout_are_read_from_the_named_file(tmp_path: Path):
    small: dict[str, Any] = {"embed_dim": 48, "depth": 2, "num_heads": 3}
    torch.manual_seed(5)
    published = timm.create_model("vit_base_patch14_dinov2", num_classes=0, img_size=56, **small).state_dict()
    save_file({**published, "mask_token": torch.zeros(1, 48)}, tmp_path / "backbone.safetensors")
    save_file(
        {"embeddings.cls_token": torch.zeros(1)}, tmp_path / "model.safetensors"
    )  # the same weights in another layout
    encoder = TimmEncoder(
        name="vit_base_patch14_dinov2",
        image_size_px=28,
        path=str(tmp_path),
        mean=0.5,
        std=0.25,
        file="backbone.safetensors",
        model_args={**small, "img_size": 28},
    )
    for name, tensor in encoder.backbone.state_dict().items():
        if name != "pos_embed":  # resized from 4 x 4 positions and a class token to 2 x 2
            assert torch.equal(tensor, published[name]), name
    assert torch.equal(encoder.backbone.pos_embed[:, 0], published["pos_embed"][:, 0])
    white_NHW = torch.full((1, 28, 28), 255, dtype=torch.uint8)
    assert encoder.normalise(white_NHW).unique().tolist() == [2.0]  # (1 - .5) / .25


# The transform


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P", "LA"])
@pytest.mark.parametrize("size", [(1, 1), (7, 50), (64, 64), (300, 20)])
def test_an_image_of_any_size_and_mode_becomes_a_gray_square(mode: str, size: tuple[int, int]):
    square = ImageTransform(64)(Image.new(mode, size, 1))
    assert square.shape == (64, 64)
    assert square.dtype == torch.uint8


def test_an_image_of_the_right_size_is_not_changed():
    pixels_HW, _ = images(1, size=16)
    image = Image.fromarray(pixels_HW[0, 0].numpy())
    assert torch.equal(ImageTransform(16)(image), pixels_HW[0, 0])


def test_a_transformer_refuses_another_size_with_the_option_to_set() -> None:
    with pytest.raises(UserError, match=r"add vision\.model_args=\{img_size: 64\}"):
        TimmEncoder(name="vit_tiny_patch16_224", image_size_px=64, model_args={"img_size": 32, "depth": 1})
