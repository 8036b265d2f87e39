"""Swin weights in transformers' layout by hub id, such as R2GenGPT's microsoft/swin-base-patch4-window7-224."""

import re
from contextlib import suppress
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from r2gen.errors import Code, UserError
from r2gen.vision.swin_names import swin_config

CONFIG_FILES = ["config.json", "preprocessor_config.json"]
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def swin_folder(path: str | None) -> str | None:
    """The folder in the hub cache of a hub id whose config.json is that of a Swin; any other path unchanged.

    Without hub=online nothing is downloaded. Raises UserError if the local cache has nothing of the hub id and the hub
    cannot be reached: timm would try for another minute.
    """
    if path is None or Path(path).expanduser().exists() or not re.fullmatch(r"\w[\w.-]*/[\w.-]+", path):
        return path
    try:
        folder_of_config = snapshot_download(path, allow_patterns=CONFIG_FILES)
    except LocalEntryNotFoundError as error:
        raise unfetchable(path, error) from error
    except (HfHubHTTPError, HFValidationError, OSError):
        return path  # reading it as timm's weights gives the message
    with suppress(LocalEntryNotFoundError, HfHubHTTPError, OSError):
        if swin_config(folder_of_config) is None:
            return path
        for name in WEIGHT_FILES:
            folder = snapshot_download(path, allow_patterns=[*CONFIG_FILES, name])
            if (Path(folder) / name).is_file():
                return folder
    return path


def unfetchable(path: str, error: Exception) -> UserError:
    """The error for a hub id that is not in the cache and cannot be downloaded."""
    return UserError(
        f"vision.path={path} is not a folder on this machine and cannot be downloaded: {error}\nhub=online downloads "
        "a hub id; vision.path=null draws random weights.",
        code=Code.WEIGHTS_MISSING,
    )
