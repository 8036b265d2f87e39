"""Image encoders: patch features from any timm backbone."""

import pickle
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import load_state_dict_from_hf
from torch import nn

from r2gen.config.plain import Plain
from r2gen.data.collate import moved
from r2gen.errors import Code, UserError, shown
from r2gen.ranks import dist
from r2gen.runs.placeholders import placeholder
from r2gen.runs.untrusted import refuse_compressed
from r2gen.runs.whole_files import ENCODER_FILES, OPEN_CLIP_FILES
from r2gen.vision.batch_norm import freeze_statistics, let_statistics_move, moving
from r2gen.vision.feature_cache import FeatureCache
from r2gen.vision.hub import layout_folder, named_repository, named_weights, note_other_statistics, unfetchable
from r2gen.vision.image_embedding import ImageEmbedding
from r2gen.vision.layouts import transformers_config
from r2gen.vision.open_clip import create_trunk, open_clip_config
from r2gen.vision.swin_names import DROP_PATH, check_buildable, create_swin
from r2gen.vision.transforms import ImageTransform
from r2gen.vision.undrawn import Undrawn
from r2gen.vision.views import ConcatViews, MeanViews
from r2gen.vision.vit_names import create_vit, set_eps, without_eps

# B batch, V views, N images, H height, W width, P patches of an image, Q features of a study, D encoder width
HEADS = frozenset({"head", "fc", "attn_pool", "fc_norm"})  # parts that timm's forward_features does not use
LARGEST_PX = 4096
_READ_ERRORS = (OSError, EOFError, ValueError, RuntimeError, SafetensorError, pickle.UnpicklingError)


class TimmEncoder(nn.Module):
    """A timm backbone without its head, and its preprocessing (`transform`).

    path is a folder with model.safetensors or pytorch_model.bin in timm's layout or transformers' (layouts.py), one
    such file, or a hub id; null draws random weights. `file` is the name of the weights in that folder or repository,
    if it differs from timm's. `mean` and `std` (of gray, 0 to 1) replace those of timm. `dim` is the width D,
    `num_tokens` the number P of features of one image, including a class token.

    The statistics of a BatchNorm move in training unless `batch_norm` is frozen (config/batch_norm.py decides auto).
    `drop_path` is the rate at which training skips the last block of the backbone, and less for earlier ones.
    """

    backbone: Any  # a timm model; its methods are not in the type nn.Module
    mean_C: torch.Tensor
    std_C: torch.Tensor

    def __init__(
        self,
        *,
        name: str,
        image_size_px: int,
        path: str | None = None,
        file: str | None = None,
        mean: float | None = None,
        std: float | None = None,
        views: Literal["mean", "concat"] = "mean",
        max_views: int = 4,
        model_args: dict[str, Any] | None = None,
        lora_targets: list[str] | None = None,
        gradient_checkpointing: bool = False,
        batch_norm: Literal["auto", "frozen", "moving"] = "frozen",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        _refuse_numbers(image_size_px=image_size_px, max_views=max_views, std=std, drop_path=drop_path)
        model_args = {**(model_args or {}), **({DROP_PATH: drop_path} if drop_path else {})}
        self.backbone = create_backbone(name, path, model_args, file=file)
        if batch_norm != "frozen" and not let_statistics_move(self.backbone) and batch_norm == "moving":
            raise UserError(f"vision.batch_norm=moving: {name} has no BatchNorm. Use vision.batch_norm=frozen.")
        for head in HEADS & {part for part, _ in self.backbone.named_children()}:
            setattr(self.backbone, head, nn.Identity())  # unused, but it would be stored and counted as trainable
        self.lora_targets = lora_targets or []
        self.transform = ImageTransform(image_size_px)
        if gradient_checkpointing:
            self.backbone.set_grad_checkpointing(True)
        timms = self.backbone.pretrained_cfg
        self.register_buffer("mean_C", torch.tensor(timms["mean"] if mean is None else [mean] * 3), persistent=False)
        self.register_buffer("std_C", torch.tensor(timms["std"] if std is None else [std] * 3), persistent=False)
        self.dim: int = self.backbone.num_features
        try:
            with torch.no_grad():
                self.num_tokens = self.eval().encode(torch.zeros(1, 3, image_size_px, image_size_px)).shape[1]
        except (AssertionError, RuntimeError, ValueError) as error:  # a transformer accepts one size only
            raise UserError(
                f"vision.image_size_px={image_size_px} does not fit vision.name={name}: {error}\n"
                f"A transformer is built for one size: add vision.model_args={{img_size: {image_size_px}}}."
            ) from error
        self.train()
        self.cache: FeatureCache | None = None  # in training, if it is frozen: see cache_images
        self.validation_cache: FeatureCache | None = None  # see cached_validation
        self.join = MeanViews() if views == "mean" else ConcatViews(max_views, self.dim)
        self.embedding: ImageEmbedding | None = None  # of position and age, see context.image_embeddings

    def forward(
        self,
        images_BVHW: torch.Tensor,
        views_BV: torch.Tensor,
        ids: Sequence[Hashable] = (),
        about_BV2: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, Q, D] of each study and a mask [B, Q] on the CPU of those that are not padding.

        images_BVHW is uint8 gray at image_size_px; views_BV, on the CPU, masks the views that exist. The backbone sees
        only those. With the ids of the studies, features may be cached in training. about_BV2, on the CPU, are the
        position and the age of each image, for the embedding.
        """
        batch, views = views_BV.shape
        views_BV, device = views_BV.cpu(), images_BVHW.device
        images_NHW = images_BVHW.flatten(0, 1)
        keys = [(ids[study], view) for study, view in views_BV.nonzero().tolist()] if ids else []
        if views_BV.all():
            features_NPD = self._features(images_NHW, keys)
        else:
            existing_N = moved(views_BV.flatten().nonzero()[:, 0], device)
            existing_NPD = self._features(images_NHW.index_select(0, existing_N), keys)
            features_NPD = existing_NPD.new_zeros(batch * views, *existing_NPD.shape[1:])
            features_NPD = features_NPD.index_copy(0, existing_N, existing_NPD)
        features_BVPD = features_NPD.unflatten(0, (batch, views))
        if self.embedding is not None and about_BV2 is not None:
            features_BVPD = features_BVPD + self.embedding(about_BV2)[:, :, None]
        joined: tuple[torch.Tensor, torch.Tensor] = self.join(features_BVPD, views_BV)
        return joined

    def _features(self, images_NHW: torch.Tensor, keys: Sequence[Hashable]) -> torch.Tensor:
        def encode(images_NHW: torch.Tensor) -> torch.Tensor:
            return self.encode(self.normalise(images_NHW))

        def encode_alone(images_NHW: torch.Tensor) -> torch.Tensor:
            return torch.cat([encode(image_HW[None]) for image_HW in images_NHW])

        in_training = torch.is_grad_enabled()
        cache = self.cache if in_training else self.validation_cache
        # On a CPU the last bits of features depend on how many images a pass has. Which ones are new to a cache must
        # not change the weights.
        alone = in_training and images_NHW.device.type == "cpu" and self.is_frozen
        encode_new = encode_alone if alone else encode
        return encode_new(images_NHW) if cache is None or not keys else cache.features(keys, images_NHW, encode_new)

    @property
    def is_frozen(self) -> bool:
        """Whether no weight of the backbone trains."""
        return not any(parameter.requires_grad for parameter in self.backbone.parameters())

    def normalise(self, images_NHW: torch.Tensor) -> torch.Tensor:
        """[N, 3, H, W]: gray on three channels, normalised by the mean and deviation of the backbone's training."""
        images_N1HW = images_NHW[:, None].to(self.mean_C.dtype) / 255
        return (images_N1HW - self.mean_C[:, None, None]) / self.std_C[:, None, None]

    def encode(self, images_N3HW: torch.Tensor) -> torch.Tensor:
        """[N, P, D] from normalised images; timm backbones return [N, D, h, w], [N, h, w, D] or [N, P, D]."""
        with moving(self.backbone):
            features: torch.Tensor = self.backbone.forward_features(images_N3HW)
        if features.ndim == 4:
            features = features.flatten(2).transpose(1, 2) if features.shape[1] == self.dim else features.flatten(1, 2)
        return features

    def train(self, mode: bool = True) -> "TimmEncoder":
        """Like nn.Module.train, but the statistics of a BatchNorm change only if they move (`batch_norm`)."""
        super().train(mode)
        freeze_statistics(self)
        return self


@contextmanager
def cached_validation(encoder: TimmEncoder, cache: FeatureCache | None) -> Iterator[None]:
    """Within this context features computed without gradients are kept in the cache.

    They are always of the same studies, with the same images.
    """
    encoder.validation_cache = cache
    try:
        yield
    finally:
        encoder.validation_cache = None


def _refuse_numbers(*, image_size_px: int, max_views: int, std: float | None, drop_path: float) -> None:
    if not 0 <= drop_path < 1:
        raise UserError(f"vision.drop_path={drop_path}: give a rate of at least 0 and less than 1.")
    if not 1 <= image_size_px <= LARGEST_PX:
        raise UserError(f"vision.image_size_px={image_size_px}: give 1 to {LARGEST_PX:,} pixels.")
    if max_views < 1:
        raise UserError(f"vision.max_views={max_views} must be more than 0.")
    if std is not None and std <= 0:
        raise UserError(f"vision.std={std} must be more than 0, since gray levels are divided by it.")


def create_backbone(
    name: str, path: str | None, model_args: Mapping[str, Any], *, file: str | None = None
) -> nn.Module:
    """timm's model without its head, with weights that must fit exactly (timm converts its own older layouts)."""
    name, path, published = named_repository(name, path)
    name, path = named_weights(name, path)
    path = layout_folder(path, file)
    if path is not None and (clip := open_clip_config(path, file)) is not None:
        tensors = tensors_at(path, file)
        refuse_other_values(tensors, path)
        model = create_trunk(name, path, clip, tensors=tensors, model_args=model_args)
        return with_statistics(model, clip)
    model_args = {**published.get("model_args", {}), **model_args}
    config = transformers_config(path, file)
    if path is not None and config is not None:
        tensors = tensors_at(path, file)
        refuse_other_values(tensors, path)
        create = create_swin if config["model_type"] == "swin" else create_vit
        return create(name, path, config, tensors=tensors, model_args=model_args)
    model_args, eps = without_eps(model_args)
    source: Plain = {} if path is None else {"pretrained": True, "pretrained_cfg_overlay": weights(name, path, file)}
    if published.get("model_args"):
        tensors = source["pretrained_cfg_overlay"]["state_dict"]
        check_buildable(name, model_args, tensors, file=Path(str(path)) / "config.json")
    try:
        with nullcontext() if path is None else Undrawn():
            model = timm.create_model(name, num_classes=0, **model_args)
        if path is not None and not load_as_it_is(model, source["pretrained_cfg_overlay"]["state_dict"]):
            model = timm.create_model(name, num_classes=0, **model_args, **source)
    except Exception as error:  # timm's constructors and loaders raise many types
        if DROP_PATH in str(error):
            raise UserError(
                f"vision.drop_path={model_args[DROP_PATH]}: timm's {name} has no drop-path. Leave it out."
            ) from error
        if path is None:
            raise UserError(f"vision.name={name} with vision.model_args={dict(model_args)}: {error}") from error
        raise UserError(
            f"vision.path={path} cannot be read into {name}: {' '.join(str(error).split()):.500}. Give a folder with "
            "weights in timm's layout, or vision.path=null for random weights."
        ) from error
    if eps is not None:
        set_eps(model, eps)
    if path is not None and not published and dist.is_first():
        note_other_statistics(name, path, model)
    return with_statistics(model, published)


def with_statistics(model: Any, published: Plain) -> nn.Module:
    """The model with the mean and deviation of its published weights, where they state them."""
    model.pretrained_cfg |= {key: published[key] for key in ("mean", "std") if key in published}
    backbone: nn.Module = model
    return backbone


def load_as_it_is(model: nn.Module, tensors: Plain) -> bool:
    """Load the tensors if their names and shapes are those of the model; returns whether they were.

    timm up to 1.0.29 takes the weights of a Swin without a classifier for an older layout and renames them.
    """
    own = {key: tensor.shape for key, tensor in model.state_dict().items()}
    if own != {key: tensor.shape for key, tensor in tensors.items()}:
        return False
    model.load_state_dict(tensors)
    return True


def weights(name: str, path: str, file: str | None = None) -> Plain:
    """The arguments with which timm reads the tensors at `path` without a classifier.

    If the numbers of classes of weights and model differ, timm does not read strictly, and missing tensors stay random.
    Therefore neither has a classifier.
    """
    tensors = tensors_at(path, file)
    for wrapping in ("state_dict", "model"):
        tensors = tensors.get(wrapping, tensors)
        if not isinstance(tensors, dict):
            raise UserError(f"vision.path={path}: its {wrapping} is a {type(tensors).__name__}, not tensors by name.")
    refuse_other_values(tensors, path)
    config = timm.get_pretrained_cfg(name)
    classifier = config.classifier if config else None
    heads = {"head", "fc", *([classifier] if isinstance(classifier, str) else classifier or [])}
    used = {
        key: tensor for key, tensor in tensors.items() if key.removesuffix(".weight").removesuffix(".bias") not in heads
    }
    if not used:
        raise UserError(f"vision.path={path} contains no weights.")
    return {"state_dict": used, "num_classes": 0, "label_offset": 0}


def refuse_other_values(tensors: Plain, path: str) -> None:
    """Raise UserError unless these are plain tensors by name."""
    for key, tensor in tensors.items():
        if not isinstance(key, str) or not isinstance(tensor, torch.Tensor):
            raise UserError(
                f"vision.path={path}: it has a {type(tensor).__name__} under {shown(key)}: give a file with tensors "
                "by name, or under state_dict or model."
            )
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
            raise UserError(f"vision.path={path}: {shown(key)} is not a plain tensor.")


def tensors_at(path: str, file: str | None = None) -> Plain:
    """The tensors of a file, of a folder or of a hub id; `file` is the name of the weights if it is unusual."""
    local, names = Path(path).expanduser(), (*ENCODER_FILES, *OPEN_CLIP_FILES) if file is None else (file,)
    if local.is_dir():
        files = [local / name for name in names if (local / name).is_file()]
        if not files:
            usual = any((local / name).is_file() for name in ENCODER_FILES)
            fix = ": add vision.file=null for the weights that it has" if usual else ""
            raise UserError(f"vision.path={path} contains none of {', '.join(names)}{fix}.", code=Code.WEIGHTS_MISSING)
        local = files[0]
    if local.is_file():
        return read_tensors(local)
    if local.is_absolute() or path.count("/") != 1:
        raise UserError(
            f"vision.path={path} does not exist. Give a folder, a file or a hub id such as timm/resnet50.a1_in1k.",
            code=Code.WEIGHTS_MISSING,
        )
    try:
        tensors: Plain = load_state_dict_from_hf(path, filename=file or ENCODER_FILES[1], weights_only=True)
    except _READ_ERRORS as error:
        raise unfetchable(path, error) from error
    return tensors


def read_tensors(file: Path) -> Plain:
    """The tensors of a .safetensors or .bin/.pth file; a pickle may contain nothing else."""
    if instead := placeholder(file):
        raise UserError(f"vision.path: {instead}", code=Code.WEIGHTS_MISSING)
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        refuse_compressed(file)
        tensors: Plain = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's message recommends to execute the file
        raise UserError(
            f"vision.path: {file} cannot be read as weights: it is damaged, was not downloaded through git lfs, or "
            "contains more than tensors."
        ) from error
    except _READ_ERRORS as error:
        why = " ".join(str(error).split()) or "it is empty"
        raise UserError(f"vision.path: {file} cannot be read as weights: {why:.500}") from error
    if not isinstance(tensors, dict):
        raise UserError(f"vision.path: {file} contains a {type(tensors).__name__} instead of tensors by name.")
    return tensors
