"""Checkpoints of R2GenGPT are imported with its loss, gradients and reports, or refused without running their code."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from composed import composed
from forked_run import run
from PIL import Image
from r2gengpt_original import ALPHA, MODES, errors, golden, same_reports
from safetensors.torch import load_file, save_file

from r2gen import load_run
from r2gen.errors import UserError
from r2gen.r2gengpt.checkpoint import ATTRIBUTE_DICTS, read_checkpoint
from r2gen.r2gengpt.importing import import_checkpoint
from r2gen.r2gengpt.inspection import facts_of
from r2gen.ranks.stop import StopRequest
from r2gen.trained_run import TrainedRun

SINCE_5 = [
    ("attention.self.query", "attention.q_proj"),
    ("attention.self.key", "attention.k_proj"),
    ("attention.self.value", "attention.v_proj"),
    ("attention.output.dense", "attention.o_proj"),
    ("attention.self.relative_position_bias_table", "attention.relative_position_bias.relative_position_bias_table"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
]


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "r2gengpt"


def paths(folder: Path, mode: str) -> list[str]:
    return [f"vision.path={folder / mode / 'swin'}", f"lm.path={folder.parent / 'lm' / 'golden' / 'llama2_spm'}"]


def imported(checkpoint: Path, folder: Path, mode: str, run_dir: Path) -> TrainedRun:
    """What a rank of task=import does, for the configuration that the checkpoint records."""
    facts = facts_of(read_checkpoint(checkpoint))
    config = composed(
        f"experiment=r2gengpt_{facts.mode}_iu",
        "vision.image_size_px=112",
        "data.root=/data",
        *(f"{option}={value}" for option, value in facts.overrides.items()),
        *paths(folder, mode),
        *([ALPHA] if facts.mode == "delta" else []),
    )
    config = replace(config, run_dir=str(run_dir), checkpoint=str(checkpoint))
    run_dir.mkdir(exist_ok=True)
    import_checkpoint(config, torch.device("cpu"), StopRequest())
    return TrainedRun(config, device=torch.device("cpu"))


@pytest.mark.parametrize("mode", MODES)
def test_loss_gradients_and_reports_are_those_of_r2gengpt(mode: str, folder: Path, tmp_path: Path):
    model = imported(folder / mode / "delta.pth", folder, mode, tmp_path).model
    relative = errors(model, *golden(folder, mode))
    assert relative["loss"] < 1e-6, relative
    assert max(relative.values()) < 1e-5, relative
    equal = same_reports(model, *golden(folder, mode))
    assert equal == [True] * 12


def test_another_lora_alpha_changes_the_loss(folder: Path, tmp_path: Path):
    """Without the recorded alpha the loss is wrong, so the import requires it."""
    run = imported(folder / "delta" / "delta.pth", folder, "delta", tmp_path)
    for module in run.model.vision.modules():
        if hasattr(module, "scaling"):
            module.scaling["default"] *= 2
    assert errors(run.model, *golden(folder, "delta"))["loss"] > 1e-4


def as_attribute_dict(options: dict[str, Any], name: str) -> Any:
    """The options as an object of Lightning's class of this name, without Lightning."""
    module, _, kind = name.rpartition(".")
    cls = type(kind, (dict,), {"__module__": module, "__qualname__": kind})
    for depth in range(1, module.count(".") + 2):
        part = ".".join(module.split(".")[:depth])
        sys.modules.setdefault(part, ModuleType(part))
    setattr(sys.modules[module], kind, cls)
    return cls(options)


@pytest.fixture
def lightning():
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("lightning", "lightning_fabric", "pytorch_lightning"):
            del sys.modules[name]


def since_5(name: str) -> str:
    """The name of a tensor in transformers 5."""
    for old, new in SINCE_5:
        if old in name:
            return name.replace(old, new)
    return name


@pytest.mark.parametrize("name", ATTRIBUTE_DICTS)
def test_options_are_read_under_every_name_of_lightnings_class(
    name: str, folder: Path, tmp_path: Path, lightning: None
):
    content = torch.load(folder / "shallow" / "delta.pth", weights_only=True)
    torch.save({**content, "config": as_attribute_dict({"dataset": "mimic_cxr"}, name)}, tmp_path / "delta.pth")
    for part in [part for part in sys.modules if part.split(".")[0] == name.split(".")[0]]:
        del sys.modules[part]
    assert facts_of(read_checkpoint(tmp_path / "delta.pth")).data == "mimic"


def write_recorded_checkpoint(folder: Path, out: Path) -> None:
    """delta.pth and swin/ with the names of transformers 5, and the options of a training in an AttributeDict."""
    content = torch.load(folder / "delta" / "delta.pth", weights_only=True)
    options = {
        "dataset": "iu_xray",
        "vis_r": 4,
        "vis_alpha": 8,
        "lora_dropout": 0.1,
        "max_length": 40,
        "beam_size": 3,
        "min_new_tokens": 8,
        "max_new_tokens": 20,
        "repetition_penalty": 2.0,
        "length_penalty": 2.0,
    }
    tensors = {since_5(name): tensor for name, tensor in content["model"].items()}
    assert tensors.keys() != content["model"].keys()
    content |= {"model": tensors, "config": as_attribute_dict(options, ATTRIBUTE_DICTS[0])}
    torch.save(content, out / "delta.pth")
    shutil.copytree(folder / "delta" / "swin", out / "swin")
    swin = load_file(folder / "delta" / "swin" / "model.safetensors")
    save_file(
        {since_5(name): tensor for name, tensor in swin.items() if "position_index" not in name},
        out / "swin" / "model.safetensors",
    )


def write_data(folder: Path, out: Path) -> list[dict[str, Any]]:
    """The golden studies as a data set whose test split they are; returns its entries."""
    facts, tensors = golden(folder, "delta")
    (out / "images").mkdir(parents=True)
    studies = []
    for study, text in enumerate(facts["texts"]):
        images = [f"{study}-{view}.png" for view in range(2)]
        for view, image in enumerate(images):
            pixels = tensors[f"image.{view}"][study].mean(dim=0).mul(40).add(128).clamp(0, 255).byte()
            Image.fromarray(pixels.numpy()).save(out / "images" / image)
        studies.append({"id": f"s{study}", "report": text, "image_path": images})
    (out / "annotation.json").write_text(json.dumps({"train": [], "val": [], "test": studies}))
    return studies


def test_a_checkpoint_is_imported_and_evaluated_by_commands(folder: Path, tmp_path: Path, lightning: None):
    write_recorded_checkpoint(folder, tmp_path)
    lm = folder.parent / "lm" / "golden" / "llama2_spm"
    command = ["task=import", "checkpoint=delta.pth", "run_dir=run", "vision.path=swin", f"lm.path={lm}"]
    done = run(*command, cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "LoRA of the encoder, which is not merged" in done.stdout
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["name"]) == ("finished", "r2gengpt_delta_iu")
    assert len(record["imported"]["sha256"]) == 64
    trained = load_run(tmp_path / "run")
    assert all(same_reports(trained.model, *golden(folder, "delta")))

    studies = write_data(folder, tmp_path / "data")
    options = ["data.root=data", "metrics=[bleu,cider]", "evaluate.reference=truncated"]
    done = run("task=evaluate", "run_dir=run", *options, cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["splits"]["test"]["studies"] == 3
    assert metrics["splits"]["test"]["truncated"]["tokens"] == 40
    assert (tmp_path / "run" / "report.html").is_file()
    lines = (tmp_path / "run/predictions/test.r2gengpt_iu.jsonl").read_text().splitlines()[1:]
    trained = load_run(tmp_path / "run")
    for line, study in zip(map(json.loads, lines), studies, strict=True):
        images = [tmp_path / "data" / "images" / image for image in study["image_path"]]
        assert line["report"] == trained.generate(images)

    done = run(*command, cwd=tmp_path, smallest=False)
    assert done.returncode == 2
    assert "is a run already" in done.stderr


@pytest.mark.parametrize(
    ("mode", "change", "message"),
    [
        ("shallow", {"llama_proj.bias": None}, r"lacks 1 tensors: llama_proj\.bias"),
        ("shallow", {"llama_model.model.norm.weight": torch.zeros(64)}, r"has 1 tensors: llama_model\.model\.norm"),
        ("shallow", {"llama_proj.weight": torch.zeros(64, 96)}, r"llama_proj\.weight is \[64, 96\]"),
        (
            "delta",
            {
                "visual_encoder.base_model.model.encoder.layers.0.blocks.0.attention.self.query.lora_B.default"
                ".weight": None
            },
            r"blocks\.0\.attention\.self\.query\.lora_B",
        ),
        (
            "delta",
            {
                "visual_encoder.base_model.model.encoder.layers.0.blocks.0.attention.self.query.lora_A.other"
                ".weight": torch.zeros(4, 16)
            },
            r"query\.lora_A\.other",
        ),
        (
            "deep",
            {"visual_encoder.encoder.layers.2.blocks.1.attention.self.key.weight": None},
            r"layers\.2\.blocks\.1\.attention\.self\.key\.weight",
        ),
        ("deep", {"visual_encoder.pooler.weight": torch.zeros(3)}, r"visual_encoder\.pooler"),
    ],
)
def test_tensors_that_are_missing_or_left_over_are_named(
    mode: str, change: dict[str, Any], message: str, folder: Path, tmp_path: Path
):
    content = torch.load(folder / mode / "delta.pth", weights_only=True)
    model = {name: tensor for name, tensor in (content["model"] | change).items() if tensor is not None}
    torch.save({**content, "model": model}, tmp_path / "delta.pth")
    with pytest.raises(UserError, match=message):
        imported(tmp_path / "delta.pth", folder, mode, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


class Payload:
    """An object whose pickle creates a file when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("payload_was_run"),)


@pytest.mark.parametrize("key", ["model", "config", "epoch"])
def test_a_pickle_that_contains_code_is_refused_and_not_run(
    key: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    content = torch.load(folder / "shallow" / "delta.pth", weights_only=True)
    torch.save({**content, key: Payload() if key == "epoch" else {**content[key], "x": Payload()}}, "delta.pth")
    with pytest.raises(UserError, match=r"checkpoint=delta\.pth.*more than tensors and plain options"):
        read_checkpoint(Path("delta.pth"))
    assert not Path("payload_was_run").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no checkpoint",
        [1, 2],
        {"state_dict": {}},
        {"model": {"a": 1}},
        {"model": {"a": torch.tensor([float("nan")])}},
        {"model": {}, "optimizer": {}},
        {"model": {"a": torch.ones(2).to_sparse()}},
        {"model": {}, "config": 3},
        {"model": {}, "step": "many"},
    ],
)
def test_a_file_that_is_no_checkpoint_of_r2gengpt_is_refused(content: Any, tmp_path: Path):
    file = tmp_path / "delta.pth"
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(UserError, match=re.escape(f"checkpoint={file}")):
        read_checkpoint(file)


@pytest.mark.parametrize(("option", "value"), [("llm_use_lora", True), ("global_only", True), ("end_sym", "<eos>")])
def test_options_of_a_model_that_r2gen_does_not_have_are_refused(option: str, value: Any, folder: Path, tmp_path: Path):
    content = torch.load(folder / "shallow" / "delta.pth", weights_only=True)
    torch.save({**content, "config": {option: value}}, tmp_path / "delta.pth")
    with pytest.raises(UserError, match=option):
        facts_of(read_checkpoint(tmp_path / "delta.pth"))


def test_lora_under_the_names_of_a_peft_adapter_is_the_same(folder: Path, tmp_path: Path):
    content = torch.load(folder / "delta" / "delta.pth", weights_only=True)
    model = {name.replace(".default", ""): tensor for name, tensor in content["model"].items()}
    torch.save({**content, "model": model}, tmp_path / "delta.pth")
    original = folder / "delta" / "delta.pth"
    assert facts_of(read_checkpoint(tmp_path / "delta.pth")) == facts_of(read_checkpoint(original))
    run = imported(tmp_path / "delta.pth", folder, "delta", tmp_path / "run")
    assert max(errors(run.model, *golden(folder, "delta")).values()) < 1e-5


def test_a_mode_that_differs_from_that_of_the_tensors_is_refused(folder: Path, tmp_path: Path):
    done = run(
        "task=import",
        f"checkpoint={folder / 'delta' / 'delta.pth'}",
        "run_dir=run",
        "tune=deep",
        *paths(folder, "delta"),
        cwd=tmp_path,
        smallest=False,
    )
    assert done.returncode == 2
    assert "tune=deep: the checkpoint's tensors are those of delta" in done.stderr
    assert not (tmp_path / "run").exists()
