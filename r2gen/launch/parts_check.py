"""The checks of what a job reads, before a folder is made: weights and packages, then reports and images."""

import re
from dataclasses import asdict
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2gen.config.context import PRIOR_IMAGES
from r2gen.config.lm_rules import QUANT_PACKAGES, LmFacts, check
from r2gen.config.rules import encoder_only
from r2gen.config.schema import Config
from r2gen.config.selection import selection_of, weighted_scores
from r2gen.config.targets import Target, instantiate
from r2gen.config.task_table import BY_NAME
from r2gen.data.context_text import refuse_without_fields
from r2gen.data.given import given_study
from r2gen.data.leaks import refuse_wrong_priors, unused_context
from r2gen.data.reports import SPLITS, DataSource, data_digest
from r2gen.errors import Code, UserError, installing
from r2gen.evaluate.report_file import ReportFile
from r2gen.launch.listening import listen
from r2gen.runs.files import absolute
from r2gen.runs.folder import RunFolder
from r2gen.runs.placeholders import placeholder
from r2gen.runs.whole_files import ENCODER_FILES, OPEN_CLIP_FILES, refuse_truncated

if TYPE_CHECKING:
    from r2gen.data.listed_studies import StudyImages

_REGISTERED = re.compile(r"^@register_model\s+def (\w+)\(", re.MULTILINE)


def check_parts(config: Config) -> None:
    """Raise UserError where weights or a package are missing, as far as that can be seen without torch."""
    package = QUANT_PACKAGES.get(config.quant.mode)
    if package is not None and find_spec(package) is None:
        raise UserError(
            f"quant={config.quant.mode} needs the package {package}: {installing(package)}", code=Code.PACKAGE_MISSING
        )
    _check_lm(config)
    _check_vision(config)
    _check_start(config)
    if BY_NAME[config.task].scores:
        for metric in config.metrics.values():
            instantiate(metric)  # it refuses what it cannot run with, such as a missing package
    if config.task == "demo":
        _check_demo(config)


def check_input(config: Config) -> None:
    """Raise UserError where reports or images cannot be used. It may take a minute, and ranks do not repeat it."""
    if config.task == "generate":
        _check_study(config)
    elif config.task == "predict":
        _check_studies(config)
    elif config.task in ("train", "check") or (config.task == "evaluate" and not _checked_before(config)):
        _check_data(config)


def _check_lm(config: Config) -> None:
    """Look for the files of the language model. With hub=online, those of a hub id are looked for by the ranks."""
    path = config.lm.path
    if path is None or (config.hub == "online" and not Path(path).is_dir()):
        return
    from r2gen.lm.checkpoint import find_checkpoint, gguf_at, read_json, refuse_other_family, weight_files
    from r2gen.lm.checkpoint_forms import check_gguf

    gguf = gguf_at(Path(path))
    if gguf is not None:  # the ranks read it: importing transformers takes seconds
        check_gguf(gguf)
        return
    checkpoint = find_checkpoint(path, config.lm.revision, cached=True)
    refuse_other_family(checkpoint, config.lm.family)
    for file in weight_files(checkpoint.folder):
        refuse_truncated(file, option="lm.path")
    content = read_json(checkpoint.folder / "config.json")
    before = bool(content.get("quantization_config") or (content.get("text_config") or {}).get("quantization_config"))
    facts = LmFacts(before or config.quant.mode != "none", content.get("is_encoder_decoder") is True, before)
    check(config, facts)


def _check_vision(config: Config) -> None:
    """Look for the encoder's weights; the ranks read them. With hub=online, a hub id is left to the ranks too."""
    named = _named_weights(config.vision)
    path = config.vision.get("path") or named
    if path is None:
        return
    local = Path(path).expanduser()
    if local.exists():
        names = [config.vision.get("file")] if config.vision.get("file") else (*ENCODER_FILES, *OPEN_CLIP_FILES)
        for file in [local] if local.is_file() else [local / name for name in names]:
            if instead := placeholder(file):
                raise UserError(f"vision.path: {instead}", code=Code.WEIGHTS_MISSING)
            if file.is_file():
                refuse_truncated(file, option="vision.path")
        return
    if Path(path).is_absolute() or path.startswith(("./", "../", "~")):
        raise UserError(
            f"vision.path={path} does not exist. Give a folder, a file or a hub id such as timm/resnet50.a1_in1k.",
            code=Code.WEIGHTS_MISSING,
        )
    if config.hub == "offline" and re.fullmatch(r"\w[\w.-]*/[\w.-]+", path) and not _is_cached(path):
        raise UserError(
            f"vision.path={path} is neither a folder nor in the local hub cache; no network is used: download it once "
            "with hub=online, or set vision.path to a folder",
            code=Code.WEIGHTS_MISSING,
        )


def _named_weights(vision: Target) -> str | None:
    """The hub id or folder that vision.name means without a path; None for random weights. Raises UserError for a name
    that timm does not have."""
    if vision.class_name != "TimmEncoder":
        return None
    source, _, name = str(vision.get("name")).rpartition(":")
    if source and not name.startswith("timm/"):  # hf-hub:OWNER/NAME, local-dir:FOLDER
        return name
    model, _, tag = name.removeprefix("timm/").partition(".")
    if model not in _timm_models():
        raise UserError(f"vision.name={name} is not a timm model{_similar(model)}. timm.list_models() lists them.")
    return f"timm/{model}.{tag}" if tag else None


def _check_start(config: Config) -> None:
    """Look for the run of trainer.start, which a training needs until it has a checkpoint of its own."""
    start = config.trainer.start
    resumes = config.run_dir is not None and not config.fresh and (config.folder / "checkpoints" / "last").exists()
    if start is None or config.task != "train" or resumes:
        return
    RunFolder(Path(start)).refuse_missing(f"trainer.start={start}")
    if not (Path(start) / "checkpoints" / "best").exists():
        raise UserError(f"trainer.start={start} has no best checkpoint: give a run that was trained here")


@cache
def _timm_models() -> frozenset[str]:
    """What timm.list_models() returns, read from timm's files, since importing it takes seconds."""
    spec = find_spec("timm")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    files = [file for folder in folders for file in Path(folder, "models").glob("*.py")]
    return frozenset(name for file in files for name in _REGISTERED.findall(file.read_text(encoding="utf-8")))


def _similar(model: str) -> str:
    close = get_close_matches(model, _timm_models(), n=3)
    return f"; similar ones are {', '.join(close)}" if close else ""


def _is_cached(hub_id: str) -> bool:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=hub_id, repo_type="model")).is_dir()


def _checked_before(config: Config) -> bool:
    """Whether the training of a run has checked this data set, from the same folder.

    Checking MIMIC-CXR takes a minute or two. An image that was removed since is reported when it is read.
    """
    folder = RunFolder(config.folder)
    same_options = config.data.arguments == {k: v for k, v in folder.config()["data"].items() if k != "_target_"}
    return same_options and folder.facts().get("data_hash") == data_digest(config.data)


def _check_data(config: Config) -> None:
    source: DataSource = instantiate(config.data)
    source.check()
    _check_context(config, source)
    _check_selection(config, source)
    most = _most_views(config)
    if most is None:
        return
    studies = [(study, split) for split in SPLITS for study in source.studies(split)]
    counts = [(len(study.views), f"the study {study.id} of {split}") for study, split in studies]
    if PRIOR_IMAGES in config.context.fields:
        counts += [
            (len(study.prior.views), f"the prior study of {study.id}")
            for study, _ in studies
            if study.prior is not None
        ]
    views, name = max(counts)
    if views > most:
        raise _too_many(name, views, config, most)


def _check_context(config: Config, source: DataSource) -> None:
    """Raise UserError if a prior study is not an earlier one, or if no training study has what the prompt shall have.

    What the studies have and the run does not use is printed.
    """
    if config.task == "train" and config.context.fields:  # otherwise phantoms need not be drawn here
        refuse_without_fields(config.context, source.studies("train"))
    if source.splits() is None:
        return  # the studies are drawn, and so are their priors
    refuse_wrong_priors(source, head=f"data={config.choices['data']}")
    if unused := unused_context(source, config.context):
        print(f"not used with context={config.choices.get('context', 'none')}: {unused}", flush=True)


def _check_selection(config: Config, source: DataSource) -> None:
    """Raise UserError if no validation can choose the best checkpoint, for any reports."""
    if config.task != "train" or encoder_only(config):
        return
    from r2gen.evaluate.split_scores import refuse_without_value  # with numpy

    studies = source.studies("val")[: config.evaluate.max_studies]
    if studies:
        metrics = {name: instantiate(metric) for name, metric in config.metrics.items()}
        best = weighted_scores(selection_of(config))
        refuse_without_value(metrics, best, {study.id: study.report for study in studies})


def _check_study(config: Config) -> None:
    """Raise UserError where the images of task=generate, or what else is given, cannot be used."""
    from r2gen.data.images import read_image  # with numpy, which takes as long to import as all the rest

    given_study(len(config.images), config.given)
    for image in (*config.images, *config.given.prior_images):
        read_image(Path(image), gray_bits=config.data.get("gray_bits"))
    most = _most_views(config)
    for option, images in (("images=", config.images), ("given.prior_images=", config.given.prior_images)):
        if most is not None and len(images) > most:
            raise _too_many(option, len(images), config, most)


def _check_demo(config: Config) -> None:
    """Raise UserError where a package is missing, the port is in use, or a folder in `runs` is not a run."""
    for package in ("starlette", "uvicorn", "python_multipart"):
        if find_spec(package) is None:
            raise UserError(f"task=demo needs the package {package}: {installing(package)}", code=Code.PACKAGE_MISSING)
    for other in config.runs:
        folder = RunFolder(Path(absolute(other)))
        folder.refuse_missing(f"runs: {other}")
        folder.refuse_untrained()
    listen(config.demo.host, config.demo.port).close()


def _check_studies(config: Config) -> None:
    """Raise UserError where the studies of task=predict cannot be listed, or its file cannot be written."""
    assert config.out is not None
    ReportFile(Path(config.out)).check()
    print(f"{len(studies_to_predict(config)):,} studies in {config.studies}", flush=True)


def studies_to_predict(config: Config) -> "list[StudyImages]":
    """The studies of task=predict."""
    from r2gen.data.listed_studies import list_studies  # with numpy

    assert config.studies is not None
    prepare = config.prepare
    images = None if prepare.images is None else Path(prepare.images)
    columns = asdict(prepare.columns)
    cleaner: Any = config.data.get("cleaner") or "none"  # as the reports of prior studies were cleaned in training
    return list_studies(
        Path(config.studies), images=images, columns=columns, encoding=prepare.encoding, cleaner=cleaner
    )


def _most_views(config: Config) -> int | None:
    """How many images of a study the encoder can join; None if any number."""
    arguments = config.vision.with_defaults().arguments
    return int(arguments["max_views"]) if arguments.get("views") == "concat" else None


def _too_many(study: str, views: int, config: Config, most: int) -> UserError:
    fix = (
        f"Pass vision.max_views={views}, which belongs to the model and cannot be changed later"
        if BY_NAME[config.task].on != "stored run"
        else "The run was trained with it: leave these images out"
    )
    return UserError(f"{study} has {views} images, and vision.max_views={most}. {fix}, or vision.views=mean")
