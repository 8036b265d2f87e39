"""Runs from the command to their scores: resumed, refused, killed and stopped. Each one is a process with a rank."""

import functools
import json
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import smallest_run
import timm
import yaml
from forked_run import ForkedProcess, run, start
from PIL import Image
from safetensors.torch import save_file
from same_runs import same_result, weights
from tiers import fast_only

from r2gen import load_run
from r2gen.runs import provenance

EPOCHS = 4
UNBROKEN = ("trainer.epochs=4", "evaluate.every=1", "trainer.save_every_steps=1", "run_dir=run")
STEPS = 48 * EPOCHS // 8


def facts(run_dir: Path) -> dict:
    return json.loads((run_dir / "run.json").read_text())


def end_when(process: ForkedProcess, number: int, seen: Callable[[], bool]) -> int:
    """Send a signal to the whole process tree's head once something is seen; gives the exit status."""
    deadline = time.monotonic() + 600
    while not seen():
        assert process.poll() is None, f"the run ended before it could be stopped: {process.completed()}"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    return process.wait()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four epochs that nothing interrupted, of a Python of its own; METEOR's Java scores it too."""
    folder = tmp_path_factory.mktemp("unbroken")
    done = smallest_run.run(*UNBROKEN, "metrics=[bleu,cider,meteor]", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "stdout").write_text(done.stdout)
    return folder / "run"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    assert run(*UNBROKEN, cwd=folder).returncode == 0
    return folder / "run"


def test_a_run_writes_all_its_files_for_its_owner_alone(unbroken: Path):
    for name in (
        "config.yaml",
        "run.json",
        "train.jsonl",
        "metrics.json",
        "report.html",
        "checkpoints/best/state.json",
        "predictions/test.greedy.jsonl",
        "predictions/val.greedy.jsonl",
    ):
        assert (unbroken / name).is_file(), name
    assert stat.S_IMODE(unbroken.stat().st_mode) == 0o700
    assert facts(unbroken)["status"] == "finished"
    assert facts(unbroken)["peak_memory_gib"] > 0.1
    steps = [json.loads(line) for line in (unbroken / "train.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if line["event"] == "step"] == list(range(1, STEPS + 1))
    checkpoints = {path.name for path in (unbroken / "checkpoints").glob("step-*")}
    assert len(checkpoints) <= 3


def test_the_table_has_baselines_and_meteor(unbroken: Path):
    split = json.loads((unbroken / "metrics.json").read_text())["splits"]["test"]
    systems = split["systems"]
    assert split["intervals"].keys() == systems.keys()
    for intervals in split["intervals"].values():
        assert set(intervals) == {
            "bleu_1",
            "bleu_2",
            "bleu_3",
            "bleu_4",
            "cider",
            "meteor",
            "findings_f1",
            "findings_precision",
            "findings_recall",
        }
    assert set(systems) == {"model", "constant", "random", "nearest", "shuffled"}
    assert set(systems["model"]) >= {"bleu_1", "bleu_4", "cider", "meteor", "findings_f1"}
    table = (unbroken.parent / "stdout").read_text()
    assert all(word in table for word in (*systems, "bleu_4", "generated ", "reference", "report.html", "next:"))


def test_a_forked_run_has_the_weights_of_a_run_of_its_own_python(unbroken: Path, plain: Path):
    """The other tests rely on it."""
    assert all(weights(unbroken, name) == weights(plain, name) for name in ("last", "best"))


def test_the_same_command_again_shows_the_table_and_trains_nothing(plain: Path):
    before = weights(plain, "last")
    done = run(*UNBROKEN, cwd=plain.parent)
    assert done.returncode == 0
    assert "is finished" in done.stdout
    assert "constant" in done.stdout
    assert "step " not in done.stdout
    assert weights(plain, "last") == before


def test_another_configuration_in_the_folder_is_refused_with_the_difference(plain: Path):
    done = run(*UNBROKEN, "trainer.learning_rate=0.5", cwd=plain.parent)
    assert done.returncode == 2
    assert "trainer.learning_rate: 0.001 -> 0.5" in done.stderr
    assert facts(plain)["status"] == "finished"


def test_fewer_epochs_than_trained_are_refused(plain: Path):
    done = run(*UNBROKEN, "trainer.epochs=1", cwd=plain.parent)
    assert done.returncode == 2
    assert "trainer.epochs" in done.stderr
    assert facts(plain)["status"] == "finished"
    assert '"status":"finished"' in (plain / "report.html").read_text()
    assert "is finished" in run(*UNBROKEN, cwd=plain.parent).stdout


def test_fresh_gives_the_same_result_again(plain: Path, tmp_path: Path):
    subprocess.run(["cp", "-a", str(plain), str(tmp_path / "run")], check=True)
    (tmp_path / "run" / "leftover").write_text("of the first run")
    done = run(*UNBROKEN, "fresh=true", cwd=tmp_path)
    assert done.returncode == 0
    assert not (tmp_path / "run" / "leftover").exists()
    assert same_result(plain, tmp_path / "run")


@pytest.mark.parametrize("number", fast_only([signal.SIGTERM, signal.SIGINT, signal.SIGHUP], signal.SIGHUP))
def test_a_run_stopped_by_a_signal_exits_with_status_3_and_resumes(number: int, plain: Path, tmp_path: Path):
    process = start(*UNBROKEN, cwd=tmp_path)
    log = tmp_path / "run" / "train.jsonl"
    status = end_when(process, number, lambda: log.is_file() and log.read_text().count('"step"') > 5)
    assert status == 3
    assert facts(tmp_path / "run")["status"] == "stopped"
    assert (tmp_path / "run" / "checkpoints" / "last" / "state.json").is_file()
    assert run(*UNBROKEN, cwd=tmp_path).returncode == 0
    assert same_result(plain, tmp_path / "run")


@pytest.mark.slow  # test_kills.py kills in the fast tier
def test_a_run_killed_in_training_resumes_to_the_same_result(plain: Path, tmp_path: Path):
    process = start(*UNBROKEN, cwd=tmp_path)
    log = tmp_path / "run" / "train.jsonl"
    end_when(process, signal.SIGKILL, lambda: log.is_file() and log.read_text().count('"step"') > 9)
    assert run(*UNBROKEN, cwd=tmp_path).returncode == 0
    assert same_result(plain, tmp_path / "run")


def test_two_epochs_and_two_more_equal_four(tmp_path: Path):
    """With a constant rate: a cosine over two epochs is another schedule than one over four."""
    steady = ("trainer.schedule=constant", "evaluate.every=1")
    assert run(*steady, "trainer.epochs=4", "run_dir=once", cwd=tmp_path).returncode == 0
    assert run(*steady, "trainer.epochs=2", "run_dir=twice", cwd=tmp_path).returncode == 0
    done = run(*steady, "trainer.epochs=4", "run_dir=twice", cwd=tmp_path)
    assert "resuming from step 12 of 24" in done.stdout
    assert same_result(tmp_path / "once", tmp_path / "twice")


def test_a_finished_run_is_evaluated_again_and_writes_reports(plain: Path, tmp_path: Path):
    own = (plain / "metrics.json").read_text()
    evaluate = ("task=evaluate", "run_dir=run", "evaluate.splits=[val]")
    done = run(*evaluate, "generation=beam3", "generation.max_new_tokens=9", cwd=plain.parent, smallest=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (plain / "predictions" / "val.beam3.jsonl").is_file()
    assert json.loads((plain / "metrics.beam3.json").read_text())["made_by"]["generation"]["max_new_tokens"] == 9
    assert (plain / "metrics.json").read_text() == own, "the run's own scores are untouched"
    done = run(*evaluate, cwd=plain.parent, smallest=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((plain / "metrics.json").read_text())["splits"] == json.loads(own)["splits"], (
        "test is still there"
    )

    images = [tmp_path / name for name in ("a.png", "b.png")]
    for image in images:
        Image.new("L", (50, 40), 90).save(image)
    done = run("task=generate", "run_dir=run", f"images=[{images[0]},{images[1]}]", cwd=plain.parent, smallest=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].strip() == load_run(plain).generate(images)


def test_a_run_stored_before_a_key_existed_is_evaluated_shown_and_loaded(plain: Path, tmp_path: Path):
    subprocess.run(["cp", "-a", str(plain), str(tmp_path / "run")], check=True)
    file = tmp_path / "run" / "config.yaml"
    stored = yaml.safe_load(file.read_text())
    for name in (
        "lm.family",
        "lm.compile",
        "lm.packed",
        "lm.device_map",
        "lm.prompt.message",
        "tune.lm",
        "quant",
        "checkpoint",
        "out",
        "prepare",
        "trainer.max_report_tokens",
        "trainer.weight_decay_on",
        "evaluate.reference",
        "data.version",
        "data.seed",
    ):
        *groups, key = name.split(".")
        functools.reduce(dict.__getitem__, groups, stored).pop(key)
    before = yaml.safe_dump(stored, sort_keys=False)
    file.write_text(before)
    done = run(*UNBROKEN, cwd=tmp_path)
    assert "is finished" in done.stdout, done.stderr
    done = run(*UNBROKEN, "lm.compile=true", "evaluate.page_studies=3", cwd=tmp_path)
    assert "lm.compile: false -> true" in done.stderr
    assert "page_studies" not in done.stderr
    done = run("task=evaluate", "run_dir=run", "evaluate.splits=[val]", cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stderr
    load_run(tmp_path / "run")
    assert file.read_text() == before, "nothing stored is changed"


def test_lm_packed_decides_whether_studies_may_share_a_row(plain: Path, tmp_path: Path):
    folder = Path(shutil.copytree(plain, tmp_path / "run", symlinks=True))
    stored = yaml.safe_load((folder / "config.yaml").read_text())
    packs = []
    for stored["lm"]["packed"] in (True, False):
        (folder / "config.yaml").write_text(yaml.safe_dump(stored, sort_keys=False))
        packs.append(load_run(folder, device="cpu").model.lm.packs)  # type: ignore[attr-defined]
    assert packs == [None, False]


def test_a_mistake_found_before_training_can_be_fixed_in_the_same_folder(tmp_path: Path):
    (tmp_path / "empty").mkdir()  # what is in vision.path is seen by a rank
    assert run("run_dir=run", "vision.path=empty", cwd=tmp_path).returncode == 2
    stored = facts(tmp_path / "run")
    assert (stored["status"], stored["code"], stored["phase"]) == ("failed", "weights.missing", "build")
    assert "empty contains none of" in stored["reason"]
    assert run("run_dir=run", "trainer.max_steps=1", cwd=tmp_path).returncode == 0


def test_other_weights_under_the_same_path_are_another_configuration(tmp_path: Path):
    weights = tmp_path / "swin" / "model.safetensors"
    weights.parent.mkdir()
    shape = {"embed_dim": 8, "depths": [1], "num_heads": [1], "img_size": 32}
    swin = timm.create_model("swin_tiny_patch4_window7_224", num_classes=0, **shape)
    save_file(swin.state_dict(), weights)
    overrides = [
        "vision=swin_tiny",
        "vision.path=swin",
        "vision.image_size_px=32",
        "trainer.max_steps=1",
        "run_dir=run",
    ]
    overrides.append("vision.model_args={embed_dim: 8, depths: [1], num_heads: [1], img_size: 32}")
    done = run(*overrides, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    state = swin.state_dict()
    state["norm.bias"] = state["norm.bias"] + 1
    save_file(state, weights)
    done = run(*overrides, cwd=tmp_path)
    assert done.returncode == 2
    assert "vision.path: the files have changed" in done.stderr


def test_a_digest_depends_on_names_sizes_and_parts_of_large_files(tmp_path: Path):
    size = 100 * provenance.PIECE
    contents = {"a.safetensors": bytes(size), "config.json": b"{}", "tokenizer.json": bytes(size), "notes.md": b""}
    changed = {
        "a.safetensors": [bytes(size + 1), b"1" + bytes(size - 1), bytes(size - 1) + b"1"],
        "config.json": [b"[]"],
        "tokenizer.json": [bytes(size // 2) + b"1" + bytes(size // 2 - 1)],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    first = provenance.files_hash(tmp_path)
    for name, others in changed.items():
        for other in others:
            (tmp_path / name).write_bytes(other)
            assert provenance.files_hash(tmp_path) != first, name
        (tmp_path / name).write_bytes(contents[name])
    (tmp_path / "notes.md").write_bytes(b"read")
    assert provenance.files_hash(tmp_path) == first
    (tmp_path / "config.json").rename(tmp_path / "other.json")
    assert provenance.files_hash(tmp_path) != first


def test_a_second_command_on_a_busy_folder_is_refused(tmp_path: Path):
    process = start(*UNBROKEN, cwd=tmp_path)
    try:
        while not (tmp_path / "run" / "run.json").is_file():
            assert process.poll() is None, process.completed().stderr
            time.sleep(0.01)
        done = run(*UNBROKEN, cwd=tmp_path)
        assert done.returncode == 2
        assert "in use" in done.stderr
    finally:
        process.kill()
        process.wait()
