"""The encoder that a training with objective=align writes: RUN/encoder, in timm's layout, which vision.path reads."""

from pathlib import Path

import timm
import yaml
from safetensors.torch import save_file

from r2gen.build import Job
from r2gen.config.schema import Config
from r2gen.model.tune import merge_lora
from r2gen.runs.files import PARTIAL, remove
from r2gen.runs.folder import ENCODER
from r2gen.train.checkpoint import load_best
from r2gen.vision.hub import layout_folder, named_weights
from r2gen.vision.layouts import timm_arguments, transformers_config
from r2gen.vision.vit_names import without_eps


def write_encoder(config: Config, job: Job) -> str:
    """Write the encoder of the best checkpoint, with LoRA merged, and return the options that read it."""
    load_best(job.model, config.folder)
    backbone = job.model.vision.backbone
    merge_lora(backbone)
    vision = config.vision
    file = vision.get("file")
    published = transformers_config(layout_folder(vision.get("path"), file), file)
    arguments = timm_arguments(published, path="config.json") if published is not None else {}
    arguments |= vision.get("model_args") or {}
    name, _ = named_weights(str(vision.get("name")), None)
    # The parts that the encoder does not use, such as the norm in a head, so that timm finds all of its tensors.
    unused = timm.create_model(name, num_classes=0, **without_eps(arguments)[0]).state_dict()
    tensors = {key: value.cpu().float().contiguous() for key, value in (unused | backbone.state_dict()).items()}
    out = config.folder / ENCODER
    partial = config.folder / f"{PARTIAL}{ENCODER}"
    remove(partial)
    partial.mkdir()
    save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
    remove(out)
    partial.rename(out)
    return options(config, out) + (f" 'vision.model_args={flow(arguments)}'" if arguments and published else "")


def options(config: Config, encoder: Path) -> str:
    file = " vision.file=null" if config.vision.get("file") else ""
    return f"vision={config.choices['vision']} vision.path={encoder}{file}"


def flow(arguments: dict[str, object]) -> str:
    return yaml.safe_dump(arguments, default_flow_style=True, width=100_000).strip()
