"""Weights that were read early give the same model, and what is unusual about files is left to transformers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from r2gen.errors import UserError
from r2gen.lm import early_weights
from r2gen.lm.checkpoint import find_checkpoint
from r2gen.lm.weights import read_config, read_model

CPU = torch.device("cpu")


@pytest.fixture
def folder(golden_folder: Path, tmp_path: Path) -> Path:
    """A checkpoint in two files with an index."""
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(golden_folder / "llama2_json" / name, tmp_path)
    tensors = load_file(golden_folder / "llama2_json" / "model.safetensors")
    files = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(sorted(tensors))}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in tensors if files[name] == file}, tmp_path / file, {"format": "pt"})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return tmp_path


def loaded(folder: Path) -> torch.nn.Module:
    checkpoint = find_checkpoint(folder, None)
    return read_model(
        checkpoint,
        read_config(checkpoint),
        dtype="float32",
        attention="auto",
        quantization=None,
        device_map={"": "cpu"},
    )


def test_early_weights_give_the_same_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_weights, "CHUNK", 1000)  # so that a tensor has several
    expected = loaded(folder)
    early_weights.start(folder, CPU)
    read = early_weights.take(folder, "cpu")
    assert read is not None
    assert early_weights.take(folder, "cpu") is None  # they are given once
    files = load_file(folder / "model-0.safetensors") | load_file(folder / "model-1.safetensors")
    assert all(torch.equal(read[name], files[name]) for name in files | read)
    early_weights.start(folder, CPU)
    model = loaded(folder)
    assert early_weights.take(folder, "cpu") is None  # the model has taken them
    for (name, tensor), (other, own) in zip(expected.state_dict().items(), model.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(tensor, own)


def test_weights_of_another_folder_or_device_are_not_given(folder: Path, golden_folder: Path) -> None:
    early_weights.start(folder, CPU)
    assert early_weights.take(golden_folder / "llama2_json", "cpu") is None
    early_weights.start(folder, CPU)
    assert early_weights.take(folder, "cuda:0") is None


def test_a_damaged_file_is_left_to_transformers(folder: Path) -> None:
    file = folder / "model-1.safetensors"
    content = file.read_bytes()
    damages = {
        "truncated": content[:-10],
        "no header": b"",
        "long header": (10**12).to_bytes(8, "little") + content[8:],
        "no json": content[:8] + b"?" + content[9:],
    }
    for damage in damages.values():
        file.write_bytes(damage)
        early_weights.start(folder, CPU)
        with pytest.raises(UserError, match=r"model-1|truncated or damaged"):
            loaded(folder)
        early_weights.start(folder, CPU)
        assert early_weights.take(folder, "cpu") is None


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "model-1.safetensors"])
def test_a_pipe_is_not_opened(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    early_weights.start(folder, CPU)
    assert early_weights.take(folder, "cpu") is None


def test_a_quantised_checkpoint_and_one_with_other_parts_are_left_to_transformers(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    for field in early_weights.UNUSUAL_FIELDS:
        (folder / "config.json").write_text(json.dumps(config | {field: {"a": 1}}))
        early_weights.start(folder, CPU)
        assert early_weights.take(folder, "cpu") is None


def test_an_index_cannot_name_a_file_of_another_folder(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../model-0.safetensors"}}))
    early_weights.start(folder, CPU)
    assert early_weights.take(folder, "cpu") is None


def test_other_weights_that_config_json_names_are_read(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_weights": "other.safetensors"}))
    early_weights.start(folder, CPU)
    assert early_weights.take(folder, "cpu") is None


def test_an_index_without_metadata_is_refused_as_before(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    for metadata in ({}, {"metadata": None}):
        index.write_text(json.dumps({"weight_map": content["weight_map"]} | metadata))
        early_weights.start(folder, CPU)
        assert early_weights.take(folder, "cpu") is None


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_prints_no_traceback(golden_folder: Path, tmp_path: Path) -> None:
    shutil.copy(golden_folder / "llama2_json" / "config.json", tmp_path)
    place = [2**70, 2**70 + 4]  # beyond any file
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": place}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    early_weights.start(tmp_path, CPU)
    assert early_weights.take(tmp_path, "cpu") is None


SLOW = """
import sys, time
from pathlib import Path
import torch
from r2gen.lm import early_weights
early_weights._fill = lambda chunks, device: time.sleep(60)
early_weights.start(Path(sys.argv[1]), torch.device("cpu"))
time.sleep(1)
"""


def test_a_process_ends_while_weights_are_read(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", SLOW, folder], check=True, timeout=50)
