"""task=export: the best checkpoint of a run as one folder to pass on, which load_run and a plain script can read.

README.md           the model card          model.safetensors  encoder, view places, projector; LoRA merged, fp32
config.yaml         as of a run              model.json         what a script without R2Gen needs besides
run.json            where it comes from     lm/                the language model, where it is not as published
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

from r2gen.build import build_model
from r2gen.config.plain import Plain
from r2gen.config.rules import usable_profile
from r2gen.config.schema import Config, TuneConfig, TuneLmConfig
from r2gen.errors import UserError
from r2gen.lm.tokenizer import read_tokenizer
from r2gen.model.report_generator import ReportGenerator
from r2gen.model.tune import merge_lora
from r2gen.ranks import dist
from r2gen.ranks.stop import StopRequest
from r2gen.runs.files import take_folder
from r2gen.runs.folder import EXPORTED, EXPORTED_LM, RunFolder
from r2gen.runs.job_file import write_job
from r2gen.tasks.model_card import card
from r2gen.train.checkpoint import exported_tensors, load_best
from r2gen.vision.hub import swin_folder
from r2gen.vision.swin_names import model_arguments, swin_config

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
PRIVATE = ("data.root", "vision.path", "lm.path", "run_dir")  # paths of this machine


def export(config: Config, device: torch.device, stop: StopRequest) -> None:
    """Write the folder. Raises UserError where it holds something else, or a quantised model is to be merged."""
    if dist.is_first():
        run_dir = config.folder
        out = Path(config.out or run_dir / "export")
        if (run_dir / EXPORTED).is_file():
            raise UserError(f"run_dir={run_dir} was exported already: export the run it came from")
        take_folder(out, option="out", known_by=EXPORTED)
        if config.quant.mode != "none" and config.tune.lm.mode == "lora":
            raise UserError(
                "task=export: LoRA over a quantised language model cannot be merged into it: pass on the "
                "run folder, or train with quant=none"
            )
        write(config, out)
        size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        print(f"exported {out}: {size / 2**20:,.1f} MiB; load_run({str(out)!r}) reads it", flush=True)
    dist.barrier()


def write(config: Config, out: Path) -> None:
    run_dir, random = config.folder, config.lm.path is None
    tokenizer = read_tokenizer(run_dir / "tokenizer") if random else None
    model = build_model(config, tokenizer=tokenizer, bf16=False, device=torch.device("cpu")).eval()
    digest = load_best(model, run_dir)
    inside = random or any(parameter.requires_grad for parameter in model.lm.model.parameters())
    for part in (model.vision.backbone, model.lm.model):
        merge_lora(part)
    lm_hash = None if config.lm.path is None or inside else weights_hash(config.lm.path)
    if inside:
        tokenizer_folder = run_dir / "tokenizer" if config.lm.path is None else Path(config.lm.path)
        save_language_model(model, tokenizer_folder, out / EXPORTED_LM)
    save_file(
        {name: tensor.contiguous() for name, tensor in exported_tensors(model).items()},
        out / EXPORTED,
        metadata={"format": "pt"},
    )
    stored = as_exported(config, lm_inside=inside)
    write_job(out / "config.yaml", stored)
    facts = RunFolder(run_dir).facts()
    kept = [one for one in facts["overrides"] if not one.lstrip("+").startswith(PRIVATE)]
    origin = {"checkpoint": digest, "lm_inside": inside, "lm_hash": lm_hash, "run_status": facts["status"]}
    record = {key: facts[key] for key in EXPORTED_FACTS if key in facts}
    record |= {"status": "finished", "reason": None, "overrides": kept, "seconds": {}, "exported": origin}
    (out / "run.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (out / "model.json").write_text(json.dumps(plain_facts(model, stored), indent=1) + "\n", encoding="utf-8")
    (out / "README.md").write_text(card(config, stored, record, model), encoding="utf-8")


def as_exported(config: Config, *, lm_inside: bool) -> Config:
    """The run's configuration for exported weights: nothing trains, and no path of this machine but that of the LM."""
    swin = swin_config(swin_folder(config.vision.get("path")))
    vision = config.vision.with_arguments(path=None)
    if swin is not None:
        arguments = model_arguments(swin, path="config.json") | (vision.get("model_args") or {})
        vision = vision.with_arguments(model_args=arguments)
    lm = config.lm
    if lm_inside:
        lm = replace(lm, path=EXPORTED_LM, revision=None, architecture=None, vocabulary_size=None)
    return replace(
        config,
        task="train",
        run_dir=None,
        out=None,
        images=[],
        vision=vision,
        lm=lm,
        data=config.data.with_arguments(root=MISSING) if "root" in config.data.arguments else config.data,
        tune=TuneConfig(vision="frozen", lora=None, lm=TuneLmConfig(mode="frozen", lora=None)),
    )


def plain_facts(model: ReportGenerator, stored: Config) -> Plain:
    """What a script needs that has neither R2Gen's configuration nor its tokenizers."""
    vision, tokenizer = stored.vision, model.lm.tokenizer
    return {
        "vision": {
            "name": vision.get("name"),
            "model_args": vision.get("model_args") or {},
            "image_size_px": vision.get("image_size_px"),
            "views": vision.get("views"),
        },
        "projector": stored.projector.class_name,
        "language_model": stored.lm.path,
        "prompt_ids": {"before": model.before_T.tolist(), "after": model.after_T.tolist()},
        "bos_id": tokenizer.bos_id,
        "eos_ids": list(tokenizer.eos_ids),
        "pad_id": tokenizer.pad_id,
        "generation": usable_profile(stored),
        "timm": timm.__version__,
    }


def save_language_model(model: ReportGenerator, tokenizer: Path, out: Path) -> None:
    """The language model in transformers' layout, with the tokenizer files of a folder beside it."""
    shutil.rmtree(out, ignore_errors=True)
    model.lm.model.save_pretrained(out)
    for pattern in TOKENIZER_FILES:
        for file in tokenizer.expanduser().glob(pattern):
            shutil.copy2(file, out / file.name)


def weights_hash(path: str) -> str | None:
    """One hash over the weight files of a folder, 16 hex digits; None for a hub id, which its revision names."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]):
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:16]
