"""Weights of an encoder that a hub id or timm's name with a tag names, those in transformers' layout among them."""

import re
from contextlib import suppress
from pathlib import Path

import timm
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from r2gen.errors import Code, UserError
from r2gen.vision.layouts import WEIGHT_FILES, transformers_config

CONFIG_FILES = ["config.json", "preprocessor_config.json"]


def layout_folder(path: str | None, file: str | None = None) -> str | None:
    """The folder in the hub cache of a hub id whose weights are in transformers' layout; any other path unchanged.

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
        if transformers_config(folder_of_config, file) is None:
            return path
        for name in WEIGHT_FILES:
            folder = snapshot_download(path, allow_patterns=[*CONFIG_FILES, name])
            if (Path(folder) / name).is_file():
                return folder
    return path


def named_weights(name: str, path: str | None) -> tuple[str, str | None]:
    """timm's name and the path of weights, where a name has a tag (resnet50.a1_in1k) or is hf-hub:timm/NAME.TAG.

    Such a name says which weights are meant: without a path they are those. Raises UserError for a name that timm does
    not have, and for other weights of timm.
    """
    source, _, hub_id = name.rpartition(":")
    if source in ("hf-hub", "hf_hub"):
        if not hub_id.startswith("timm/"):
            raise UserError(
                f"vision.name={name} names weights on the hub: pass vision.path={hub_id}, vision.file=FILE (its "
                "weights) and vision.name=ARCHITECTURE, which is in the config.json of that repository."
            )
        name = hub_id.removeprefix("timm/")
    model, _, tag = name.partition(".")
    if model not in timm.list_models():
        raise UserError(f"vision.name={name} is not a timm model. timm.list_models() lists them.")
    if not tag:
        return name, path
    if name not in timm.list_pretrained():
        tags = ", ".join(sorted(timm.list_pretrained(f"{model}.*"))[:5]) or "none"
        raise UserError(f"vision.name={name}: timm has no weights {tag} for {model}. It has {tags}.")
    own = f"timm/{name}"
    if path is not None and path.startswith("timm/") and path != own:
        raise UserError(
            f"vision.name={name} and vision.path={path} name different weights: add vision.path=null for those of the "
            f"name, or pass vision.name={model} for those of the path."
        )
    return name, path or own


def unfetchable(path: str, error: Exception) -> UserError:
    """The error for a hub id that is not in the cache and cannot be downloaded."""
    return UserError(
        f"vision.path={path} is not a folder on this machine and cannot be downloaded: {error}\nhub=online downloads "
        "a hub id; vision.path=null with a vision.name without a tag draws random weights.",
        code=Code.WEIGHTS_MISSING,
    )
