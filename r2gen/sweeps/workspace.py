"""A W&B workspace that compares the jobs of a sweep. Needs the extra `dashboard`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb_workspaces.reports.v2 as panels
import wandb_workspaces.workspaces as pages
from wandb_workspaces.expr import And

from r2gen.config.metrics import score_names
from r2gen.config.overrides import option_name
from r2gen.config.read import read_metrics
from r2gen.errors import UserError
from r2gen.runs.folder import RunFolder
from r2gen.sweeps.record import JobRecord

COSTS = ("cost/train_seconds", "cost/gpu_seconds", "cost/trainable_parameters")


@dataclass(frozen=True)
class Comparison:
    """What a workspace compares: `varied` options, of which the first one groups and colours, by `scores` on `split`.

    There is one score for each metric.
    """

    group: str
    varied: list[str]
    scores: list[str]
    split: str


def comparison_of(group: str, jobs: Sequence[JobRecord]) -> Comparison:
    """The comparison of a sweep's jobs. Raises UserError if none of them has begun."""
    folders = [RunFolder(Path(job.run_dir)) for job in jobs if job.run_dir is not None]
    configs = [folder.config() for folder in folders if folder.exists()]
    if not configs:
        raise UserError("no job of this sweep has begun: its scores are not known yet")
    metrics = read_metrics({name: metric for stored in configs for name, metric in stored["metrics"].items()})
    scores = [names[0] for names in score_names(metrics).values()]
    return Comparison(group, varied_options(jobs), scores, split=configs[0]["evaluate"]["splits"][-1])


def varied_options(jobs: Sequence[JobRecord]) -> list[str]:
    """The options with several values: first the language model, then other groups, then single options."""
    values: dict[str, set[str]] = {}
    for job in jobs:
        for override in job.overrides:
            values.setdefault(option_name(override), set()).add(override.partition("=")[2])
    varied = [name for name, of_option in values.items() if len(of_option) > 1 and name != "run_dir"]
    return sorted(varied, key=lambda name: (name != "lm", "." in name)) or ["lm"]


def workspace(comparison: Comparison, *, entity: str, project: str) -> Any:
    """The workspace of this sweep's runs, in four sections: scores, curves, parallel coordinates and cost."""
    group_by = panels.Config(_config_key(comparison.varied[0]))
    finals = [panels.SummaryMetric(f"best/{comparison.split}/{score}") for score in comparison.scores]
    runs = pages.RunsetSettings(
        filters=And(pages.Metric("Group") == comparison.group),
        groupby=[pages.Config(group_by.name)],
        pinned_columns=[f"summary:{final.name}" for final in finals],
    )
    return pages.Workspace(
        entity=entity,
        project=project,
        name=f"sweep {comparison.group}",
        sections=[
            _scores(comparison, group_by, finals),
            _curves(comparison, group_by),
            _parallel_coordinates(comparison, finals),
            _cost(comparison, group_by, finals),
        ],
        runset_settings=runs,
    )


def _scores(comparison: Comparison, group_by: panels.Config, finals: Sequence[panels.SummaryMetric]) -> pages.Section:
    return pages.Section(
        name=f"Scores by {comparison.varied[0]}",
        is_open=True,
        panels=[
            panels.BarPlot(
                title=f"{comparison.split}: {score}",
                metrics=[final],
                groupby=group_by,
                groupby_aggfunc="mean",
                groupby_rangefunc="minmax",
            )
            for score, final in zip(comparison.scores, finals, strict=True)
        ],
    )


def _curves(comparison: Comparison, group_by: panels.Config) -> pages.Section:
    names = ["train/loss", "val/selection", *(f"val/{score}" for score in comparison.scores)]
    return pages.Section(
        name=f"Curves by {comparison.varied[0]}",
        is_open=True,
        panels=[
            panels.LinePlot(
                title=name, x="step", y=[name], groupby=group_by, groupby_aggfunc="mean", groupby_rangefunc="minmax"
            )
            for name in names
        ],
    )


def _parallel_coordinates(comparison: Comparison, finals: Sequence[panels.SummaryMetric]) -> pages.Section:
    axes: list[panels.Config | panels.SummaryMetric] = [
        *(panels.Config(_config_key(option)) for option in comparison.varied),
        *finals,
    ]
    columns = [panels.ParallelCoordinatesPlotColumn(axis) for axis in axes]
    plot = panels.ParallelCoordinatesPlot(columns=columns, layout=panels.Layout(w=24, h=10))
    return pages.Section(name="Options and scores", is_open=True, panels=[plot])


def _cost(comparison: Comparison, group_by: panels.Config, finals: Sequence[panels.SummaryMetric]) -> pages.Section:
    scatters = [
        panels.ScatterPlot(
            title=f"{comparison.scores[0]} against {cost.partition('/')[2]}",
            x=panels.SummaryMetric(cost),
            y=finals[0],
            log_x=True,
        )
        for cost in COSTS
    ]
    seconds = panels.BarPlot(title="seconds of training", metrics=[panels.SummaryMetric(COSTS[0])], groupby=group_by)
    return pages.Section(name="Cost", is_open=True, panels=[*scatters, seconds])


def _config_key(option: str) -> str:
    """The option's key in a W&B run's configuration: groups and the seed are at the top, the others in `yaml`."""
    return f"yaml.{option}" if "." in option else option
