"""task=export: write the best checkpoint of a run as one folder that load_run and a script without R2Gen can read.

README.md           the model card              run.json    the run that it comes from
config.yaml         as in a run folder          model.json  what a script without R2Gen also needs
model.safetensors   encoder, view embedding and projector, with LoRA merged, in fp32
lm/                 the language model, if it is not as published
"""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import timm
import torch
from omegaconf import MISSING
from safetensors.torch import save_file

from r2gen.config.mixed import with_roots
from r2gen.config.plain import Plain
from r2gen.config.rules import usable_profile
from r2gen.config.schema import Config, TuneConfig, TuneLmConfig
from r2gen.launch.export_folder import check_export, export_folder
from r2gen.lm.checkpoint import find_checkpoint
from r2gen.lm.run_tokenizer import TOKENIZER
from r2gen.model.report_generator import ReportGenerator
from r2gen.model.tune import merge_lora
from r2gen.ranks import dist
from r2gen.ranks.stop import StopRequest
from r2gen.runs.files import PARTIAL, remove, take_folder
from r2gen.runs.folder import EXPORTED, EXPORTED_LM, RunFolder
from r2gen.runs.job_file import write_job
from r2gen.tasks.model_card import card
from r2gen.train.checkpoint import exported_tensors
from r2gen.trained_run import trained_model
from r2gen.vision.hub import layout_folder, named_repository, named_weights
from r2gen.vision.layouts import timm_arguments, transformers_config
from r2gen.vision.vit_names import without_eps

TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.tiktoken",
    "spiece.model",
)
EXPORTED_FACTS = ("format", "name", "git", "versions", "data_hash", "identity", "imported")
# Paths of this machine.
PRIVATE = ("data.root", "data.sets", "vision.path", "lm.path", "trainer.start", "trainer.image_cache", "run_dir")


def export(config: Config, device: torch.device, stop: StopRequest) -> None:
    """Raises UserError if the folder holds other files, or if LoRA over a quantised model would have to be merged."""
    if dist.is_first():
        check_export(config)
        out = export_folder(config)
        take_folder(out, option="out", known_by=EXPORTED)
        partial = out / f"{PARTIAL}export"
        remove(partial)
        partial.mkdir()
        write_export(config, partial)
        for item in sorted(partial.iterdir(), key=lambda item: item.name != EXPORTED):  # by which the folder is known
            remove(out / item.name)
            item.rename(out / item.name)
        partial.rmdir()
        size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        print(f"exported {out}: {size / 2**20:,.1f} MiB; load_run({str(out)!r}) reads it", flush=True)
    dist.barrier()


def write_export(config: Config, out: Path) -> None:
    """Write all files into an empty folder."""
    model, digest = trained_model(config, bf16=False, device=torch.device("cpu"))
    lm_inside = config.lm.path is None or any(p.requires_grad for p in model.lm.model.parameters())
    for part in (model.vision.backbone, model.lm.model):
        merge_lora(part)
    if lm_inside:
        path, revision = config.lm.path, config.lm.revision
        folder = config.folder / TOKENIZER if path is None else find_checkpoint(path, revision).folder
        save_language_model(model, folder, out / EXPORTED_LM)
    tensors = {name: tensor.contiguous() for name, tensor in exported_tensors(model).items()}
    save_file(tensors, out / EXPORTED, metadata={"format": "pt"})
    exported = as_exported(config, lm_inside=lm_inside)
    write_job(out / "config.yaml", exported)
    record = exported_record(config, checkpoint=digest, lm_inside=lm_inside)
    write_json(out / "run.json", record)
    write_json(out / "model.json", plain_facts(model, exported))
    (out / "README.md").write_text(card(config, exported, record, model), encoding="utf-8")


def exported_record(config: Config, *, checkpoint: str, lm_inside: bool) -> Plain:
    """The content of run.json: that of the run, without paths of this machine, and `exported`, its origin."""
    facts = RunFolder(config.folder).facts()
    lm_hash = None if config.lm.path is None or lm_inside else weights_hash(config.lm.path)
    return {key: facts[key] for key in EXPORTED_FACTS if key in facts} | {
        "status": "finished",
        "reason": None,
        "overrides": [override for override in facts["overrides"] if not override.lstrip("+").startswith(PRIVATE)],
        "seconds": {},
        "exported": {
            "checkpoint": checkpoint,
            "lm_inside": lm_inside,
            "lm_hash": lm_hash,
            "run_status": facts["status"],
        },
    }


def write_json(file: Path, value: Plain) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def as_exported(config: Config, *, lm_inside: bool) -> Config:
    """The configuration of the exported folder: nothing trains, and of this machine's paths only lm.path is in it."""
    file, name = config.vision.get("file"), config.vision.get("name")
    published = transformers_config(layout_folder(config.vision.get("path"), file), file)
    vision = config.vision.with_arguments(path=None)
    if name is not None:  # the weights that a name means are in the folder
        name, _, of_repository = named_repository(name, config.vision.get("path"))
        arguments = of_repository.get("model_args", {}) | (vision.get("model_args") or {})
        name = named_weights(name, None)[0].partition(".")[0]
        vision = vision.with_arguments(name=name, **({"model_args": arguments} if arguments else {}))
    if published is not None:
        arguments = timm_arguments(published, path="config.json") | (vision.get("model_args") or {})
        vision = vision.with_arguments(model_args=arguments)
    if vision.get("batch_norm") is not None:
        vision = vision.with_arguments(batch_norm="frozen")
    lm = replace(config.lm, dropout=0.0)
    if lm_inside:
        lm = replace(lm, path=EXPORTED_LM, revision=None, architecture=None, vocabulary_size=None, vocabulary="pieces")
    return replace(
        config,
        task="train",
        run_dir=None,
        out=None,
        images=[],
        vision=vision,
        lm=lm,
        trainer=replace(config.trainer, start=None, image_cache=None),
        data=with_roots(config.data, lambda _: MISSING),
        tune=TuneConfig(vision="frozen", lora=None, lm=TuneLmConfig(mode="frozen", lora=None)),
    )


def plain_facts(model: ReportGenerator, exported: Config) -> Plain:
    """What a script needs that does not use R2Gen's configuration and tokenizers."""
    vision, tokenizer = exported.vision, model.lm.tokenizer
    timms, eps = without_eps(vision.get("model_args") or {})
    return {
        "vision": {
            "name": vision.get("name"),
            "model_args": timms,
            **({} if eps is None else {"layer_norm_eps": eps}),  # of every LayerNorm; timm has no such argument
            "image_size_px": vision.get("image_size_px"),
            "views": vision.get("views"),
        },
        "projector": exported.projector.class_name,
        "language_model": exported.lm.path,
        "prompt_ids": {"before": model.before_T.tolist(), "after": model.after_T.tolist()},
        **({"context": exported.context.fields} if exported.context.is_used else {}),
        "bos_id": tokenizer.bos_id,
        "eos_ids": list(tokenizer.eos_ids),
        "pad_id": tokenizer.pad_id,
        **({"never_ids": list(tokenizer.never_ids)} if tokenizer.never_ids else {}),
        "generation": usable_profile(exported),
        "timm": timm.__version__,
    }


def save_language_model(model: ReportGenerator, tokenizer: Path, out: Path) -> None:
    """Write the language model in transformers' layout, with the tokenizer files of a folder."""
    model.lm.model.save_pretrained(out)
    for pattern in TOKENIZER_FILES:
        for file in tokenizer.expanduser().glob(pattern):
            shutil.copy2(file, out / file.name)


def weights_hash(path: str) -> str | None:
    """A digest of the weight files of a folder, 16 hex digits; None for a hub id, which has a revision instead."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin"), *folder.glob("*.gguf")]):
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:16]
