"""A rehearsal before the first step: one batch through loss, gradients, generation and every metric.

What cannot be trained, generated or scored is reported at once and not after hours. Nothing changes by it: weights,
random state, BatchNorm and the modes of the modules are afterwards as before, and no gradient is left.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace

import torch
from torch import nn

from r2gen.config.decoding import Decoding
from r2gen.data.collate import Batch, collate
from r2gen.data.dataset import StudyDataset
from r2gen.data.reports import Study
from r2gen.errors import UserError
from r2gen.evaluate.predictions import Prediction
from r2gen.evaluate.scores import EarlyMetric
from r2gen.evaluate.split_scores import Scorer
from r2gen.lm.protocol import DecoderName, DecodingPlan, Generated
from r2gen.model.report_generator import ReportGenerator
from r2gen.ranks import dist
from r2gen.runs.phase import Phase, in_phase
from r2gen.train.objectives.objective import PLAIN, Objective, Step
from r2gen.vision.batch_norm import moving_statistics

ON_CPU = 2  # studies
TOKENS = 2  # generated for each study
STARTING_S = 1.0  # a metric with a process of its own has failed within this time if it cannot start


def rehearse(
    model: ReportGenerator,
    dataset: StudyDataset,
    *,
    micro_batch_size: int,
    decoding: Decoding,
    decoder: DecoderName,
    scorer: Scorer,
    device: torch.device,
    objective: Objective = PLAIN,
) -> str:
    """Try a step, a report and the scores; returns a line that says so.

    Raises UserError, or the error of torch, where one of them is not possible. Every rank calls it before the engine
    exists. The batch has the longest report, the longest context and the study with most images.
    """
    began = time.monotonic()
    # A whole micro-batch on a GPU, whose memory may not suffice for it. On a CPU it would take as long as a step.
    count = micro_batch_size if device.type == "cuda" else min(ON_CPU, micro_batch_size)
    numbers = needing_most(dataset, count)
    studies = [dataset.studies[number] for number in numbers]
    early = [metric for metric in scorer.metrics.values() if isinstance(metric, EarlyMetric)] if dist.is_first() else []
    for metric in early:
        metric.start({study.id: study.report for study in studies}, {study.id: study.report for study in studies})
    batch = collate([dataset[number] for number in numbers]).to(device)
    with _unchanged(model, device):
        _try_step(model, batch, objective)
        reports = _try_generation(model, batch, decoding, decoder)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    if dist.is_first():
        _try_scores(scorer, studies, reports)
        for metric in early:
            metric.refuse_failed(wait_s=max(0.0, began + STARTING_S - time.monotonic()))
    tried = f"loss, gradients, {TOKENS} generated tokens, {', '.join(scorer.metrics)}"
    return f"tried on {len(studies)} studies before the first step: {tried} ({time.monotonic() - began:.1f} s)"


def needing_most(dataset: StudyDataset, count: int) -> list[int]:
    """The numbers of `count` studies: the one with most images, the one with the longest report, and the first ones.

    If prompts have a context, also the one with the longest, which then comes second.
    """
    studies, context = dataset.studies, dataset.context
    most_images = max(range(len(studies)), key=lambda number: dataset.images_of(studies[number]))
    most = [most_images, max(range(len(studies)), key=lambda number: len(studies[number].report))]
    if context is not None:
        most.insert(1, max(range(len(studies)), key=lambda number: len(context.text(studies[number]))))
    return list(dict.fromkeys([*most, *range(min(count, len(studies)))]))[:count]


@contextmanager
def _unchanged(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Restore the random state, the statistics of BatchNorm and the modes of the modules, and leave no gradient."""
    statistics = [(statistic, statistic.clone()) for statistic in moving_statistics(model).values()]
    modes = [(module, module.training) for module in model.modules()]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
    for module, mode in modes:
        module.training = mode
    for statistic, before in statistics:
        statistic.copy_(before)


@in_phase(Phase.TRAINING)
def _try_step(model: ReportGenerator, batch: Batch, objective: Objective) -> None:
    """Forward and backward. Each gradient is freed as soon as it exists, since ZeRO would store only a part of it."""
    hooks = [
        parameter.register_post_accumulate_grad_hook(_free)
        for parameter in model.parameters()
        if parameter.requires_grad
    ]
    model.train()
    try:
        with _named("trained"):
            tokens = torch.full((), float(batch.target_tokens), device=batch.images_RVHW.device)
            [loss] = objective.losses(model, [batch], Step(0, tokens, len(batch.ids)))
            (model(batch, loss) / tokens).backward()
    finally:
        for hook in hooks:
            hook.remove()
        for parameter in model.parameters():
            parameter.grad = None


def _free(parameter: torch.Tensor) -> None:
    parameter.grad = None


@in_phase(Phase.GENERATION)
def _try_generation(
    model: ReportGenerator, batch: Batch, decoding: Decoding, decoder: DecoderName
) -> dict[str, Generated]:
    model.eval()
    tokens = min(TOKENS, decoding.max_new_tokens)
    short = replace(decoding, max_new_tokens=tokens, min_new_tokens=tokens)
    plan = DecodingPlan(slots=len(batch.ids), decoder=decoder)
    with _named("used to generate"), closing(model.stream([batch], short, plan)) as reports:
        return dict(reports)


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Turn what transformers' classes raise where they are not made for this into one message."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "memory" in str(error) or "CUDA" in str(error):
            raise
        line = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"this model cannot be {what} with these options ({line:.300}). task=check, with the same options, tries "
            "each part of the language model by itself"
        ) from error


@in_phase(Phase.GENERATION)
def _try_scores(scorer: Scorer, studies: Sequence[Study], reports: dict[str, Generated]) -> None:
    predictions = [
        Prediction(study.id, report.text, study.report, len(report.ids), report.finish, 0.0)
        for study in studies
        for report in [reports[study.id]]
    ]
    at_once = {name: metric for name, metric in scorer.metrics.items() if not isinstance(metric, EarlyMetric)}
    scores = replace(scorer, metrics=at_once).score(predictions, {}).full.scores["model"]
    for metric, reason in scores.unavailable.items():
        print(f"{metric} will have no value: {reason}", flush=True)
