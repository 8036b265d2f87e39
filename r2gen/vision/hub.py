"""A Swin in transformers' layout by hub id: microsoft/swin-base-patch4-window7-224 is what R2GenGPT names."""

import re
from contextlib import suppress
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from r2gen.vision.swin_names import swin_config

FACTS = ["config.json", "preprocessor_config.json"]
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def swin_folder(path: str | None) -> str | None:
    """The folder in the hub cache of a hub id whose config.json is a Swin's; any other path as it is.

    Without hub=online nothing is fetched. What cannot be had stays a hub id: reading it as timm's weights says why.
    """
    if path is None or Path(path).expanduser().exists() or not re.fullmatch(r"\w[\w.-]*/[\w.-]+", path):
        return path
    with suppress(LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError):
        if swin_config(snapshot_download(path, allow_patterns=FACTS)) is None:
            return path
        for name in WEIGHT_FILES:
            folder = snapshot_download(path, allow_patterns=[*FACTS, name])
            if (Path(folder) / name).is_file():
                return folder
    return path
