"""Whether the statistics of an encoder's BatchNorm move in training: the rule of vision.batch_norm."""

from r2gen.config.plain import Plain
from r2gen.config.read import to_plain
from r2gen.config.schema import Config
from r2gen.config.targets import Target


def moves(config: Plain) -> bool:
    """Whether the statistics move, in a plain configuration. An encoder without BatchNorm has none that could.

    With auto they move where an encoder with random weights trains in full: its first statistics describe nothing.
    Pretrained statistics are those of millions of images, and a micro-batch has a few.
    """
    vision = config.get("vision") or {}
    if vision.get("batch_norm") != "auto":
        return bool(vision.get("batch_norm") == "moving")
    name, norm = str(vision.get("name")), (vision.get("model_args") or {}).get("norm_layer", "batchnorm")
    is_random = vision.get("path") is None and "." not in name and ":" not in name  # a tag or hub id names weights
    return is_random and config["tune"]["vision"] == "full" and "batchnorm" in str(norm)


def encoder(config: Config) -> Target:
    """The encoder of a configuration, without vision.batch_norm=auto where that means frozen."""
    if config.vision.get("batch_norm") == "auto" and not moves(to_plain(config)):
        return config.vision.with_arguments(batch_norm="frozen")
    return config.vision
