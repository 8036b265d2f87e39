"""The composition root: from a configuration to a report generator and its data.

Read it from top to bottom: `build_job` names the parts in the order in which they need each other, and the functions
that build them follow in that order. build_training.py has what only a training needs. Objects are made from YAML in
these two modules, and in the tasks compare and audit, which need no torch. Everything below this module takes plain
arguments and does not know the configuration.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from r2gen.config import batch_norm, lm_rules, rules
from r2gen.config.decoding import Decoding
from r2gen.config.schema import Config, LoraConfig
from r2gen.config.targets import instantiate
from r2gen.data.context import StudyContext
from r2gen.data.context_text import context_text
from r2gen.data.dataset import ImageCache, StudyDataset
from r2gen.data.loader import workers_that_fit
from r2gen.data.reports import SPLITS, ReportData, image_file_of
from r2gen.data.share import TrainShare
from r2gen.data.stored_images import StoredImages
from r2gen.errors import UserError
from r2gen.lm.causal import CausalLM
from r2gen.lm.load import DTYPES, load_lm, random_lm, refuse_offloaded_layers
from r2gen.lm.prompt import Prompt, PromptIds
from r2gen.lm.protocol import LanguageModel
from r2gen.lm.quantize import check_quantised, quantisation_of
from r2gen.lm.run_tokenizer import TOKENIZER, write_tokenizer
from r2gen.lm.tokenizer import ReportTokenizer, read_tokenizer
from r2gen.model.findings_prompt import FindingsPrompt
from r2gen.model.placement import check_finite, place, to_bf16, trained_to_fp32
from r2gen.model.report_generator import ReportGenerator
from r2gen.model.tune import Lora, choose_trainable
from r2gen.ranks import dist
from r2gen.runs.progress import working
from r2gen.runs.tried import was_tried
from r2gen.train.loggers import Logger
from r2gen.vision.encoder import TimmEncoder
from r2gen.vision.image_embedding import ImageEmbedding


@dataclass(frozen=True)
class Job:
    """The parts with which a task trains or evaluates."""

    data: ReportData
    datasets: dict[str, StudyDataset]  # by split
    model: ReportGenerator
    decoding: Decoding
    device: torch.device
    bf16: bool


def build_job(config: Config, device: torch.device) -> Job:
    """The parts of a run, on the device. The model has its initial weights: the caller loads a checkpoint."""
    bf16, shown = uses_bf16(config, device), dist.is_first()

    # Data: studies with their images and full reference reports.
    data = build_data(config)

    # Language model: one with random weights has a tokenizer that is trained on the training reports.
    with working(f"building the language model {config.choices['lm']}", shown=shown):
        tokenizer = build_tokenizer(config, data)
        lm = build_lm(config, tokenizer=tokenizer, bf16=bf16, device=device)

    # Report generator: encoder and projector in front of the language model, the prompt, and which weights train.
    with working(f"building the image encoder {config.choices['vision']}", shown=shown):
        model = build_report_generator(config, lm, bf16=bf16, device=device)

    # Decoding: how reports are generated.
    decoding = build_decoding(config)

    # Datasets: images at the encoder's size, reports as token ids of the language model.
    with working("reading the data", shown=shown):
        datasets = build_datasets(config, data, model)
    return Job(data=data, datasets=datasets, model=model, decoding=decoding, device=device, bf16=bf16)


def build_model(config: Config, *, bf16: bool, device: torch.device) -> ReportGenerator:
    """The report generator of a run folder that exists, for work that reads no studies. It has its initial weights."""
    lm = build_lm(config, tokenizer=stored_tokenizer(config), bf16=bf16, device=device)
    return build_report_generator(config, lm, bf16=bf16, device=device)


# Device and precision


def pick_device(device: str) -> torch.device:
    """The device of this rank, for trainer.device. Raises UserError if there is no such GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "trainer.device=cuda: torch sees no GPU here. Use trainer.device=cpu, or install a torch built for CUDA"
        )
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if dist.local_rank() >= torch.cuda.device_count():
        raise UserError(f"trainer.devices asks for more GPUs than the {torch.cuda.device_count()} of this machine")
    torch.cuda.set_device(dist.local_rank())
    return torch.device("cuda", dist.local_rank())


def gpu_name(device: torch.device) -> str | None:
    """The name of a GPU; None for a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def uses_bf16(config: Config, device: torch.device) -> bool:
    precision = config.trainer.precision
    return precision == "bf16" or (precision == "auto" and device.type == "cuda")


# Data


def build_data(config: Config) -> ReportData:
    """The data set, with the share of the training studies that trainer.train_share sets."""
    data: ReportData = instantiate(config.data)
    return TrainShare(data, config.trainer.train_share)


# Language model


def build_tokenizer(config: Config, data: ReportData) -> ReportTokenizer | None:
    """The tokenizer of a language model with random weights, in the run folder.

    It is trained once, on the training reports and what the prompts have besides the images.

    None for a checkpoint, which has its own.
    """
    if config.lm.path is not None:
        return None
    if dist.is_first() and not (config.folder / TOKENIZER).is_dir():
        lm, studies = config.lm, data.studies("train")
        assert lm.vocabulary_size is not None
        options, words = config.context, lm.vocabulary == "words"
        write_tokenizer(
            config.folder,
            [study.report for study in studies],
            contexts=[context_text(study, options, words=words) for study in studies] if options.fields else [],
            start=config.trainer.start,
            vocabulary=lm.vocabulary,
            size=lm.vocabulary_size,
            min_count=lm.min_count,
        )
    dist.barrier()
    return stored_tokenizer(config)


def stored_tokenizer(config: Config) -> ReportTokenizer | None:
    """The tokenizer in the run folder; None for a language model from a checkpoint, which has its own."""
    return None if config.lm.path is not None else read_tokenizer(config.folder / TOKENIZER)


def build_lm(config: Config, *, tokenizer: ReportTokenizer | None, bf16: bool, device: torch.device) -> LanguageModel:
    """The language model in eval(). Its weights are read to the device directly, and quantised while they are read.

    With bf16, lm.dtype has no effect. A `tokenizer` is passed for random weights only.
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
    on_device = {"": str(device)} if device.type == "cuda" else None
    loaded = load_lm(
        lm.path,
        revision=lm.revision,
        family=lm.family,
        dtype=dtype,
        attention=lm.attention,
        stop=lm.stop,
        special_tokens=asdict(lm.special_tokens),
        gradient_checkpointing=lm.gradient_checkpointing,
        device_map=lm.device_map or on_device,
        quantization=quantisation_of(**asdict(config.quant), dtype=DTYPES[dtype]),
        check=partial(lm_rules.check, config),
        tried=was_tried(config, gpu=gpu_name(device)),
    )
    check_quantised(loaded.model, mode=config.quant.mode)
    if on_device is not None:
        refuse_offloaded_layers(loaded)
    return loaded


# Report generator


def build_report_generator(config: Config, lm: LanguageModel, *, bf16: bool, device: torch.device) -> ReportGenerator:
    """The report generator around a language model, on the device."""
    # Encoder and projector: each is drawn from a seed of its own, so that its random weights depend on no other part.
    torch.manual_seed(config.seed)
    vision: TimmEncoder = instantiate(batch_norm.encoder(config))
    vision.embedding = ImageEmbedding(vision.dim) if config.context.image_embeddings else None
    torch.manual_seed(config.seed + 1)
    projector = instantiate(config.projector, in_dim=vision.dim, out_dim=lm.dim)
    findings = build_findings_prompt(config, dim=vision.dim, lm_dim=lm.dim)

    # Prompt: token ids before and after the image.
    prompt = build_prompt(config, lm)
    model = ReportGenerator(
        vision=vision,
        projector=projector,
        lm=lm,
        before=prompt.before,
        after=prompt.after,
        context=prompt.context,
        findings=findings,
    )
    model.label_smoothing, lm.dropout = config.trainer.label_smoothing, config.lm.dropout
    if isinstance(lm, CausalLM):
        lm.opening = prompt.opening
        if not config.lm.packed:
            lm.packs = False
    check_finite(model)

    # What trains: everything else is frozen.
    choose_trainable(
        model,
        vision=config.tune.vision,
        vision_lora=_lora(config.tune.lora),
        lm=config.tune.lm.mode,
        lm_lora=_lora(config.tune.lm.lora),
        lm_lora_targets=config.lm.lora_targets,
        lm_is_random=config.lm.path is None,
        encoder_only=rules.encoder_only(config),
    )

    # Precision and device.
    if bf16:
        to_bf16(model)
    else:
        trained_to_fp32(model)
    return place(model, device, spread=config.lm.device_map is not None)


def build_findings_prompt(config: Config, *, dim: int, lm_dim: int) -> FindingsPrompt | None:
    """The part that puts findings into the prompt; None if the objective has none there."""
    if not rules.findings_in_prompt(config):
        return None
    from r2gen.train.objectives.findings import CLASSES  # reads the rules of the labeler

    threshold = config.objective.get("threshold")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed + 2)
        return FindingsPrompt(dim=dim, lm_dim=lm_dim, findings=len(CLASSES), threshold=threshold)


def build_prompt(config: Config, lm: LanguageModel) -> PromptIds:
    """The token ids around the image, and where the context of a study goes."""
    rows = lm.model.get_input_embeddings().get_parameter("weight").shape[0]
    encoded = lm.model.config.is_encoder_decoder
    return Prompt(**asdict(config.lm.prompt)).around(
        lm.tokenizer, context=config.context.is_used, rows=rows, encoded=encoded
    )


def build_context(config: Config, tokenizer: ReportTokenizer) -> StudyContext | None:
    """What writes the context of a study as token ids; None for context=none."""
    words = config.lm.vocabulary == "words"
    return StudyContext(config.context, tokenizer.encode, words=words) if config.context.is_used else None


def _lora(lora: LoraConfig | None) -> Lora | None:
    return None if lora is None else Lora(**asdict(lora))


# Decoding and datasets


def build_decoding(config: Config) -> Decoding:
    """The decoding profile without the options that this language model cannot use, which are printed."""
    dropped = rules.dropped_keys(config)
    if dropped and dist.is_first():
        options = ", ".join(f"generation.{key}={config.generation[key]}" for key in sorted(dropped))
        print(f"not used, since this language model does not support it (lm.generation): {options}", flush=True)
    return Decoding(**rules.usable_profile(config))


def build_datasets(config: Config, data: ReportData, model: ReportGenerator) -> dict[str, StudyDataset]:
    """The studies of each split, with images at the encoder's size and reports as token ids."""
    encode, eos_id = model.lm.tokenizer.encode, model.lm.tokenizer.eos_id
    transform, longest = model.vision.transform, config.trainer.max_report_tokens

    def resized(view: str) -> torch.Tensor:
        return transform(data.image(view, at_least_px=transform.size_px))

    load: Callable[[str], torch.Tensor] = resized
    if config.trainer.image_cache is not None:
        folder, file_of = Path(config.trainer.image_cache), partial(image_file_of, data)
        load = StoredImages(resized, folder=folder, size_px=transform.size_px, file_of=file_of)
    image = ImageCache(load, budget_mib=config.trainer.film_cache_mib)

    def ids(report: str) -> list[int]:
        return [*encode(report), eos_id][:longest]

    context = build_context(config, model.lm.tokenizer)
    return {split: StudyDataset(data.studies(split), image=image, encode=ids, context=context) for split in SPLITS}


def data_workers(config: Config, job: Job, *, batch_size: int) -> int:
    """The processes that read images: trainer.workers, or on a GPU a number that fits, since it would wait for them."""
    if config.trainer.workers is not None or job.device.type == "cpu":
        return config.trainer.workers or 0
    views = max((dataset.images_of(study) for dataset in job.datasets.values() for study in dataset.studies), default=1)
    study_bytes = views * job.model.vision.transform.size_px**2
    return workers_that_fit(batch_bytes=batch_size * study_bytes, ranks=config.trainer.devices)


# Logger


def build_logger(config: Config) -> Logger:
    logger: Logger = instantiate(config.logger)
    return logger
