"""Films -> patch features, with any timm backbone."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from r2gen.errors import UserError
from r2gen.vision.transforms import FilmTransform
from r2gen.vision.views import ConcatViews, MeanViews

# B batch, V views, N films, H height, W width, P patches of a film, Q features of a study, D encoder width
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


class TimmEncoder(nn.Module):
    """A timm backbone without its head. It hands out its own preprocessing (`transform`).

    path: a folder with model.safetensors or pytorch_model.bin in timm's layout, one such file, or a hub id; null draws
    random weights. `dim` is the width D, `num_tokens` the patches P of one film.
    """

    def __init__(
        self,
        *,
        name: str,
        image_size_px: int,
        path: str | None = None,
        views: Literal["mean", "concat"] = "mean",
        max_views: int = 4,
        model_args: dict[str, Any] | None = None,
        lora_targets: list[str] | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = create_backbone(name, path, model_args or {})
        self.has_weights = path is not None
        self.lora_targets = lora_targets or []
        self.transform = FilmTransform(image_size_px)
        if gradient_checkpointing:
            self.backbone.set_grad_checkpointing(True)
        mean, std = self.backbone.pretrained_cfg["mean"], self.backbone.pretrained_cfg["std"]
        self.register_buffer("mean_C", torch.tensor(mean), persistent=False)
        self.register_buffer("std_C", torch.tensor(std), persistent=False)
        self.dim: int = self.backbone.num_features
        with torch.no_grad():
            self.num_tokens = self.eval().encode(torch.zeros(1, 3, image_size_px, image_size_px)).shape[1]
        self.train()
        self.join = MeanViews() if views == "mean" else ConcatViews(max_views, self.dim)

    def forward(self, films_BVHW: torch.Tensor, views_BV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, Q, D] of each study and a mask [B, Q] of those that are real.

        films_BVHW: uint8 gray at image_size_px; views_BV says which are there. Only those pass the backbone.
        """
        batch, views = views_BV.shape
        films_NHW = films_BVHW[views_BV]
        features_NPD = self.encode(self.normalise(films_NHW))
        features_BVPD = features_NPD.new_zeros(batch, views, *features_NPD.shape[1:])
        features_BVPD[views_BV] = features_NPD
        return self.join(features_BVPD, views_BV)

    def normalise(self, films_NHW: torch.Tensor) -> torch.Tensor:
        """[N, 3, H, W]: gray on three channels, with the mean and deviation the backbone was trained with."""
        films_N1HW = films_NHW[:, None].to(self.mean_C.dtype) / 255
        return (films_N1HW - self.mean_C[:, None, None]) / self.std_C[:, None, None]

    def encode(self, films_N3HW: torch.Tensor) -> torch.Tensor:
        """[N, P, D] from normalised films; timm backbones give [N, D, h, w], [N, h, w, D] or [N, P, D]."""
        features = self.backbone.forward_features(films_N3HW)
        if features.ndim == 4:
            features = features.flatten(2).transpose(1, 2) if features.shape[1] == self.dim else features.flatten(1, 2)
        return features

    def train(self, mode: bool = True) -> "TimmEncoder":
        """As nn.Module.train, but the statistics of a BatchNorm never move."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


def create_backbone(name: str, path: str | None, model_args: Mapping[str, Any]) -> nn.Module:
    """timm's model without its head, weights read strictly by timm's own loader (old layouts converted by it)."""
    if name not in timm.list_models():
        raise UserError(f"vision.name={name} is no timm model: timm.list_models() lists them")
    weights = {} if path is None else {"pretrained": True, "pretrained_cfg_overlay": weight_source(path)}
    try:
        return timm.create_model(name, num_classes=0, **model_args, **weights)
    except Exception as error:  # whatever timm's loader or constructor meets
        if path is None:
            raise UserError(f"vision.name={name} with vision.model_args={dict(model_args)}: {error}") from error
        raise UserError(
            f"vision.path={path} cannot be read into {name}: {error}\ngive a folder with weights in timm's layout, "
            "hub=online to fetch them, or vision.path=null for random weights"
        ) from error


def weight_source(path: str) -> dict[str, Any]:
    """What timm reads: the tensors of a file or of a folder's file (safetensors, or weights_only), or a hub id."""
    place = Path(path)
    if place.is_dir():
        found = [place / name for name in WEIGHT_FILES if (place / name).is_file()]
        if not found:
            raise UserError(f"vision.path={path} holds none of {', '.join(WEIGHT_FILES)}")
        place = found[0]
    if place.is_file():
        return {"state_dict": read_tensors(place)}
    if place.is_absolute() or path.count("/") != 1:
        raise UserError(f"vision.path={path} does not exist: give a folder, a file or a hub id such as "
                        "timm/resnet50.a1_in1k")  # fmt: skip
    return {"hf_hub_id": path, "source": "hf-hub"}


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors or .bin/.pth file; of a pickle only tensors are read."""
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        tensors: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise UserError(f"{file} cannot be read as weights: {error}") from error
    return tensors
