"""The composition root: from a configuration to a report generator and what evaluates it. Read `build_job` first.

Objects are made from YAML here, and in the tasks compare and audit, which need no torch. What is below this module
takes plain arguments and does not know the configuration.
"""

import hashlib
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from r2gen.config import lm_rules, rules
from r2gen.config.decoding import Decoding
from r2gen.config.original_choices import original_choices
from r2gen.config.plain import canonical
from r2gen.config.schema import Config, EvaluateConfig, LoraConfig
from r2gen.config.selection import weighted_scores
from r2gen.config.targets import instantiate
from r2gen.data.dataset import ImageCache, StudyDataset
from r2gen.data.reports import SPLITS, ReportData, data_digest
from r2gen.data.share import TrainShare
from r2gen.errors import UserError
from r2gen.evaluate.baseline_reports import BaselineReports
from r2gen.evaluate.evaluation import Evaluation
from r2gen.evaluate.metrics_writer import MetricsWriter
from r2gen.evaluate.predicting import Inference, Origin, Predictor
from r2gen.evaluate.recipe import recipe_of
from r2gen.evaluate.run_page import RunPage
from r2gen.evaluate.scores import Metric
from r2gen.evaluate.split_scores import ReferenceCut, Scorer
from r2gen.lm.compile import compile_layers
from r2gen.lm.load import DTYPES, load_lm, random_lm
from r2gen.lm.prompt import Prompt
from r2gen.lm.protocol import LanguageModel
from r2gen.lm.quantize import check_quantised, quantisation_of
from r2gen.lm.tokenizer import ReportTokenizer, read_tokenizer, save_tokenizer, train_tokenizer
from r2gen.model.placement import check_finite, place, to_bf16, trained_to_fp32
from r2gen.model.report_generator import ReportGenerator
from r2gen.model.tune import Lora, choose_trainable
from r2gen.ranks import dist
from r2gen.ranks.stop import StopRequest
from r2gen.runs import provenance
from r2gen.runs.files import PARTIAL
from r2gen.runs.folder import RunFolder
from r2gen.runs.metrics_file import metrics_path
from r2gen.train.fit import LoopSettings
from r2gen.train.loggers import Logger
from r2gen.vision.encoder import TimmEncoder


@dataclass(frozen=True)
class Job:
    """What a task works with."""

    data: ReportData
    datasets: dict[str, StudyDataset]  # by split
    model: ReportGenerator
    decoding: Decoding
    device: torch.device
    bf16: bool


def build_job(config: Config, device: torch.device) -> Job:
    """Data, model and decoding of a run on the device; the model has its weights, but those of no checkpoint."""
    bf16 = uses_bf16(config, device)

    # The studies: their images and full reference reports.
    data = build_data(config)

    # The language model: one with random weights has a tokenizer that is trained on the training reports.
    tokenizer = None if config.lm.path else run_tokenizer(config, data)
    lm = build_lm(config, tokenizer=tokenizer, bf16=bf16, device=device)

    # The image encoder and the projector in front of it; what of the whole trains; its precision.
    model = build_report_generator(config, lm, bf16=bf16, device=device)

    # How reports are decoded.
    decoding = build_decoding(config)

    # Images at the encoder's size, and reports as the ids of the language model.
    datasets = build_datasets(config, data, model)
    return Job(data=data, datasets=datasets, model=model, decoding=decoding, device=device, bf16=bf16)


def pick_device(device: str) -> torch.device:
    """The device of this rank, for trainer.device. Raises UserError where there is no such GPU."""
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
    precision = config.trainer.precision
    return precision == "bf16" or (precision == "auto" and device.type == "cuda")


def build_data(config: Config) -> ReportData:
    data: ReportData = instantiate(config.data)
    return TrainShare(data, config.trainer.train_share)


def run_tokenizer(config: Config, data: ReportData) -> ReportTokenizer:
    """The tokenizer of a random language model, trained once on the training reports and kept in the run folder."""
    assert config.lm.vocabulary_size is not None
    folder = config.folder / "tokenizer"
    if dist.is_first() and not folder.is_dir():
        reports = [study.report for study in data.studies("train")]
        if not reports:
            raise UserError("lm.path=null trains its tokenizer on the training reports, and there are none")
        partial = config.folder / f"{PARTIAL}tokenizer"
        save_tokenizer(train_tokenizer(reports, config.lm.vocabulary_size), partial)
        partial.rename(folder)
    dist.barrier()
    return read_tokenizer(folder)


def build_lm(config: Config, *, tokenizer: ReportTokenizer | None, bf16: bool, device: torch.device) -> LanguageModel:
    """The language model in eval(), its weights read straight to the device and quantised on the way.

    With bf16 everything computes in bf16, whatever lm.dtype is. `tokenizer` is given for random weights.
    """
    lm = config.lm
    dtype = "bfloat16" if bf16 else "float32" if lm.dtype == "auto" else lm.dtype
    if tokenizer is not None:
        assert lm.architecture is not None
        return random_lm(
            tokenizer=tokenizer,
            seed=config.seed,
            **asdict(lm.architecture),
            dtype=dtype,
            attention=lm.attention,
            gradient_checkpointing=lm.gradient_checkpointing,
        )
    assert lm.path is not None
    whole = {"": str(device)} if device.type == "cuda" else None
    loaded = load_lm(
        lm.path,
        revision=lm.revision,
        family=lm.family,
        dtype=dtype,
        attention=lm.attention,
        stop=lm.stop,
        special_tokens=asdict(lm.special_tokens),
        gradient_checkpointing=lm.gradient_checkpointing,
        device_map=lm.device_map or whole,
        quantization=quantisation_of(**asdict(config.quant), dtype=DTYPES[dtype]),
        check=partial(lm_rules.check, config),
    )
    check_quantised(loaded.model, mode=config.quant.mode)
    devices = {str(part) for part in (getattr(loaded.model, "hf_device_map", None) or {}).values()}
    if whole is not None and devices & {"cpu", "disk"}:
        raise UserError(
            "lm.device_map=auto: this language model does not fit on the GPUs here, and layers on the CPU or disk have "
            "no gradients: use quant=nf4, or more GPUs"
        )
    return loaded


def build_report_generator(config: Config, lm: LanguageModel, *, bf16: bool, device: torch.device) -> ReportGenerator:
    """The report generator around a language model. Every random weight depends on the seed alone."""
    torch.manual_seed(config.seed)
    vision: TimmEncoder = instantiate(config.vision)
    torch.manual_seed(config.seed + 1)
    projector = instantiate(config.projector, in_dim=vision.dim, out_dim=lm.dim)
    before, after = build_prompt(config, lm)
    model = ReportGenerator(vision=vision, projector=projector, lm=lm, before=before, after=after)
    check_finite(model)
    choose_trainable(
        model,
        vision=config.tune.vision,
        vision_lora=_lora(config.tune.lora),
        lm=config.tune.lm.mode,
        lm_lora=_lora(config.tune.lm.lora),
        lm_lora_targets=config.lm.lora_targets,
        lm_is_random=config.lm.path is None,
    )
    if bf16:
        to_bf16(model)
    else:
        trained_to_fp32(model)
    if config.lm.compile:
        compile_layers(model.lm.model)
    return place(model, device, spread=config.lm.device_map is not None)


def build_model(
    config: Config, *, tokenizer: ReportTokenizer | None, bf16: bool, device: torch.device
) -> ReportGenerator:
    """The report generator with its language model, for work that needs no studies."""
    lm = build_lm(config, tokenizer=tokenizer, bf16=bf16, device=device)
    return build_report_generator(config, lm, bf16=bf16, device=device)


def build_prompt(config: Config, lm: LanguageModel) -> tuple[list[int], list[int]]:
    """The token ids before and after the image."""
    rows = lm.model.get_input_embeddings().get_parameter("weight").shape[0]
    return Prompt(**asdict(config.lm.prompt)).ids(lm.tokenizer, rows=rows)


def build_decoding(config: Config) -> Decoding:
    """The decoding profile without the keys that this language model cannot use, which are printed once."""
    dropped = rules.dropped_keys(config)
    if dropped and dist.is_first():
        keys = ", ".join(f"generation.{key}={config.generation[key]}" for key in sorted(dropped))
        print(f"left out, since this language model cannot use it (lm.generation): {keys}", flush=True)
    return Decoding(**rules.usable_profile(config))


def build_datasets(config: Config, data: ReportData, model: ReportGenerator) -> dict[str, StudyDataset]:
    """The studies of each split, with images at the encoder's size and reports as the language model's ids."""
    encode, eos_id = model.lm.tokenizer.encode, model.lm.tokenizer.eos_id
    transform, longest = model.vision.transform, config.trainer.max_report_tokens
    image = ImageCache(
        lambda view: transform(data.image(view, at_least_px=transform.size_px)),
        budget_mib=config.trainer.film_cache_mib,
    )

    def ids(report: str) -> list[int]:
        return [*encode(report), eos_id][:longest]

    return {split: StudyDataset(data.studies(split), image=image, encode=ids) for split in SPLITS}


def build_metrics(config: Config) -> dict[str, Metric]:
    return {name: instantiate(metric) for name, metric in config.metrics.items()}


def build_evaluation(config: Config, job: Job, *, stop: StopRequest) -> Evaluation:
    settings, data_hash = config.evaluate, data_digest(config.data)
    scorer = Scorer(
        metrics=build_metrics(config),
        best=weighted_scores(settings.best),
        cut=reference_cut(settings, job.model.lm.tokenizer),
    )
    return Evaluation(
        predictor=Predictor(
            run_dir=config.folder,
            datasets=job.datasets,
            origin=Origin(
                profile=decoding_name(config),
                decoding=job.decoding,
                quant=config.quant.mode,
                data_hash=data_hash,
                code=provenance.git_revision()["revision"],
            ),
            inference=Inference(
                batch_size=settings.batch_size, workers=config.trainer.workers, device=job.device, stop=stop
            ),
        ),
        baselines=BaselineReports(
            data=job.data,
            datasets=job.datasets,
            data_hash=data_hash,
            nearest_file=config.folder / "nearest.json",
            nearest_most=settings.nearest_studies,
            stop=stop,
        ),
        scorer=scorer,
        metrics=MetricsWriter(
            file=scores_file(config),
            profile=decoding_name(config),
            recipe=recipe_of(job.data, data_hash),
            specs=scorer.specs(),
            original_choices=original_choices(config),
        ),
        page=RunPage(run_dir=config.folder, data=job.data, datasets=job.datasets, studies=settings.page_studies),
    )


def reference_cut(settings: EvaluateConfig, tokenizer: ReportTokenizer) -> ReferenceCut | None:
    """How R2GenGPT shortens a reference (its validation_step), where evaluate.reference asks for it."""
    tokens = settings.max_reference_tokens
    if settings.reference == "full" or tokens is None:
        return None
    return ReferenceCut(tokens, lambda report: tokenizer.decode(tokenizer.encode(report)[:tokens]).strip())


def decoding_name(config: Config) -> str:
    """The name of the decoding profile, with a digest where its values are not those the run was trained with."""
    stored, name = RunFolder(config.folder).config(), str(config.choices["generation"])
    if name != stored["choices"]["generation"] or config.generation == stored["generation"]:
        return name
    return f"{name}-{hashlib.sha256(canonical(config.generation).encode()).hexdigest()[:4]}"


def scores_file(config: Config) -> Path:
    """metrics.json has the scores of the run's own decoding; another decoding has a file of its own beside it."""
    run_dir, name = config.folder, decoding_name(config)
    own = name == RunFolder(run_dir).config()["choices"]["generation"]
    return metrics_path(run_dir, None if own else name)


def build_logger(config: Config) -> Logger:
    logger: Logger = instantiate(config.logger)
    return logger


def loop_settings(config: Config) -> LoopSettings:
    trainer = config.trainer
    return LoopSettings(
        batch_size=trainer.batch_size,
        micro_batch_size=trainer.micro_batch_size,
        learning_rate=trainer.learning_rate,
        min_learning_rate=trainer.min_learning_rate,
        warmup_steps=trainer.warmup_steps,
        schedule=trainer.schedule,
        patience=trainer.patience,
        workers=trainer.workers,
        save_every_steps=trainer.save_every_steps,
        log_every_steps=trainer.log_every_steps,
        shuffle=trainer.shuffle,
        seed=config.seed,
    )


def _lora(lora: LoraConfig | None) -> Lora | None:
    return None if lora is None else Lora(**asdict(lora))
