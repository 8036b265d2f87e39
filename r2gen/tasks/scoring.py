"""What scores a run: predictions, baselines, metrics and the page, built from its configuration."""

import hashlib
from functools import cache
from pathlib import Path
from typing import cast

from r2gen.build import Job, data_workers
from r2gen.config.original_choices import original_choices
from r2gen.config.plain import canonical
from r2gen.config.schema import Config
from r2gen.config.selection import selection_of, weighted_scores
from r2gen.config.targets import instantiate
from r2gen.data.reports import data_digest
from r2gen.evaluate.baseline_reports import BaselineReports
from r2gen.evaluate.evaluation import Evaluation
from r2gen.evaluate.metrics_writer import MetricsWriter
from r2gen.evaluate.predicting import Inference, Origin, Predictor
from r2gen.evaluate.recipe import recipe_of
from r2gen.evaluate.run_page import RunPage
from r2gen.evaluate.scores import Metric
from r2gen.evaluate.split_scores import ReferenceCut, Scorer
from r2gen.lm.protocol import DecoderName
from r2gen.lm.quantize import recorded_mode
from r2gen.lm.tokenizer import ReportTokenizer
from r2gen.ranks import dist
from r2gen.ranks.stop import StopRequest
from r2gen.runs import provenance, stored
from r2gen.runs.files import make_folder
from r2gen.runs.folder import RunFolder
from r2gen.runs.metrics_file import external_folder, metrics_path
from r2gen.tasks.external import external_name, is_external, training_data


def build_evaluation(config: Config, job: Job, *, stop: StopRequest) -> Evaluation:
    data_hash, profile = data_digest(config.data), profile_name(config)
    scorer = build_scorer(config, job.model.lm.tokenizer)
    external = is_external(config, data_hash)
    folder, (data, trained_on) = config.folder, (job.data, None)
    if external:
        folder = external_folder(folder, external_name(config, data_hash))
        data, trained_on = training_data(config, job)
        if dist.is_first():
            make_folder(folder.parent)
            make_folder(folder)
    return Evaluation(
        predictor=build_predictor(config, job, folder=folder, profile=profile, data_hash=data_hash, stop=stop),
        baselines=BaselineReports(
            data=data,
            datasets=job.datasets,
            data_hash=data_hash,
            nearest_file=folder / "nearest.json",
            nearest_most=config.evaluate.nearest_studies,
            trained_on=trained_on,
        ),
        scorer=scorer,
        metrics=MetricsWriter(
            file=metrics_path(folder, None if profile == _trained_profile(config) else profile),
            profile=profile,
            recipe=recipe_of(job.data, data_hash),
            specs=scorer.specs(),
            original_choices=original_choices(config),
        ),
        page=RunPage(
            run_dir=config.folder,
            data=job.data,
            datasets=job.datasets,
            studies=config.evaluate.page_studies,
            is_external=external,
        ),
        drop=config.evaluate.drop,
        likelihood_studies=config.evaluate.likelihood_studies,
    )


def build_predictor(
    config: Config, job: Job, *, folder: Path, profile: str, data_hash: str, stop: StopRequest
) -> Predictor:
    return Predictor(
        run_dir=folder,
        datasets=job.datasets,
        origin=Origin(
            profile=profile,
            decoding=job.decoding,
            quant=recorded_mode(job.model.lm.model, mode=config.quant.mode),
            data_hash=data_hash,
            code=provenance.git_revision()["revision"],
        ),
        inference=Inference(
            batch_size=config.evaluate.batch_size,
            slots=config.evaluate.slots,
            decoder=job.model.lm.decoder_for(job.decoding, cast(DecoderName, config.evaluate.decoder)),
            workers=data_workers(config, job, batch_size=config.evaluate.batch_size),
            device=job.device,
            stop=stop,
        ),
    )


def build_metrics(config: Config) -> dict[str, Metric]:
    return {name: instantiate(metric) for name, metric in config.metrics.items()}


def build_scorer(config: Config, tokenizer: ReportTokenizer) -> Scorer:
    """The metrics of a run. With evaluate.reference=truncated, references are also cut as in R2GenGPT."""
    tokens, cut = config.evaluate.max_reference_tokens, None
    if config.evaluate.reference == "truncated" and tokens is not None:
        # As in R2GenGPT's validation_step.
        cut = ReferenceCut(tokens, cache(lambda report: tokenizer.decode(tokenizer.encode(report)[:tokens]).strip()))
    return Scorer(metrics=build_metrics(config), best=weighted_scores(selection_of(config)), cut=cut)


def profile_name(config: Config) -> str:
    """The name of the decoding profile, with a digest if its values differ from those that the run was trained with.

    The mode of quantisation follows if it differs from that of the training.
    """
    name, trained = str(config.choices["generation"]), stored.completed_plain(RunFolder(config.folder))
    if name == _trained_profile(config) and config.generation != trained["generation"]:
        name += f"-{hashlib.sha256(canonical(config.generation).encode()).hexdigest()[:4]}"
    return name if config.quant.mode == trained["quant"]["mode"] else f"{name}-{config.quant.mode}"


def _trained_profile(config: Config) -> str:
    """The decoding profile that the run was trained with. Its scores are in metrics.json, others in their own files."""
    return str(RunFolder(config.folder).config()["choices"]["generation"])
