"""An exported folder writes the same reports as the run: with load_run, and with a script without R2Gen."""

import json
import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from composed import composed
from forked_run import run
from PIL import Image
from safetensors.torch import load_file
from smallest_run import ROOT, SMALLEST

from r2gen import load_run
from r2gen.build import build_model
from r2gen.data.collate import Batch
from r2gen.data.reports import data_digest
from r2gen.errors import UserError
from r2gen.lm.tokenizer import save_tokenizer, train_tokenizer
from r2gen.lm.words import train_words
from r2gen.ranks.stop import StopRequest
from r2gen.runs.folder import RunFolder
from r2gen.runs.job_file import write_job
from r2gen.runs.stored import completed
from r2gen.tasks.export import as_exported, export
from r2gen.train.checkpoint import Checkpoints, TrainState

CPU = torch.device("cpu")
GOLDEN = ROOT / "tests" / "golden" / "lm" / "llama2_spm"
SWIN = (
    "vision.model_args={img_size: 64, patch_size: 4, window_size: 4, embed_dim: 12, depths: [1, 2], num_heads: [2, 3]}"
)
KINDS = {
    "lora_frozen_lm": [
        "lm=llama2",
        f"lm.path={GOLDEN}",
        "vision=swin_base",
        "vision.path=null",
        SWIN,
        "tune=delta",
        "vision.image_size_px=64",
        "generation.repetition_penalty=1.7",
    ],
    "lora_lora_lm": ["lm=llama2", f"lm.path={GOLDEN}", "tune/lm=lora", "projector=mlp", "generation=beam3"],
    "random_lm": [],
    "words": ["lm.vocabulary=words", "lm.architecture.tie_word_embeddings=true", "lm.dropout=0.1"],
}


def a_run(folder: Path, kind: str) -> Path:
    """A run with a best checkpoint whose weights, LoRA included, differ much from the initial ones."""
    replaced = {"lora_frozen_lm": ("lm.", "vision."), "lora_lora_lm": ("lm.",)}.get(kind, ())
    smallest = [override for override in SMALLEST if not override.startswith(replaced)]
    config = composed(*smallest, *KINDS[kind], "generation.max_new_tokens=12")
    run_dir = folder / "run"
    run_dir.mkdir()
    config = replace(config, run_dir=str(run_dir))
    write_job(run_dir / "config.yaml", config)
    RunFolder(run_dir).record(
        name="tiny",
        status="finished",
        overrides=["data.root=/secret", "seed=0"],
        git={"revision": "abc"},
        versions={},
        data_hash=data_digest(config.data),
        identity="00",
        reason=None,
        seconds={},
    )
    reports = ["the heart is normal", "no effusion is seen", "both lungs are clear without any acute disease"] * 9
    if kind in ("random_lm", "words"):
        tokenizer = train_words(reports, 300, 3) if kind == "words" else train_tokenizer(reports, 300)
        save_tokenizer(tokenizer, run_dir / "tokenizer")
    model = build_model(config, bf16=False, device=CPU)
    torch.manual_seed(3)
    trained = {name: p.detach() + 0.2 * torch.randn_like(p) for name, p in model.named_parameters() if p.requires_grad}
    Checkpoints(run_dir, keep=1).write(trained, TrainState(step=7))
    return run_dir


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    drawn = torch.Generator().manual_seed(0)
    paths = [tmp_path_factory.mktemp("images") / f"{view}.png" for view in range(2)]
    for path in paths:
        Image.fromarray(torch.randint(256, (70, 60), dtype=torch.uint8, generator=drawn).numpy()).save(path)
    return paths


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_is_the_same_before_and_after(
    kind: str, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run_dir = a_run(tmp_path, kind)
    config = completed(RunFolder(run_dir))
    export(config, CPU, StopRequest())
    out = run_dir / "export"
    run, exported = load_run(run_dir, device="cpu"), load_run(out, device="cpu")
    before = run.generate(images)
    assert before
    assert exported.generate(images) == before
    images_VHW = torch.stack([run.model.vision.transform(Image.open(image)) for image in images])
    studies = Batch(
        ids=("a",),
        images_RVHW=images_VHW[None],
        views_RV=torch.ones(1, 2, dtype=torch.bool),
        report_BT=torch.tensor([[5, 6, 7]]),
    )
    with torch.no_grad():
        torch.testing.assert_close(exported.model.nats(studies), run.model.nats(studies), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(exported.model.wrap(studies)[0], run.model.wrap(studies)[0], rtol=1e-4, atol=1e-4)
    assert not any("lora" in name or ".qkv.q" in name for name in load_file(out / "model.safetensors"))
    assert (out / "lm").is_dir() == (kind != "lora_frozen_lm")
    text = "".join(path.read_text() for path in out.glob("*.json")) + (out / "config.yaml").read_text()
    assert "/secret" not in text

    script = ROOT / "docs" / "plain_script.py"
    assert not re.search(r"^\s*(from|import) r2gen", script.read_text(), re.MULTILINE)
    lm = [] if (out / "lm").is_dir() else [str(GOLDEN)]
    monkeypatch.setattr(sys, "argv", [str(script), str(out), *lm, *map(str, images)])
    capsys.readouterr()
    runpy.run_path(str(script), run_name="__main__")  # in this process, which has torch already
    assert capsys.readouterr().out.removesuffix("\n") == before


@pytest.mark.parametrize(
    ("name", "exported"), [("resnet50.a1_in1k", "resnet50"), ("local-dir:", "vit_tiny_patch16_224")]
)
def test_an_export_names_the_architecture_and_not_its_weights(name: str, exported: str, tmp_path: Path):
    config = {"architecture": exported, "model_args": {"depth": 2}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    name = f"{name}{tmp_path}" if name.endswith(":") else name
    vision = as_exported(composed("vision=resnet50", f"vision.name={name}", "vision.path=null"), lm_inside=False).vision
    assert (vision.get("name"), vision.get("path")) == (exported, None)
    assert (vision.get("model_args") or {}) == (config["model_args"] if "vit" in exported else {})


def test_the_model_card_has_what_a_user_must_know(tmp_path: Path):
    run_dir = a_run(tmp_path, "random_lm")
    export(replace(completed(RunFolder(run_dir)), out=str(tmp_path / "out")), CPU, StopRequest())
    card = (tmp_path / "out" / "README.md").read_text()
    for text in (
        "## Data",
        "## Licence",
        "## Scores",
        "## Intended use",
        "## Limits",
        "Not for diagnosis",
        "seed 0",
        "step-00000007",
        "Not scored",
        "`lm/`",
    ):
        assert text in card, text
    assert json.loads((tmp_path / "out" / "run.json").read_text())["exported"]["lm_inside"]
    with pytest.raises(UserError, match="exported folder already"):
        export(replace(completed(RunFolder(tmp_path / "out")), run_dir=str(tmp_path / "out")), CPU, StopRequest())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds other files"):
        export(replace(completed(RunFolder(run_dir)), out=str(tmp_path / "other")), CPU, StopRequest())


def test_an_exported_folder_can_be_evaluated(tmp_path: Path):
    run_dir = a_run(tmp_path, "random_lm")
    export(replace(completed(RunFolder(run_dir)), out=str(tmp_path / "out")), CPU, StopRequest())
    config = RunFolder(tmp_path / "out").config()
    del config["trainer"]["nodes"]  # as in a run of a version without this option
    (tmp_path / "out" / "config.yaml").write_text(yaml.safe_dump(config))
    done = run(
        "task=evaluate",
        "run_dir=out",
        "evaluate.splits=[val]",
        "metrics=[bleu]",
        "evaluate.best=bleu_4",
        cwd=tmp_path,
        smallest=False,
    )
    assert done.returncode == 0, done.stderr
    assert "model" in done.stdout
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["splits"]["val"]["systems"]["model"]


def test_scores_of_another_checkpoint_are_not_on_the_model_card(tmp_path: Path):
    """While a run trains, metrics.json holds the last validation, which may not be that of the best checkpoint."""
    run_dir = a_run(tmp_path, "random_lm")
    RunFolder(run_dir).record(status="stopped")
    metrics = {
        "splits": {"val": {"studies": 8, "systems": {"model": {"bleu_4": 0.987}}}},
        "signatures": {"bleu": {"implementation": "x"}},
    }
    for checkpoint, shown in (
        ("step-00000009, in training", False),
        (Checkpoints(run_dir, keep=1).best_digest(), True),
    ):
        (run_dir / "metrics.json").write_text(json.dumps({**metrics, "checkpoint": checkpoint}))
        export(replace(completed(RunFolder(run_dir)), out=str(tmp_path / "out")), CPU, StopRequest())
        card = (tmp_path / "out" / "README.md").read_text()
        assert ("0.987" in card) == ("bleu: implementation x" in card) == shown
        assert "before its training had ended: that was stopped" in card


def test_a_training_does_not_overwrite_an_exported_model(tmp_path: Path):
    facts = {"format": 1, "status": "finished", "git": {}, "overrides": []}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    (tmp_path / "model.safetensors").touch()
    done = run(f"run_dir={tmp_path}", cwd=tmp_path)
    assert done.returncode == 2
    assert "holds an exported model" in done.stderr
    assert (tmp_path / "model.safetensors").is_file()
