"""The table of tasks: what each does, needs and reads.

The choices of `task=`, `--help`, what is refused, what is left out of a run's identity, what may be passed for a stored
run, and the dispatch are derived from it. A new task is one module in r2gen/tasks/ and one entry here.
"""

from dataclasses import dataclass
from typing import Literal

from r2gen.config.plain import is_under

# What a stored run allows besides the options of the task itself: where and how it runs, never what was trained.
ON_STORED_RUN = (
    "run_dir",
    "verbose",
    "hub",
    "data.root",
    "data.check",
    "data.section",
    "generation",
    "metrics",
    "evaluate",
    "logger",
    "trainer.device",
    "trainer.devices",
    "trainer.nodes",
    "trainer.hostfile",
)


@dataclass(frozen=True)
class Task:
    """One value of `task=`.

    `work` is "module:function". With needs="ranks" it is called as work(config, device, stop) in every rank, otherwise
    as work(config, overrides) in the command itself, and gives the exit status.
    """

    name: str
    usage: str  # what is passed with it, for --help
    help: str
    work: str
    needs: Literal["ranks", "nothing"]
    on: Literal["new run", "stored run", "own folder", "nothing"]
    reads: tuple[str, ...] = ()  # the options it reads; empty: all that describe a run
    own: tuple[str, ...] = ()  # options that change nothing about a run: refused with tasks that do not own them
    may_change: tuple[str, ...] = ()  # on a stored run: the options that may be passed
    scores: bool = False  # it scores reports, for which it reads the data set and the weights of metrics


TASKS = (
    Task(
        name="train",
        usage="",
        help="train, generate, score, and write the page (the default); the same command again resumes",
        work="r2gen.tasks.train:train",
        needs="ranks",
        on="new run",
        scores=True,
    ),
    Task(
        name="evaluate",
        usage="run_dir=DIR",
        help="generate and score with the best checkpoint of a run",
        work="r2gen.tasks.evaluate:evaluate",
        needs="ranks",
        on="stored run",
        # Results of another quant have a file of their own, of other data a folder.
        may_change=(*ON_STORED_RUN, "trainer.image_cache", "quant", "data"),
        scores=True,
    ),
    Task(
        name="generate",
        usage="run_dir=DIR images=[a.png,b.png] [given.indication=TEXT]",
        help="the report of one study; given.* is what else is known about it (docs/context.md)",
        work="r2gen.tasks.generate:generate",
        needs="ranks",
        on="stored run",
        own=("images", "given"),
        may_change=(*ON_STORED_RUN, "quant"),
    ),
    Task(
        name="predict",
        usage="run_dir=DIR studies=FOLDER|TABLE|annotation.json out=reports.csv",
        help="the reports of many studies, which need no references; again to resume (docs/predict.md)",
        work="r2gen.tasks.predict:predict",
        needs="ranks",
        on="stored run",
        own=("studies", "out", "prepare.images", "prepare.columns", "prepare.encoding"),
        may_change=(*ON_STORED_RUN, "quant", "fresh"),  # fresh replaces the file
    ),
    Task(
        name="demo",
        usage="run_dir=DIR ['runs=[DIR]']",
        help="serve a page on this machine that writes reports for images, and POST /report (docs/demo.md)",
        work="r2gen.tasks.demo.task:demo",
        needs="ranks",
        on="stored run",
        own=("runs", "demo"),
        may_change=(*ON_STORED_RUN, "quant"),
    ),
    Task(
        name="check",
        usage="",
        help="check a language model and its configuration before training; each failure comes with a fix",
        work="r2gen.tasks.check.task:check",
        needs="ranks",
        on="own folder",
    ),
    Task(
        name="import",
        usage="checkpoint=FILE run_dir=NEW vision.path=SWIN lm.path=LM",
        help="make a run of a checkpoint of R2GenGPT",
        work="r2gen.r2gengpt.importing:import_checkpoint",
        needs="ranks",
        on="new run",
        own=("checkpoint",),
    ),
    Task(
        name="export",
        usage="run_dir=DIR [out=FOLDER]",
        help="write the best checkpoint as one folder to pass on, LoRA merged, with a model card",
        work="r2gen.tasks.export:export",
        needs="ranks",
        on="stored run",
        own=("out",),
        may_change=ON_STORED_RUN,
    ),
    Task(
        name="prepare",
        usage="data=csv prepare.table=FILE prepare.images=DIR | data=NAME data.root=DIR [prepare.context_from=TABLE]",
        help="write an annotation from a table (docs/own-data.md) or published data, or add to one (docs/data.md)",
        work="r2gen.tasks.prepare:prepare",
        needs="nothing",
        on="nothing",
        reads=("data", "prepare", "fresh"),
        own=("prepare",),
    ),
    Task(
        name="audit",
        usage="data=NAME data.root=DIR",
        help="count lengths, words, images, and what of val and test is also in training",
        work="r2gen.tasks.audit:audit",
        needs="nothing",
        on="nothing",
        reads=("data", "audit", "out"),
        own=("audit", "out"),
    ),
    Task(
        name="compare",
        usage="'runs=[DIR,DIR,name=reports.csv]', or sweep=DIR",
        help="compare systems: intervals, paired tests, tables, a page (docs/compare.md)",
        work="r2gen.tasks.compare:compare",
        needs="nothing",
        on="nothing",
        reads=("runs", "sweep", "compare", "data", "metrics", "out"),
        own=("runs", "sweep", "compare", "out"),
    ),
    Task(
        name="index",
        usage="[out=FOLDER]",
        help="list the runs, sweeps and comparisons in outputs/ on one page, outputs/index.html",
        work="r2gen.tasks.index:index",
        needs="nothing",
        on="nothing",
        reads=("out",),
        own=("out",),
    ),
    Task(
        name="compose",
        usage="",
        help="show which run a command would be and whether it exists; with -m one line per job",
        work="r2gen.tasks.compose:show",
        needs="nothing",
        on="nothing",
    ),
    Task(
        name="status",
        usage="sweep=DIR",
        help="show the progress of a sweep",
        work="r2gen.tasks.status:status",
        needs="nothing",
        on="nothing",
        reads=("sweep",),
        own=("sweep",),
    ),
    Task(
        name="dashboard",
        usage="sweep=DIR logger=wandb",
        help="make a W&B workspace of a sweep (docs/dashboards.md)",
        work="r2gen.tasks.dashboard:dashboard",
        needs="nothing",
        on="nothing",
        reads=("sweep", "logger"),
        own=("sweep",),
    ),
)
BY_NAME = {task.name: task for task in TASKS}
# Options that belong to some tasks and say nothing about a run: its identity leaves them out.
OWNED = tuple(dict.fromkeys(name for task in TASKS for name in task.own))


def owners(option: str) -> list[str]:
    """The names of the tasks that own an option, or a group that it is in; empty where it describes a run."""
    return [task.name for task in TASKS if is_under(option, *task.own)]


def named_owners(option: str) -> str:
    """The tasks that own an option, as in "task=compare, task=status and task=dashboard"."""
    *others, last = [f"task={name}" for name in owners(option)]
    return f"{', '.join(others)} and {last}" if others else last
