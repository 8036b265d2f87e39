"""A Swin in transformers' layout by hub id: microsoft/swin-base-patch4-window7-224 is what R2GenGPT names."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from r2gen.vision.swin_names import swin_config

FACTS = ["config.json", "preprocessor_config.json"]


def swin_folder(path: str | None) -> str | None:
    """The folder in the hub cache of a hub id whose config.json is a Swin's; any other path as it is.

    Without hub=online nothing is fetched. What cannot be had stays a hub id: reading it as timm's weights says why.
    """
    if path is None or Path(path).expanduser().exists() or not re.fullmatch(r"\w[\w.-]*/[\w.-]+", path):
        return path
    try:
        if swin_config(snapshot_download(path, allow_patterns=FACTS)) is None:
            return path
        folder = snapshot_download(path, allow_patterns=[*FACTS, "model.safetensors"])
        if not (Path(folder) / "model.safetensors").is_file():
            folder = snapshot_download(path, allow_patterns=[*FACTS, "pytorch_model.bin"])
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError):
        return path
    return folder
