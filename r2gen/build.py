"""From config.yaml to objects: the only place that instantiates, and where the configuration stops."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from r2gen.config import rules
from r2gen.config.check import weighted_scores
from r2gen.config.decoding import Decoding
from r2gen.config.original_choices import original_choices
from r2gen.config.plain import canonical
from r2gen.config.targets import instantiate
from r2gen.data.dataset import ImageCache, StudyDataset
from r2gen.data.reports import SPLITS, ReportData, data_digest
from r2gen.data.share import TrainShare
from r2gen.errors import UserError
from r2gen.evaluate.evaluation import Evaluation, ReferenceCut
from r2gen.evaluate.recipe import recipe_of
from r2gen.evaluate.scores import Metric
from r2gen.lm.compile import compile_layers
from r2gen.lm.load import DTYPES, load_lm, random_lm
from r2gen.lm.prompt import Prompt
from r2gen.lm.protocol import LanguageModel
from r2gen.lm.quantize import check_quantised, is_quantised, quantisation_of
from r2gen.lm.tokenizer import ReportTokenizer, read_tokenizer, save_tokenizer, train_tokenizer
from r2gen.model.report_generator import ReportGenerator
from r2gen.model.tune import Lora, choose_trainable
from r2gen.ranks import dist
from r2gen.ranks.stop import StopRequest
from r2gen.runs import provenance
from r2gen.runs.files import PARTIAL
from r2gen.runs.folder import RunFolder
from r2gen.train.fit import LoopSettings
from r2gen.train.loggers import Logger
from r2gen.vision.encoder import TimmEncoder

Config = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """Everything a task works with."""

    data: ReportData
    datasets: dict[str, StudyDataset]  # split to studies
    model: ReportGenerator
    decoding: Decoding
    device: torch.device
    bf16: bool


def pick_device(device: str) -> torch.device:
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "trainer.device=cuda: torch sees no GPU here; use trainer.device=cpu, or a torch built for CUDA"
        )
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if dist.local_rank() >= torch.cuda.device_count():
        raise UserError(f"trainer.devices asks for more GPUs than the {torch.cuda.device_count()} of this machine")
    torch.cuda.set_device(dist.local_rank())
    return torch.device("cuda", dist.local_rank())


def uses_bf16(config: Config, device: torch.device) -> bool:
    precision = config["trainer"]["precision"]
    return bool(precision == "bf16" or (precision == "auto" and device.type == "cuda"))


def build_job(config: Config, device: torch.device) -> Job:
    """Data, model and decoding of a run, the model with its weights but without any checkpoint, on the device."""
    bf16 = uses_bf16(config, device)
    data = build_data(config)
    run_dir = Path(config["run_dir"])
    tokenizer = None if config["lm"]["path"] else run_tokenizer(config["lm"], data, run_dir)
    decoding = build_decoding(config)
    model = build_model(config, tokenizer=tokenizer, bf16=bf16, device=device)
    model.lm.check(decoding)
    return Job(
        data=data,
        datasets=study_datasets(config, data, model),
        model=model,
        decoding=decoding,
        device=device,
        bf16=bf16,
    )


def build_data(config: Config) -> ReportData:
    data: ReportData = instantiate(config["data"])
    return TrainShare(data, config["trainer"]["train_share"])


def study_datasets(config: Config, data: ReportData, model: ReportGenerator) -> dict[str, StudyDataset]:
    """The studies of each split, with images at the encoder's size and reports as the language model's ids."""
    encode = model.lm.tokenizer.encode
    end, longest = model.lm.tokenizer.eos_id, config["trainer"]["max_report_tokens"]
    transform = model.vision.transform
    image = ImageCache(
        lambda view: transform(data.image(view, at_least_px=transform.size_px)),
        budget_mib=config["trainer"]["film_cache_mib"],
    )

    def ids(report: str) -> list[int]:
        return [*encode(report), end][:longest]

    return {split: StudyDataset(data.studies(split), image=image, encode=ids) for split in SPLITS}


def build_model(
    config: Config, *, tokenizer: ReportTokenizer | None, bf16: bool, device: torch.device
) -> ReportGenerator:
    """The model on the device; every weight drawn here comes from the seed, whatever was drawn before.

    `tokenizer` is the run's own where the language model is random, else None.
    """
    lm = build_lm(config["lm"], config["quant"], tokenizer=tokenizer, seed=config["seed"], bf16=bf16, device=device)
    return assemble(config, lm, bf16=bf16, device=device)


def assemble(config: Config, lm: LanguageModel, *, bf16: bool, device: torch.device) -> ReportGenerator:
    """The model on the device, around a language model that is there."""
    torch.manual_seed(config["seed"])
    vision: TimmEncoder = instantiate(config["vision"])
    torch.manual_seed(config["seed"] + 1)
    projector = instantiate(config["projector"], in_dim=vision.dim, out_dim=lm.dim)
    before, after = build_prompt(config["lm"], lm)
    model = ReportGenerator(vision=vision, projector=projector, lm=lm, before=before, after=after)
    refuse_not_finite(model)
    tune = config["tune"]
    choose_trainable(
        model,
        vision=tune["vision"],
        vision_lora=build_lora(tune["lora"]),
        lm=tune["lm"]["mode"],
        lm_lora=build_lora(tune["lm"]["lora"]),
        lm_lora_targets=config["lm"]["lora_targets"],
        lm_is_random=config["lm"]["path"] is None,
    )
    if bf16:
        in_bf16(model)
    else:
        in_fp32(model)
    if config["lm"]["compile"]:
        compile_layers(model.lm.model)
    return placed(model, device, spread=config["lm"]["device_map"] is not None)


def refuse_not_finite(model: ReportGenerator) -> None:
    """Weights that are no numbers would train nothing, and write reports all the same.

    Smallest and largest tell: a second for 7 billion weights, without a copy of any.
    """
    for name, parameter in model.named_parameters():
        plain = not is_quantised(parameter) and not parameter.is_meta and parameter.numel() > 0
        if plain and not torch.stack(parameter.detach().aminmax()).isfinite().all():
            option = f"{name.partition('.')[0]}.path"
            raise UserError(f"{option}: {name} holds values that are no numbers: fetch these weights again")


def placed(model: ReportGenerator, device: torch.device, *, spread: bool) -> ReportGenerator:
    """The model on the device; of a language model spread over several GPUs nothing moves."""
    if not spread:
        return model.to(device)
    for part in model.children():
        if part is not model.lm:
            part.to(device)
    for name, buffer in model.named_buffers(recurse=False):
        model.register_buffer(name, buffer.to(device), persistent=False)
    return model


def in_bf16(model: ReportGenerator) -> ReportGenerator:
    """Of the language model only parameters: rotary frequencies are buffers, and rounding them moves every position."""
    model.vision.to(torch.bfloat16)
    model.projector.to(torch.bfloat16)  # type: ignore[attr-defined]
    for parameter in model.lm.model.parameters():
        if not is_quantised(parameter):
            parameter.data = parameter.data.to(torch.bfloat16)
    return model


def in_fp32(model: ReportGenerator) -> None:
    """What trains beside frozen weights of lm.dtype=float16 or bfloat16: LoRA takes the dtype of what it adapts."""
    for parameter in model.lm.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)


def build_prompt(lm: Config, model: LanguageModel) -> tuple[list[int], list[int]]:
    """Ids before and after the image."""
    rows = model.model.get_input_embeddings().get_parameter("weight").shape[0]
    return Prompt(**lm["prompt"]).ids(model.tokenizer, rows=rows)


def build_lm(
    lm: Config, quant: Config, *, tokenizer: ReportTokenizer | None, seed: int, bf16: bool, device: torch.device
) -> LanguageModel:
    """The language model, in eval(), its weights read straight to the device, and quantised on the way.

    In bf16 everything computes in bf16, whatever lm.dtype says.
    """
    dtype = "bfloat16" if bf16 else "float32" if lm["dtype"] == "auto" else lm["dtype"]
    if tokenizer is not None:
        return random_lm(
            tokenizer=tokenizer,
            seed=seed,
            **lm["architecture"],
            dtype=dtype,
            attention=lm["attention"],
            gradient_checkpointing=lm["gradient_checkpointing"],
        )
    whole = {"": str(device)} if device.type == "cuda" else None
    loaded = load_lm(
        lm["path"],
        revision=lm["revision"],
        family=lm["family"],
        dtype=dtype,
        attention=lm["attention"],
        stop=lm["stop"],
        special_tokens=lm["special_tokens"],
        gradient_checkpointing=lm["gradient_checkpointing"],
        device_map=lm["device_map"] or whole,
        quantization=quantisation_of(**quant, dtype=DTYPES[dtype]),
    )
    check_quantised(loaded.model, mode=quant["mode"])
    places: dict[str, Any] = getattr(loaded.model, "hf_device_map", None) or {}
    if whole is not None and {"cpu", "disk"} & {str(place) for place in places.values()}:
        raise UserError(
            "lm.device_map=auto: the GPUs here do not hold this language model; what lies elsewhere has "
            "no gradients: use quant=nf4, or more GPUs"
        )
    return loaded


def run_tokenizer(lm: Config, data: ReportData, run_dir: Path) -> ReportTokenizer:
    """The tokenizer of a random language model: trained once on the training reports, kept in the run folder."""
    folder = run_dir / "tokenizer"
    if dist.is_first() and not folder.is_dir():
        reports = [study.report for study in data.studies("train")]
        if not reports:
            raise UserError("lm.path=null trains its tokenizer on the training reports, and there are none")
        partial = run_dir / f"{PARTIAL}tokenizer"
        save_tokenizer(train_tokenizer(reports, lm["vocabulary_size"]), partial)
        partial.rename(folder)
    dist.barrier()
    return read_tokenizer(folder)


def build_lora(lora: Config | None) -> Lora | None:
    return None if lora is None else Lora(**lora)


def build_decoding(config: Config) -> Decoding:
    """The decoding profile, without what this language model cannot do; that is said once."""
    dropped = rules.dropped_keys(config)
    if dropped and dist.is_first():
        keys = ", ".join(f"generation.{key}={config['generation'][key]}" for key in sorted(dropped))
        print(f"left out, since this language model cannot do it (lm.generation): {keys}", flush=True)
    return Decoding(**rules.drop_nulls(config))


def build_metrics(config: Config) -> dict[str, Metric]:
    return {name: instantiate(metric) for name, metric in config["metrics"].items()}


def build_evaluation(config: Config, job: Job, *, stop: StopRequest) -> Evaluation:
    settings, profile = config["evaluate"], decoding_name(config)
    run_dir, data_hash = Path(config["run_dir"]), data_digest(config["data"])
    return Evaluation(
        run_dir=run_dir,
        data=job.data,
        datasets=job.datasets,
        metrics=build_metrics(config),
        decoding=job.decoding,
        profile=profile,
        metrics_file=metrics_file(config),
        data_hash=data_hash,
        recipe=recipe_of(job.data, data_hash),
        code=provenance.git_revision()["revision"],
        quant=config["quant"]["mode"],
        batch_size=settings["batch_size"],
        workers=config["trainer"]["workers"],
        best=weighted_scores(settings["best"]),
        page_studies=settings["page_studies"],
        nearest_most=settings["nearest_studies"],
        device=job.device,
        stop=stop,
        cut=reference_cut(settings, job.model.lm.tokenizer),
        original=original_choices(config),
    )


def reference_cut(settings: Config, tokenizer: ReportTokenizer) -> ReferenceCut | None:
    """How R2GenGPT shortens a reference (its validation_step), where evaluate.reference asks for it."""
    tokens = settings["max_reference_tokens"]
    if settings["reference"] == "full":
        return None
    return ReferenceCut(tokens, lambda report: tokenizer.decode(tokenizer.encode(report)[:tokens]).strip())


def decoding_name(config: Config) -> str:
    """The name of the decoding profile; with a mark where its values are not those the run was trained with."""
    stored, name = RunFolder(Path(config["run_dir"])).config(), str(config["choices"]["generation"])
    if name != stored["choices"]["generation"] or config["generation"] == stored["generation"]:
        return name
    return f"{name}-{hashlib.sha256(canonical(config['generation']).encode()).hexdigest()[:4]}"


def metrics_file(config: Config) -> Path:
    """metrics.json holds the run's own decoding; another one has a file of its own beside it."""
    run_dir, name = Path(config["run_dir"]), decoding_name(config)
    own = name == RunFolder(run_dir).config()["choices"]["generation"]
    return run_dir / ("metrics.json" if own else f"metrics.{name}.json")


def build_logger(config: Config) -> Logger:
    logger: Logger = instantiate(config["logger"])
    return logger


def loop_settings(config: Config) -> LoopSettings:
    names = (
        "batch_size",
        "micro_batch_size",
        "learning_rate",
        "min_learning_rate",
        "warmup_steps",
        "schedule",
        "patience",
        "workers",
        "save_every_steps",
        "log_every_steps",
        "shuffle",
    )
    return LoopSettings(**{name: config["trainer"][name] for name in names}, seed=config["seed"])
