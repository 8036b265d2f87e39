"""task=dashboard: a W&B workspace that compares the jobs of a sweep. Imports no torch.

    python run.py task=dashboard sweep=DIR logger=wandb [logger.entity=TEAM]

The workspace is made by code and saved where W&B has a key; without one its specification is written beside the sweep.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2gen.config.metrics import score_names
from r2gen.config.overrides import option_name
from r2gen.config.read import read_metrics
from r2gen.config.schema import Config
from r2gen.errors import DONE, UserError
from r2gen.runs.files import write_whole
from r2gen.runs.folder import RunFolder
from r2gen.sweeps.record import JobRecord, SweepFolder


@dataclass(frozen=True)
class Comparison:
    """`varied` are the options that differ among the jobs, as they are typed; the first one groups and colours.

    `scores` has one a metric, of the final scores on `split`.
    """

    group: str
    varied: list[str]
    scores: list[str]
    split: str


def dashboard(config: Config, overrides: list[str]) -> int:
    """Save the workspace, or write its specification, and say where it is. Gives the exit status."""
    if config.sweep is None:
        raise UserError("task=dashboard compares the jobs of a sweep: give its folder with sweep=DIR")
    if "project" not in config.logger.arguments:
        raise UserError("task=dashboard is a page of W&B: give logger=wandb, and its logger.entity and logger.project")
    folder = SweepFolder(Path(config.sweep).absolute())
    comparison = comparison_of(folder.path.name, folder.read().jobs)
    try:
        import wandb  # an extra, and the heaviest import of all that run.py may do
        import wandb_workspaces  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"task=dashboard needs {error.name}: pip install -e '.[dashboard]'") from error
    logger = config.logger.arguments
    keyed = logger["mode"] != "offline" and wandb.login(prompt=False, verify=False)
    entity = logger["entity"] or (wandb.Api().default_entity if keyed else None)
    page = workspace(comparison, entity=entity or "ENTITY", project=logger["project"])
    if keyed:
        print(f"dashboard: {page.save().url}")
        return DONE
    file = folder.path / "dashboard.json"
    write_whole(file, json.dumps(page._spec, indent=1) + "\n")
    print(
        f"{file} has the dashboard's specification: {', '.join(section.name for section in page.sections)}\n"
        "W&B has no key here. To publish it: `wandb login`, `wandb sync` each run's wandb/offline-run-*, and this "
        "command again"
    )
    return DONE


def comparison_of(group: str, jobs: Sequence[JobRecord]) -> Comparison:
    """What differs among a sweep's jobs, and what their runs measure. Raises UserError where none has begun."""
    folders = [RunFolder(Path(job.run_dir)) for job in jobs if job.run_dir is not None]
    configs = [folder.config() for folder in folders if folder.exists()]
    if not configs:
        raise UserError("no job of this sweep has begun: its scores are not known yet")
    metrics = read_metrics({name: metric for config in configs for name, metric in config["metrics"].items()})
    scores = [names[0] for names in score_names(metrics).values()]
    return Comparison(group, varied_options(jobs), scores, split=configs[0]["evaluate"]["splits"][-1])


def varied_options(jobs: Sequence[JobRecord]) -> list[str]:
    """The options of which the jobs have several values: the language model's first, then other groups, then values."""
    values: dict[str, set[str]] = {}
    for job in jobs:
        for override in job.overrides:
            values.setdefault(option_name(override), set()).add(override.partition("=")[2])
    varied = [name for name, found in values.items() if len(found) > 1 and name != "run_dir"]
    return sorted(varied, key=lambda name: (name != "lm", "." in name)) or ["lm"]


def workspace(comparison: Comparison, *, entity: str, project: str) -> Any:
    """The page: scores by what is compared, curves, parallel coordinates, cost; of this sweep's runs alone."""
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as pages
    from wandb_workspaces.expr import And

    by = panels.Config(_place(comparison.varied[0]))
    finals = [panels.SummaryMetric(f"best/{comparison.split}/{score}") for score in comparison.scores]
    curves = ["train/loss", "val/selection", *(f"val/{score}" for score in comparison.scores)]
    columns = [panels.ParallelCoordinatesPlotColumn(panels.Config(_place(name))) for name in comparison.varied]
    columns += [panels.ParallelCoordinatesPlotColumn(final) for final in finals]
    first, costs = finals[0], ("cost/train_seconds", "cost/gpu_seconds", "cost/trainable_parameters")
    sections = [
        pages.Section(
            name=f"Scores by {comparison.varied[0]}",
            is_open=True,
            panels=[
                panels.BarPlot(
                    title=f"{comparison.split}: {score}",
                    metrics=[final],
                    groupby=by,
                    groupby_aggfunc="mean",
                    groupby_rangefunc="minmax",
                )
                for score, final in zip(comparison.scores, finals, strict=True)
            ],
        ),
        pages.Section(
            name=f"Curves by {comparison.varied[0]}",
            is_open=True,
            panels=[
                panels.LinePlot(
                    title=name, x="step", y=[name], groupby=by, groupby_aggfunc="mean", groupby_rangefunc="minmax"
                )
                for name in curves
            ],
        ),
        pages.Section(
            name="What differs, and what it gives",
            is_open=True,
            panels=[panels.ParallelCoordinatesPlot(columns=columns, layout=panels.Layout(w=24, h=10))],
        ),
        pages.Section(
            name="Cost",
            is_open=True,
            panels=[
                *(
                    panels.ScatterPlot(
                        title=f"{comparison.scores[0]} against {cost.partition('/')[2]}",
                        x=panels.SummaryMetric(cost),
                        y=first,
                        log_x=True,
                    )
                    for cost in costs
                ),
                panels.BarPlot(title="seconds of training", metrics=[panels.SummaryMetric(costs[0])], groupby=by),
            ],
        ),
    ]
    runs = pages.RunsetSettings(
        filters=And(pages.Metric("Group") == comparison.group),
        groupby=[pages.Config(by.name)],
        pinned_columns=[f"summary:{final.name}" for final in finals],
    )
    return pages.Workspace(
        entity=entity, project=project, name=f"sweep {comparison.group}", sections=sections, runset_settings=runs
    )


def _place(option: str) -> str:
    """Where a run's W&B configuration has it: groups and the seed at the top, other options as resolved."""
    return f"resolved.{option}" if "." in option else option
