"""In which layout the weights of a folder are, by its config.json: timm's, or transformers' for four kinds."""

from pathlib import Path

from r2gen.config.plain import Plain
from r2gen.errors import UserError, shown
from r2gen.runs.whole_files import ENCODER_FILES
from r2gen.vision.swin_names import model_arguments, read_config
from r2gen.vision.vit_names import KINDS, vit_arguments

OPEN_CLIP = "open_clip_config.json"
TIMM = "architecture"  # a field of config.json in timm's layout
SUPPORTED = "timm's layout is read, and transformers' of Swin, DINOv2, ViT and SigLIP"


def transformers_config(path: str | None, file: str | None = None) -> Plain | None:
    """The config.json of a folder with an encoder in transformers' layout; None if it is something else.

    A `file` with an unusual name is in timm's layout, except a Swin's. Raises UserError for a layout that is not read.
    """
    folder = Path(path or "").expanduser()
    if path is None or not folder.is_dir():
        return None
    usual = file is None or file in ENCODER_FILES
    if not (folder / "config.json").exists():
        return None
    config = read_config(folder / "config.json")
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind is None or (kind != "swin" and not usual):
        return None
    if kind != "swin" and (not isinstance(kind, str) or kind not in KINDS):
        raise UserError(
            f"vision.path={path}: config.json says model_type={shown(kind)}, and {SUPPORTED}: give a folder of one of "
            "these, or the same encoder in timm's layout (without this config.json)."
        )
    return {str(key): value for key, value in config.items()}


def read_facts(file: Path) -> Plain:
    """The dictionary in a JSON file; empty if there is none. Raises UserError if the file is no JSON."""
    content = read_config(file) if file.is_file() else {}
    return content if isinstance(content, dict) else {}


def timm_arguments(config: Plain, *, path: str) -> Plain:
    """What timm's model needs to be that of config.json. Raises UserError if it cannot be."""
    return (model_arguments if config["model_type"] == "swin" else vit_arguments)(config, path=path)
