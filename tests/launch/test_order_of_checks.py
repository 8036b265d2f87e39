"""What a command cannot write, or cannot mean, is refused before any work; nothing is made."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import timm
from run_in_process import run_in_process
from smallest_run import ROOT

from r2gen.launch.parts_check import _timm_models

GOLDEN = next((ROOT / "tests" / "golden" / "run_of_the_version_before").glob("train-*"))
# Each of these would be refused for what it reads (nowhere, broken) or start a rank, were its folder not checked first.
UNUSABLE = {
    "out": [
        ["task=compare", "runs=[nowhere]"],
        ["task=audit", "data=iu_xray", "data.root=broken"],
        ["task=export", "run_dir=run"],
    ],
    "run_dir": [
        ["data=iu_xray", "data.root=broken"],
        ["fresh=true"],
        ["task=check"],
        ["task=import", "checkpoint=nowhere", "vision.path=nowhere", "lm.path=nowhere"],
    ],
    "hydra.sweep.dir": [["-m", "seed=1,2"], ["-m", "hydra/sweeper=optuna", "seed=choice(1,2)"]],
}
FOLDERS = ("file", "file/below", "/proc/below", "strange")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "thesis.doc").touch()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "annotation.json").write_text("{")
    shutil.copytree(GOLDEN, tmp_path / "run", symlinks=True)
    return tmp_path


@pytest.mark.parametrize("place", FOLDERS)
@pytest.mark.parametrize(
    ("option", "words"), [(option, words) for option, commands in UNUSABLE.items() for words in commands]
)
def test_an_unusable_folder_is_refused_before_the_work(option: str, words: list[str], place: str, folder: Path):
    refused(folder, [*words, f"{option}={place}"], f"{option}={Path(folder, place)}")


@pytest.mark.parametrize(
    ("words", "made", "message"),
    [
        (
            ["task=compare", "runs=[nowhere]", "out=out"],
            ["comparison.json", "compare.html/x"],
            "compare.html is a folder",
        ),
        (["task=audit", "out=out"], ["audit.json/x"], "audit.json is a folder"),
        (["task=evaluate", "run_dir=out"], ["run.json", "report.html/x"], "report.html is a folder"),
        (["-m", "seed=1,2", "hydra.sweep.dir=out"], ["sweep.json", "sweep.html/x"], "sweep.html is a folder"),
        (["-m", "seed=1,2", "hydra.sweep.dir=out"], ["sweep.json", "logs"], "logs is a file"),
    ],
)
def test_a_folder_in_the_place_of_a_file_is_refused_before_the_work(
    words: list[str], made: list[str], message: str, folder: Path
):
    shutil.copytree(folder / "run", folder / "out", symlinks=True)
    for name in made:
        (folder / "out" / name).parent.mkdir(exist_ok=True)
        if not (folder / "out" / name).exists():
            (folder / "out" / name).touch()
    refused(folder, words, message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lm=llama2"], "lm.path=meta-llama/Llama-2-7b-chat-hf is neither a folder nor in the local hub cache"),
        (["lm=llama2", "lm.path=strange"], "lm.path: .*strange has no config.json"),
        (["lm=llama2", "lm.path=qwen"], "lm.family=llama, but .*config.json says model_type=qwen2"),
        (["lm=qwen2", "lm.path=qwen"], "lm.path: .*qwen has no weights"),
        (["task=check", "lm=llama2"], "lm.path=meta-llama/Llama-2-7b-chat-hf is neither a folder"),
        (["vision=swin_base"], "vision.path=timm/swin_base.* is neither a folder nor in the local hub cache"),
        (["vision.path=./nowhere"], "vision.path=./nowhere does not exist"),
        (
            ["metrics=[sacrebleu]", "evaluate.best=sacrebleu"],
            "metrics=sacrebleu: the package sacrebleu is not installed",
        ),
        (
            ["metrics=[change]", "data.val_studies=8"],
            r"evaluate\.best: change_f1 has no value, since no reference of the 8 validation studies states",
        ),
        (
            ["data=iu_xray", "data.root=five_views", "data.check=none"],
            "the study e of test has 5 images, and vision.max_views=4. Pass vision.max_views=5",
        ),
    ],
)
def test_what_a_run_lacks_is_reported_before_a_rank_starts_or_a_folder_is_made(
    words: list[str], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    (folder / "qwen").mkdir()
    (folder / "qwen" / "config.json").write_text('{"model_type": "qwen2"}')
    (folder / "five_views").mkdir()
    studies = {
        split: [{"id": id, "report": "no effusion .", "image_path": [f"{id}{view}.png" for view in range(views)]}]
        for split, id, views in (("train", "a", 1), ("val", "b", 2), ("test", "e", 5))
    }
    (folder / "five_views" / "annotation.json").write_text(json.dumps(studies))
    refused(folder, words, message)
    assert not (folder / "outputs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task=generate", "run_dir=run", "images=[nowhere.png]"], "image .*nowhere.png does not exist"),
        (["task=generate", "run_dir=run", "images=[file]"], "image .*file cannot be read"),
        (["task=predict", "run_dir=run"], "task=predict needs studies=FOLDER"),
        (["task=predict", "run_dir=run", "studies=nowhere", "out=r.csv"], "studies=.*nowhere does not exist"),
        (["task=predict", "run_dir=run", "studies=file", "out=r.txt"], "out=.*r.txt: give a file whose name ends in"),
    ],
)
def test_the_images_of_a_study_are_read_before_the_model(words: list[str], message: str, folder: Path):
    refused(folder, words, message)


@pytest.mark.parametrize("task", ["evaluate", "generate", "export"])
def test_a_run_without_a_checkpoint_is_refused_before_a_model_is_built(task: str, folder: Path):
    shutil.rmtree(folder / "run" / "checkpoints")
    images = ["images=[file]"] if task == "generate" else []
    refused(folder, [f"task={task}", "run_dir=run", *images], "run has no checkpoint yet. Train it first")


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["lm=llama2", "lm=qwen2"], "lm"),
        (["tune/lm=lora", "tune/lm=full"], "tune/lm"),
        (["seed=1", "seed=2"], "seed"),
        (["seed=1", "seed=null"], "seed"),
        (["seed=1", "seed=true"], "seed"),
        (["vision.name=resnet18", "+vision.name=resnet10t"], "vision.name"),
        (["vision.model_args={a: 1}", "vision.model_args={b: 2}"], "vision.model_args"),
        (["metrics=[bleu]", "metrics=[cider]"], "metrics"),
        (["trainer.epochs=1", "++trainer.epochs=2"], "trainer.epochs"),
        (["-m", "seed=1,2", "seed=3"], "seed"),
        (["-m", "seed=1,2", "seed=1,3"], "seed"),
        (["-m", "hydra.sweep.dir=a", "hydra.sweep.dir=b", "seed=1,2"], "hydra.sweep.dir"),
        (["--config-dir=a", "--config-dir", "b"], "--config-dir"),
        (["task=train", "task=compose"], "task"),
        (["task=import", "tune=shallow", "tune=deep"], "tune"),
    ],
)
def test_an_option_that_is_passed_twice_with_other_values_is_refused(words: list[str], key: str, folder: Path):
    refused(folder, words, f"{key} (once|is passed twice)")


@pytest.mark.parametrize("words", [["seed=1", "seed=1"], ["metrics=[bleu,cider]", "metrics=[bleu, cider]"]])
def test_an_option_may_be_repeated(words: list[str], folder: Path):
    assert run_in_process("task=compose", *words, cwd=folder)[0] == 0


def refused(folder: Path, words: list[str], message: str) -> None:
    before = times(folder)
    status, output = run_in_process(*words, cwd=folder)
    assert status == 2, output
    assert re.match(f"error: .*{message}", output), output
    assert output.count("\n") == 1
    assert "python -m r2gen.tasks.worker" not in output
    assert times(folder) == before


def times(folder: Path) -> dict[str, int]:
    """The time of the last change of each file. A run's lock is made before it is refused."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_names_of_encoders_are_read_without_importing_timm():
    assert _timm_models() == set(timm.list_models())


def test_an_encoder_that_does_not_exist_is_refused_before_a_folder_is_made(tmp_path: Path):
    message = "vision.name=resnet51 is not a timm model; similar ones are resnet51q, resnet50"
    refused(tmp_path, ["vision=resnet50", "vision.name=resnet51", "vision.path=null"], message)
    assert not list(tmp_path.iterdir())


def test_weights_that_a_name_means_are_looked_for_before_a_folder_is_made(tmp_path: Path):
    message = "vision.path=timm/resnet50.a3_in1k is neither a folder nor in the local hub cache"
    refused(tmp_path, ["vision=resnet50", "vision.name=resnet50.a3_in1k", "vision.path=null"], message)
    assert not list(tmp_path.iterdir())
