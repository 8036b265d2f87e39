"""A search learns from its jobs' validations, prunes bad trials, and resumes from its storage after a kill.

A trial is a run folder with train.jsonl, as a training writes it. The jobs of the pruning test are small scripts.
"""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from composed import composed
from forked_run import run
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from smallest_run import ROOT

from r2gen.config.compose import prepare_hydra
from r2gen.errors import STOPPED, UserError
from r2gen.runs.provenance import now
from r2gen.sweeps.cells import Cell
from r2gen.sweeps.leases import Lease
from r2gen.sweeps.pool import Pool, exit_status
from r2gen.sweeps.record import JobRecord, SweepFolder, SweepRecord
from r2gen.sweeps.search import Search, Space
from r2gen.sweeps.slots import LocalJob

SPACE = ["lm=tiny", "trainer.learning_rate=tag(log, interval(1e-4, 1e-1))", "projector=linear,mlp"]


def space(*overrides: str) -> Space:
    return Space.of(OverridesParser.create().parse_overrides(list(overrides or SPACE)))


def search(folder: Path, *, of: Space | None = None, n_trials: int = 12, random_trials: int = 2) -> Search:
    return Search(folder, of or space(), n_trials=n_trials, batch=1, seed=0, random_trials=random_trials, prune_after=0)


def trained(folder: Path, name: str, selections: list[float], *, steps: int = 9) -> Path:
    """The files of a training that a search reads."""
    run_dir = folder / name
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "run.json").write_text(
        json.dumps({"format": 1, "git": {}, "status": "running", "overrides": [], "steps": steps})
    )
    rows = [{"event": "validation", "step": number, "selection": value} for number, value in enumerate(selections)]
    (run_dir / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run_dir


def job(number: int, run_dir: Path, state: str = "done") -> JobRecord:
    return JobRecord(number, [], run_dir=str(run_dir), state=state)


def value_of(overrides: list[str]) -> float:
    """A score that is the larger, the nearer learning_rate is to .01."""
    rate = float(next(text for text in overrides if "learning_rate" in text).partition("=")[2])
    return 1 - abs(rate - 0.01)


def test_a_search_is_resumed_from_its_storage_and_finds_better_than_the_default(tmp_path: Path):
    first = search(tmp_path)
    first.begin({"trainer.learning_rate": 1e-4, "projector": "linear"})
    seen = []
    for number in range(4):
        (overrides,) = first.next_batch()
        seen.append(overrides)
        run_dir = trained(tmp_path, str(number), [0.1, value_of(overrides)])
        assert first.record([job(number, run_dir)])
    assert seen[0] == ["lm=tiny", "trainer.learning_rate=0.0001", "projector=linear"]
    (killed,) = first.next_batch()  # and its command is killed here

    second = search(tmp_path)
    second.begin({"trainer.learning_rate": 1e-4, "projector": "linear"})
    assert second.count_ended() == 4
    (again,) = second.next_batch()
    assert again == killed
    assert not second.record([job(4, tmp_path / "4", "stopped")])

    third = search(tmp_path)
    third.begin(None)
    assert third.count_ended() == 4
    while batch := third.next_batch():
        number = third.count_ended()
        assert number != 4 or batch == [killed]
        assert third.record([job(number, trained(tmp_path, str(number), [value_of(batch[0])]))])
    assert third.count_ended() == 12
    lines = third.result().splitlines()
    assert lines[0] == "search: 12 of 12 trials (12 complete)"
    best, default = (float(line.split()[1]) for line in lines[1:3])
    assert best > default == pytest.approx(1 - 0.0099, abs=1e-4)
    assert search(tmp_path, n_trials=13).next_batch()
    with pytest.raises(UserError, match="a search of another space"):
        search(tmp_path, of=space("seed=1,2"))


def test_a_job_below_the_median_is_pruned_with_its_reason(tmp_path: Path):
    running = search(tmp_path)
    running.begin(None)
    for number in range(3):
        running.next_batch()
        running.record([job(number, trained(tmp_path, str(number), [0.5, 0.6, 0.7]))])
    running.next_batch()
    where = SweepFolder(tmp_path / "sweep")
    where.create()
    run_dir = trained(tmp_path, "3", [0.1])
    pruned = JobRecord(3, ["seed=3"], task="train", run_dir=str(run_dir))

    class Script:
        def start(self, config, command, log, *, running):
            saves = "import signal, time; signal.signal(15, lambda *_: exit(3)); time.sleep(60)"
            return LocalJob([sys.executable, "-c", saves], log, {}, Lease([], ExitStack(), ()))

    cells = {3: Cell(["seed=3"], ["seed=3"], config=composed(), task="train")}
    record = SweepRecord("search", "python run.py", [], now(), jobs=[pruned])
    pool = Pool(where, record, cells, slots=Script(), shared=[], show=lambda record: None, pruner=running.prune_reason)
    pool.run()
    assert pruned.state == "pruned"
    assert pruned.reason == "at validation 1 its score 0.100 was below the other trials' median"
    assert where.read().jobs[0].state == "pruned"
    assert exit_status([pruned]) not in (STOPPED, 1, 2)
    assert running.record([pruned])
    assert "1 pruned" in running.result()


def test_a_good_job_or_one_at_its_last_step_is_not_pruned(tmp_path: Path):
    running = search(tmp_path)
    running.begin(None)
    for number in range(3):
        running.next_batch()
        running.record([job(number, trained(tmp_path, str(number), [0.5, 0.6]))])
    running.next_batch()
    assert running.prune_reason(job(3, tmp_path / "not there yet", "running")) is None
    assert running.prune_reason(job(3, trained(tmp_path, "3", [0.9]), "running")) is None
    assert running.prune_reason(job(3, trained(tmp_path, "3", [0.9, 0.1], steps=1), "running")) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed=1", "nothing to search"),
        ("trainer.epochs=tag(log, interval(0, 1))", "trainer.epochs=tag"),
        ("trainer.epochs=range(3, 3)", "trainer.epochs=range"),
    ],
)
def test_an_empty_space_is_refused_by_name(text: str, message: str):
    with pytest.raises(UserError, match=message):
        space(text)


def test_the_defaults_are_the_first_trial_if_the_space_contains_them():
    prepare_hydra()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        node = compose("config", return_hydra_config=True)
    wide = space(
        "trainer.learning_rate=interval(0.0001, 0.1)",
        "projector=choice(linear,mlp)",
        "seed=range(0,5)",
        "trainer.shuffle=true,false",
        "trainer.warmup_steps=int(interval(0, 60))",
    )
    assert wide.defaults(node) == {
        "trainer.learning_rate": 1e-3,
        "projector": "linear",
        "seed": 0,
        "trainer.shuffle": "True",
        "trainer.warmup_steps": 50,
    }
    assert space("seed=interval(5, 6)").defaults(node) is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hydra.sweeper.n_trials=x", "seed=1,2"], "hydra.sweeper.n_trials=x: give a whole number of at least 1"),
        (["trainer.nope=interval(0, 1)"], "unknown option trainer.nope: did you mean trainer.nodes?"),
        (["hydra.sweeper.direction=minimize", "seed=1,2"], "unknown option hydra.sweeper.direction"),
        (["seed=range(3, 3)"], "seed=range(3, 3): this range is empty"),
    ],
)
def test_a_mistake_in_a_search_is_one_message_and_no_trial(overrides: list[str], message: str, tmp_path: Path):
    done = run("-m", "hydra/sweeper=optuna", *overrides, cwd=tmp_path, smallest=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert not list(tmp_path.iterdir())


def test_a_search_file_without_its_sweeper_names_the_missing_option(tmp_path: Path):
    done = run("+sweeps=optuna_phantom", cwd=tmp_path, smallest=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "add hydra/sweeper=optuna" in done.stderr


@pytest.mark.parametrize("name", [file.stem for file in (ROOT / "sweeps").glob("optuna_*.yaml")])
def test_every_search_file_states_one_question_and_composes(name: str, tmp_path: Path):
    header = (ROOT / "sweeps" / f"{name}.yaml").read_text().split("\ndefaults:")[0]
    assert "?\n" in header
    assert f"# Command:  python run.py +sweeps={name} hydra/sweeper=optuna" in header
    assert "# Cost: " in header
    done = run(f"+sweeps={name}", "hydra/sweeper=optuna", "task=compose", "lm.path=/nope", cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stderr
    assert "trainer.learning_rate" in done.stdout
    assert not list(tmp_path.iterdir()), "nothing was started or made"


def test_a_damaged_storage_or_one_with_a_second_name_is_refused(tmp_path: Path):
    (tmp_path / "optuna.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(UserError, match=r"optuna\.db cannot be read: .*file is not a database\. Put back"):
        search(tmp_path)
    (tmp_path / "optuna.db").unlink()
    (tmp_path / "other.db").touch()
    (tmp_path / "optuna.db").hardlink_to(tmp_path / "other.db")
    with pytest.raises(UserError, match="has a second name"):
        search(tmp_path)
    assert (tmp_path / "other.db").read_bytes() == b""
