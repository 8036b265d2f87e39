"""A Swin in transformers' layout by hub id: microsoft/swin-base-patch4-window7-224 is what R2GenGPT names."""

import re
from contextlib import suppress
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from r2gen.errors import Code, UserError
from r2gen.vision.swin_names import swin_config

FACTS = ["config.json", "preprocessor_config.json"]
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def swin_folder(path: str | None) -> str | None:
    """The folder in the hub cache of a hub id whose config.json is a Swin's; any other path as it is.

    Without hub=online nothing is fetched. A hub id of timm's own stays as it is. Raises UserError where nothing of it
    is in the local cache and the hub cannot be reached: asked for timm's weights, it would be tried for a minute more.
    """
    if path is None or Path(path).expanduser().exists() or not re.fullmatch(r"\w[\w.-]*/[\w.-]+", path):
        return path
    try:
        facts = snapshot_download(path, allow_patterns=FACTS)
    except LocalEntryNotFoundError as error:
        raise unfetchable(path, error) from error
    except (HfHubHTTPError, HFValidationError, OSError):
        return path  # reading it as timm's weights says why
    with suppress(LocalEntryNotFoundError, HfHubHTTPError, OSError):
        if swin_config(facts) is None:
            return path
        for name in WEIGHT_FILES:
            folder = snapshot_download(path, allow_patterns=[*FACTS, name])
            if (Path(folder) / name).is_file():
                return folder
    return path


def unfetchable(path: str, error: Exception) -> UserError:
    return UserError(
        f"vision.path={path} is no folder here, and cannot be fetched: {error}\nhub=online fetches "
        "a hub id, vision.path=null draws random weights",
        code=Code.WEIGHTS_MISSING,
    )
