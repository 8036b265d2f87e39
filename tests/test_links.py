"""No command follows a link in a place where it writes: the link is refused by name, and nothing elsewhere changes."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import forked_run
import pytest
from mimic_tree import write_tree
from run_in_process import run_in_process
from smallest_run import ROOT, SMALLEST
from tiers import fast_only

from r2gen.data.image_check import cache_file, check_images
from r2gen.errors import UserError
from r2gen.runs.files import append, make_folder, new_file, open_lock, write_whole
from r2gen.runs.folder import RunFolder
from r2gen.sweeps.record import JobRecord, SweepFolder, SweepRecord

GOLDEN = next((ROOT / "tests" / "golden" / "run_of_the_version_before").glob("train-*"))
LINKS = ("checkpoints/last", "checkpoints/best")  # links that a run has
OF_THE_RUN = sorted(str(path.relative_to(GOLDEN)) for path in GOLDEN.rglob("*"))
MORE = [".lock", "report.html", "evaluate.yaml", "export.yaml", "metrics.beam3.json", "wandb", "export", "new/folder"]
PLACES = [place for place in (*OF_THE_RUN, *MORE) if place not in LINKS]
FOLDERS = {"checkpoints", "predictions", "tokenizer", "wandb", "export", "logs", "slurm", "lm", "new/folder"}


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file; the test fails if either has changed at its end."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "precious").write_text("precious")
    before = snapshot(folder)
    yield folder
    assert snapshot(folder) == before


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """The content of each file below a folder; None for a folder."""
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


def replace_by_link(path: Path, elsewhere: Path, *, is_folder: bool) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(elsewhere if is_folder else elsewhere / "precious")


def is_folder(place: str) -> bool:
    return place in FOLDERS or (GOLDEN / place).is_dir()


def refuses(link: Path, *words: str, cwd: Path) -> None:
    status, output = run_in_process(*words, cwd=cwd)
    assert status == 2, output
    assert output.startswith("error: "), output
    assert link.name in output
    assert output.count("\n") == 1


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return shutil.copytree(GOLDEN, tmp_path / "run", symlinks=True)


@pytest.mark.parametrize(
    "place", fast_only(PLACES, ".lock", "predictions", "report.html", "predictions/val.greedy.jsonl")
)
def test_a_link_in_a_run_folder_is_refused(place: str, run: Path, elsewhere: Path, tmp_path: Path):
    replace_by_link(run / place, elsewhere, is_folder=is_folder(place))
    refuses(run / place, "task=evaluate", "run_dir=run", cwd=tmp_path)


@pytest.mark.parametrize("target", ["../../elsewhere", "{elsewhere}"])
@pytest.mark.parametrize("name", LINKS)
def test_a_checkpoint_elsewhere_is_refused(name: str, target: str, run: Path, elsewhere: Path, tmp_path: Path):
    (run / name).unlink()
    (run / name).symlink_to(target.format(elsewhere=elsewhere))
    refuses(run / name, "task=export", "run_dir=run", cwd=tmp_path)


def test_a_dangling_link_makes_no_file(run: Path, elsewhere: Path, tmp_path: Path):
    (run / ".lock").symlink_to(elsewhere / "new")
    refuses(run / ".lock", "task=export", "run_dir=run", cwd=tmp_path)


def test_the_links_of_a_run_and_of_wandb_are_accepted(run: Path):
    (run / "wandb" / "offline-run-1").mkdir(parents=True)
    (run / "wandb" / "latest-run").symlink_to("offline-run-1")
    folder = RunFolder(run)
    folder.lock()
    folder.unlock()


def test_a_lock_with_a_second_name_is_refused(run: Path, elsewhere: Path, tmp_path: Path):
    os.link(elsewhere / "precious", run / ".lock")
    refuses(run / ".lock", "task=export", "run_dir=run", cwd=tmp_path)


@pytest.mark.parametrize("place", ["model.safetensors", "lm", "README.md", "lm/config.json"])
def test_a_link_in_an_exported_folder_is_refused(place: str, run: Path, elsewhere: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.safetensors").touch()
    replace_by_link(tmp_path / "out" / place, elsewhere, is_folder=is_folder(place))
    refuses(tmp_path / "out" / place, "task=export", "run_dir=run", "out=out", cwd=tmp_path)


SWEEP = (
    "logs",
    "logs/000.log",
    "logs/000.failure.json",
    "slurm",
    ".lock",
    "multirun.yaml",
    "optuna.db",
    "optuna.db-journal",
)
RESULTS = ("table.md", "table.csv", "sweep.html")


@pytest.mark.parametrize("place", fast_only((*SWEEP, *RESULTS), "logs", "table.md"))
def test_a_link_in_the_folder_of_a_sweep_is_refused(place: str, elsewhere: Path, tmp_path: Path):
    sweep = SweepFolder(tmp_path / "sweep")
    (sweep.path / "logs").mkdir(parents=True)
    sweep.write(SweepRecord("jobs", "", [], "now", jobs=[JobRecord(0, ["seed=1"])]))
    replace_by_link(sweep.path / place, elsewhere, is_folder=is_folder(place))
    refuses(sweep.path / place, "-m", "seed=1,2", "hydra.sweep.dir=sweep", *SMALLEST, cwd=tmp_path)
    if place in RESULTS:
        refuses(sweep.path / place, "task=status", "sweep=sweep", cwd=tmp_path)


@pytest.mark.parametrize(
    ("task", "place"),
    [
        ("audit", "audit.json"),
        *(("compare", name) for name in ("comparison.json", "table.csv", "table.tex", "compare.html")),
    ],
)
def test_a_link_in_the_folder_of_results_is_refused(task: str, place: str, elsewhere: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "comparison.json").touch()
    replace_by_link(tmp_path / "out" / place, elsewhere, is_folder=False)
    words = ["runs=[nowhere.csv]"] if task == "compare" else ["data.train_studies=2"]
    refuses(tmp_path / "out" / place, f"task={task}", *words, "out=out", cwd=tmp_path)


@pytest.mark.parametrize("place", ["annotation.json", "annotation.provenance.json", "sub"])
def test_a_link_in_prepared_data_is_refused(place: str, elsewhere: Path, tmp_path: Path):
    write_tree(tmp_path / "data", patients=2)
    replace_by_link(tmp_path / "data" / place, elsewhere, is_folder=place == "sub")
    annotation = "sub/annotation.json" if place == "sub" else "annotation.json"
    words = ("task=prepare", "data=mimic_cxr", "data.root=data", f"data.annotation={annotation}", "fresh=true")
    refuses(tmp_path / "data" / place, *words, cwd=tmp_path)


@pytest.mark.parametrize("whole", [True, False])
def test_a_linked_cache_is_refused(whole: bool, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = cache_file(tmp_path)
    replace_by_link(file.parent if whole else file, elsewhere, is_folder=whole)
    with pytest.raises(UserError, match="is a symbolic link"):
        check_images({}, tmp_path, annotation=tmp_path, decode=True)


def test_every_function_that_writes_refuses_a_link(elsewhere: Path, tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to(elsewhere / "precious")
    for write in (
        lambda: write_whole(link, "x"),
        lambda: new_file(link),
        lambda: append(link, b"x"),
        lambda: open_lock(link),
        lambda: make_folder(link),
    ):
        with pytest.raises(UserError, match=f"{link} is a symbolic link, and R2Gen follows none where it writes"):
            write()


def test_a_second_name_of_a_file_keeps_its_content(elsewhere: Path, tmp_path: Path):
    name = tmp_path / "name"
    for write in (lambda: write_whole(name, "x"), lambda: new_file(name).close()):
        name.unlink(missing_ok=True)
        os.link(elsewhere / "precious", name)
        write()


@pytest.mark.slow
@pytest.mark.parametrize("task", ["train", "evaluate", "export", "check"])
def test_a_run_of_second_names_changes_no_other_run(task: str, elsewhere: Path, tmp_path: Path):
    """As `cp -al` makes one. Every file that the task has written, by then, has another name elsewhere."""
    words = {
        "train": ["run_dir=run", "trainer.epochs=2", "evaluate.every=1"],
        "evaluate": ["task=evaluate", "run_dir=run", "generation.max_new_tokens=4"],
        "export": ["task=export", "run_dir=run", "out=out"],
        "check": ["task=check", "run_dir=checked"],
    }[task]
    assert forked_run.run("run_dir=run", "trainer.epochs=1", cwd=tmp_path).returncode == 0
    own = task in ("evaluate", "export")
    assert forked_run.run(*words, cwd=tmp_path, smallest=not own).returncode == 0
    if task == "train":
        words = ["run_dir=run", "trainer.epochs=3", "evaluate.every=1"]
    outside = tmp_path / "outside"
    for name in ("run", "out", "checked"):
        if (tmp_path / name).exists():
            shutil.copytree(tmp_path / name, outside / name, symlinks=True, copy_function=os.link)
            (tmp_path / name / ".lock").unlink(missing_ok=True)
    before = snapshot(outside)
    done = forked_run.run(*words, cwd=tmp_path, smallest=not own)
    assert done.returncode == 0, done.stdout + done.stderr
    assert snapshot(outside) == before


@pytest.mark.slow
def test_every_place_that_a_training_has_written_refuses_a_link(elsewhere: Path, tmp_path: Path):
    """The places are those that the run has in the end, the page and the files of an evaluation included."""
    assert forked_run.run("run_dir=whole", cwd=tmp_path).returncode == 0
    assert forked_run.run("task=evaluate", "run_dir=whole", cwd=tmp_path, smallest=False).returncode == 0
    whole = tmp_path / "whole"
    places = [path.relative_to(whole) for path in sorted(whole.rglob("*")) if not path.is_symlink()]
    assert len(places) > 15
    for place in places:
        run = shutil.copytree(whole, tmp_path / "run", symlinks=True)
        replace_by_link(run / place, elsewhere, is_folder=(whole / place).is_dir())
        refuses(run / place, *SMALLEST, "run_dir=run", "fresh=true", cwd=tmp_path)
        refuses(run / place, "task=evaluate", "run_dir=run", cwd=tmp_path)
        shutil.rmtree(run)
