"""Weights of an encoder that a hub id or timm's name with a tag names, those in transformers' layout among them."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from r2gen.config.plain import Plain
from r2gen.errors import Code, UserError
from r2gen.runs.whole_files import ENCODER_FILES, OPEN_CLIP_FILES
from r2gen.vision.layouts import OPEN_CLIP, TIMM, read_facts, transformers_config
from r2gen.vision.open_clip import open_clip_config
from r2gen.vision.swin_names import are_statistics

CONFIG_FILES = ["config.json", "preprocessor_config.json", OPEN_CLIP]

# Arguments of timm.create_model that say where weights are.
NOT_A_SHAPE = {"checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}


def layout_folder(path: str | None, file: str | None = None) -> str | None:
    """The folder in the hub cache of a hub id in transformers' or open_clip's layout; any other path unchanged.

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
        clip = open_clip_config(folder_of_config, file)
        if clip is None and transformers_config(folder_of_config, file) is None:
            return path
        for name in (*ENCODER_FILES, *OPEN_CLIP_FILES):
            folder = snapshot_download(path, allow_patterns=[*CONFIG_FILES, name])
            if (Path(folder) / name).is_file():
                return folder
    return path


def named_repository(name: str, path: str | None) -> tuple[str, str | None, Plain]:
    """timm's name, the path, and `model_args`, `mean` and `std` of weights that a name of timm's form
    hf-hub:OWNER/NAME or local-dir:FOLDER means; any other name and path unchanged.

    Their config.json says so, in the folder `path` if there is one. Raises UserError if it does not.
    """
    source, _, where = name.partition(":")
    if source not in ("hf-hub", "hf_hub", "local-dir") or where.startswith("timm/"):
        return name, path, {}
    path = path or where
    folder = Path(path).expanduser()
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(path, allow_patterns=CONFIG_FILES))
        except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
            raise unfetchable(path, error) from error
    clip = open_clip_config(str(folder))
    if clip is not None:
        return clip["name"], path, {}
    facts = read_facts(folder / "config.json")
    model, arguments = facts.get(TIMM), facts.get("model_args") or {}
    if not isinstance(model, str) or not isinstance(arguments, dict) or NOT_A_SHAPE & arguments.keys():
        raise UserError(
            f"vision.name={name}: the config.json of these weights names no architecture of timm. Pass "
            f"vision.path={path} with the vision= or vision.name that fits."
        )
    published = facts.get("pretrained_cfg") or facts
    statistics = {key: published[key] for key in ("mean", "std") if are_statistics(key, published.get(key))}
    return model, path, {"model_args": arguments, **statistics}


def named_weights(name: str, path: str | None) -> tuple[str, str | None]:
    """timm's name and the path of weights, where a name has a tag (resnet50.a1_in1k) or is hf-hub:timm/NAME.TAG.

    Such a name says which weights are meant: without a path they are those. Raises UserError for a name that timm does
    not have, and for other weights of timm.
    """
    source, _, hub_id = name.rpartition(":")
    if source in ("hf-hub", "hf_hub"):
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


def note_other_statistics(name: str, path: str, model: Any) -> None:
    """Print that weights in timm's layout were trained with another mean or deviation than those of the name."""
    folder = Path(path).expanduser()
    facts = read_facts(folder / "config.json") if folder.is_dir() else {}
    published: Any = facts.get("pretrained_cfg") or {}
    better = f"local-dir:{path} vision.path=null"
    if path.startswith("timm/"):
        tagged = timm.get_pretrained_cfg(path.removeprefix("timm/"))
        published, better = tagged.to_dict() if tagged else {}, path.removeprefix("timm/")
    own = {key: tuple(model.pretrained_cfg[key]) for key in ("mean", "std")}
    if all(are_statistics(key, published.get(key)) and tuple(published[key]) == own[key] for key in own):
        return
    if all(are_statistics(key, published.get(key)) for key in own):
        print(
            f"vision.path={path} was trained with mean {published['mean']} and deviation {published['std']}, and "
            f"vision.name={name} has {own['mean']} and {own['std']}: vision.name={better} has the former",
            flush=True,
        )


def unfetchable(path: str, error: Exception) -> UserError:
    """The error for a hub id that is not in the cache and cannot be downloaded."""
    return UserError(
        f"vision.path={path} is not a folder on this machine and cannot be downloaded: {error}\nhub=online downloads "
        "a hub id; vision.path=null with a vision.name without a tag draws random weights.",
        code=Code.WEIGHTS_MISSING,
    )
