"""Stored files that were edited at random, torn, or saved in another encoding are read, or refused in one line."""

import copy
import json
import math
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from smallest_run import ROOT

from r2gen.compare.source import read_sources
from r2gen.errors import UserError
from r2gen.evaluate.nearest import read_nearest
from r2gen.evaluate.predictions import read_predictions
from r2gen.evaluate.tables import table_of
from r2gen.pages.document import DATA
from r2gen.pages.run import write_page
from r2gen.runs import stored
from r2gen.runs.folder import RunFolder
from r2gen.runs.metrics_file import metrics_path
from r2gen.sweeps.progress import progress_of
from r2gen.sweeps.record import JobRecord, SweepFolder, SweepRecord
from r2gen.sweeps.results import write_results
from r2gen.sweeps.view import sweep_lines
from r2gen.train.checkpoint import Checkpoints, TrainState
from r2gen.train.loggers import forget_after

MANY = int(os.environ.get("R2GEN_EXAMPLES", "200"))
RUN = next((ROOT / "tests" / "golden" / "run_of_the_version_before").glob("train-*"))
STEP = "checkpoints/step-00000024/state.json"
FILES = (
    "run/run.json",
    "run/config.yaml",
    "run/metrics.json",
    "run/nearest.json",
    "run/train.jsonl",
    "run/predictions/test.greedy.jsonl",
    "run/report.html",
    f"run/{STEP}",
    "sweep/sweep.json",
)
DEEP = "[" * 100_000 + "]" * 100_000
JUNK: tuple[Any, ...] = (
    *(None, True, 0, -1, 3, 10**17, 1.5, math.nan, math.inf, "", "x", "a\0b", "\ud800", "../../x", "\x1b[2J", "1e400"),
    *([], [1], [None], ["x", 3], [[]], {}, {"x": 1}, {"": None}, {"model": 3}, {"path": []}),
)
TEXTS = ("", "{", "[]", "3", "null", "NaN", '"x"', DEEP, f'{{"format": {DEEP}}}', f'{{"format": {"9" * 5000}}}', "\0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a run, its page, and a sweep of that run."""
    run = tmp_path / "run"
    shutil.copytree(RUN, run, symlinks=True)
    write_page(run, images={})
    page = run / "report.html"
    page.write_text(page.read_text().replace('"images":[]', '"images":["data:image/jpeg;base64,"]'))
    sweep = SweepFolder(tmp_path / "sweep")
    sweep.path.mkdir()
    job = JobRecord(0, ["seed=1"], {"lm": "tiny", "generation": "greedy"}, "train", str(run), state="done")
    running = JobRecord(1, ["seed=2"], {}, "train", str(run), state="running", gpus=["0"])
    sweep.write(SweepRecord("jobs", "python run.py -m seed=1,2", ["seed=1,2"], "now", jobs=[job, running]))
    return tmp_path


def edit(file: Path, luck: random.Random) -> None:
    """Change a file at random: one of its values, its bytes, its encoding, or all of it."""
    how = luck.random()
    content = file.read_bytes()
    if how < 0.1:
        file.write_text(luck.choice(TEXTS))
    elif how < 0.2:
        file.write_bytes(content[: luck.randrange(len(content))])
    elif how < 0.3:
        file.write_bytes(content.decode().encode(luck.choice(("utf-16", "utf-32", "utf-8-sig"))))
    elif how < 0.4:
        place = luck.randrange(len(content))
        file.write_bytes(content[:place] + luck.randbytes(luck.randint(1, 4)) + content[place + 1 :])
    elif file.suffix == ".yaml":
        file.write_text(yaml.safe_dump(mutated(yaml.safe_load(content), luck)))
    elif file.suffix == ".html":
        head, script, rest = content.decode().partition(DATA)
        data, end, tail = rest.partition("</script>")
        file.write_text(head + script + json.dumps(mutated(json.loads(data), luck)) + end + tail)
    elif file.suffix == ".jsonl":
        lines = content.decode().splitlines()
        number = luck.choice((0, luck.randrange(len(lines))))
        lines[number] = json.dumps(mutated(json.loads(lines[number]), luck))
        file.write_text("\n".join(lines) + "\n")
    else:
        file.write_text(json.dumps(mutated(json.loads(content), luck)))


def mutated(content: Any, luck: random.Random) -> Any:
    """The content with one value replaced, removed or added, at any depth."""
    content = copy.deepcopy(content)
    node = content
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return luck.choice(JUNK)
        key = luck.choice(keys)
        if isinstance(node[key], dict | list) and node[key] and luck.random() < 0.8:
            node = node[key]
            continue
        if isinstance(node, dict) and luck.random() < 0.2:
            del node[key]
        elif isinstance(node, dict) and luck.random() < 0.1:
            node["added"] = luck.choice(JUNK)
        else:
            node[key] = luck.choice(JUNK)
        return content


def readers(folder: Path, file: str) -> list[Callable[[], object]]:
    """What reads the stored files. Composing takes longest: only what reads config.yaml or run.json composes."""
    run, sweep = RunFolder(folder / "run"), SweepFolder(folder / "sweep")
    references = {line["id"]: line["reference"] for line in map(json.loads, _lines(RUN)[1:])}
    header = json.loads(_lines(RUN)[0])["header"]
    composing = [
        lambda: stored.with_class_defaults(stored.completed(run)),
        lambda: stored.for_task({"task": "evaluate", "run_dir": str(run.path)}, []),
    ]
    return [
        *(composing if file in ("run/config.yaml", "run/run.json") else []),
        run.facts,
        run.config,
        run.finished,
        lambda: table_of(metrics_path(run.path)),
        lambda: progress_of(run.path),
        lambda: read_nearest(run.path / "nearest.json", data_hash="", compared=1),
        lambda: read_predictions(run.path / "predictions" / "test.greedy.jsonl", header, references),
        lambda: read_sources([str(run.path)], split=None, rescore=False),
        lambda: read_sources([str(run.path)], split="test", rescore=True),
        lambda: Checkpoints(run.path, keep=1).state("last"),
        lambda: sweep_lines(sweep.read(), most=None),
        lambda: write_results(sweep, sweep.read()),
        lambda: run.record(status="stopped"),
        lambda: write_page(run.path),
        lambda: forget_after(run.path / "train.jsonl", TrainState(step=3)),
    ]


def _lines(run: Path) -> list[str]:
    return (run / "predictions" / "test.greedy.jsonl").read_text(encoding="utf-8").splitlines()


def check(folder: Path, file: str, what: str) -> None:
    for read in readers(folder, file):
        try:
            read()
        except UserError as error:
            message = str(error)
            assert message.count("\n") <= 4, message
            assert len(message) < 1500, message
            assert "Traceback" not in message, message
            message.encode()
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error


@pytest.mark.parametrize("file", FILES)
def test_an_edited_file_is_read_or_refused_in_one_line(file: str, folder: Path, seed: int):
    check_edits(folder, file, seed, 6)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_many_edited_files_are_read_or_refused_in_one_line(file: str, folder: Path, seed: int):
    check_edits(folder, file, seed, MANY // len(FILES))


def check_edits(folder: Path, file: str, seed: int, times: int) -> None:
    luck, whole = random.Random(f"{seed} {file}"), {name: (folder / name).read_bytes() for name in FILES}
    for number in range(times):
        for name, content in whole.items():
            (folder / name).write_bytes(content)
        edit(folder / file, luck)
        edited = (folder / file).read_bytes()
        check(folder, file, f"edit {number} of {file} with seed {seed}, {edited[:2000]!r}")


@pytest.mark.parametrize("file", FILES)
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(file: str, folder: Path):
    (folder / file).unlink()
    os.mkfifo(folder / file)
    check(folder, file, f"a pipe as {file}")
