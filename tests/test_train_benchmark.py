"""benchmarks/train.py runs on the CPU with tiny weights; no test judges its figures."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from forked_run import run_script
from smallest_run import ROOT
from train_rows import Row, padded_tokens, sample_tflop, table

SCRIPT = ROOT / "benchmarks" / "train.py"
LLAMA_7B = {"num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 11008, "vocab_size": 32000}


def test_a_row_is_read_from_its_words():
    row = Row.read("ours/64/fp8/lora/deep/iu/gpus2/zero1/lm.compile=true")
    assert (row.batch, row.data, row.gpus) == (64, "iu", 2)
    assert row.on_one_gpu == "ours/64/fp8/lora/deep/iu/lm.compile=true"
    assert row.settings == {
        "tune": "deep",
        "quant": "fp8",
        "tune/lm": "lora",
        "trainer": "zero1",
        "lm.compile": "true",
    }


@pytest.mark.parametrize("text", ["ours", "ours/0", "theirs/8", "ours/8/fp9", "reference/8/int8", "plain/8/a.b=c"])
def test_a_row_that_cannot_be_measured_is_refused(text: str):
    with pytest.raises(SystemExit, match=text):
        Row.read(text)


def test_a_sample_of_147_positions_needs_3_9_tflop():
    """4 x 6.48 G weights x 147 positions, logits at 72 targets, and the encoder."""
    needed = sample_tflop(Row.read("ours/8"), LLAMA_7B, [72] * 4, prompt=75, tiny=False)
    assert needed == pytest.approx(3.90, rel=0.01)


def test_a_batch_is_padded_to_its_longest_report():
    lengths = [10, 20]
    assert padded_tokens(Row.read("ours/1"), lengths, prompt=75) == pytest.approx(90, abs=0.5)
    assert padded_tokens(Row.read("ours/64"), lengths, prompt=75) == 95
    assert padded_tokens(Row.read("reference/8"), lengths, prompt=75) == 167


def test_the_table_has_the_reason_of_a_row_without_a_figure():
    assert "ours/8  it failed" in table([{"row": "ours/8", "note": "it failed"}])


@pytest.mark.slow
def test_every_stack_is_measured_and_a_row_that_fails_stops_no_other(tmp_path: Path):
    out, rows = tmp_path / "figures.jsonl", ("ours/2/lm.nonsense=1", "reference/2", "plain/2/lora/deep", "ours/2/iu")
    done = run_script(SCRIPT, "--scratch", str(tmp_path), "--out", str(out), "--tiny", *rows)
    assert done.returncode == 1, done.stdout + done.stderr
    machine, *lines = [json.loads(line) for line in out.read_text().splitlines()]
    results: dict[str, dict[str, Any]] = {line["row"]: line for line in lines}
    assert machine["tflop_per_s"] > 0
    assert "unknown option lm.nonsense" in results["ours/2/lm.nonsense=1"]["note"]
    for row in rows[1:]:
        assert results[row]["samples/s"] > 0, done.stdout
        assert len(results[row]["rates"]) == 3
    assert results["reference/2"]["padded"] == 167
    assert (tmp_path / "logs" / "ours-2-iu-0.jsonl").exists()
    assert done.stdout.count("samples/s") == len(rows)  # the table is printed after each row


@pytest.mark.slow
def test_losses_of_two_configurations_are_written_and_plotted(tmp_path: Path):
    words = ("--families", "gemma2", "trainer.workers=0", "A:lm.attention=auto", "B:trainer.learning_rate=2e-3")
    done = run_script(SCRIPT, "--scratch", str(tmp_path), "--tiny", "--losses", "4", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0]["A"] == rows[0]["B"]
    assert rows[3]["A"] != rows[3]["B"]
    assert (tmp_path / "losses.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_every_way_to_store_a_frozen_weight_is_timed():
    script = ROOT / "benchmarks" / "frozen_linear.py"
    done = run_script(script, "--device", "cpu", "--width", "64", "--tokens", "8")
    assert done.returncode == 0, done.stderr
    lines = {line[:20].strip(): line[20:].split() for line in done.stdout.splitlines()[1:]}
    assert list(lines) == ["none", "int8 (bitsandbytes)", "int8", "nf4", "nf4 double_quant", "int8_weight_only", "fp8"]
    size_of = {name: int(cells[3]) for name, cells in lines.items()}
    assert [name for name, size in size_of.items() if size] == ["int8 (bitsandbytes)"]
    assert all(float(cells[4]) < 0.2 for cells in lines.values())
