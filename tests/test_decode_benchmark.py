"""benchmarks/decode.py runs on the CPU with tiny weights; no test judges its figures."""

import json
from pathlib import Path

import pytest
from forked_run import run_script
from smallest_run import ROOT

CASES = ("reference/iu/2/2", "ours/beam3/-1", "transformers/greedy/2/2", "ours/beam3/2/3", "ours/iu_early/1/1")


def test_every_stack_is_measured_and_a_case_that_fails_stops_no_other(tmp_path: Path):
    out = tmp_path / "figures.jsonl"
    script = ROOT / "benchmarks" / "decode.py"
    done = run_script(script, "--size", "tiny", "--device", "cpu", "--out", str(out), *CASES)
    assert done.returncode == 1
    assert "ours/beam3/-1/-4 none: no figure" in done.stdout
    machine, *lines = [json.loads(line) for line in out.read_text().splitlines()]
    results = {line["case"]: line for line in lines if "case" in line}
    assert machine["copied_gb_per_s"] > 0
    assert list(results) == [case for case in CASES if not case.endswith("-1")], done.stdout + done.stderr
    assert results["ours/beam3/2/3"]["tokens_mean"] == 12
    assert all(result["reports_per_s"] > 0 and 0 < result["share"] < 1 for result in results.values())


def test_the_seconds_of_a_whole_evaluation_are_shown_by_part(tmp_path: Path):
    out = tmp_path / "figures.jsonl"
    script, words = ROOT / "benchmarks" / "decode.py", ("--size", "tiny", "--device", "cpu", "--out", str(out))
    done = run_script(script, *words, "--command", str(tmp_path / "files"), "--gpus", "1,2", "ours/beam3/0/6")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "as a command" in done.stdout
    results = [json.loads(line) for line in out.read_text().splitlines()[1:]]
    assert [result["gpus"] for result in results] == [1, 2]
    for result in results:
        others = ("command", "quant", "gpus", "encoder_s", "all")
        parts = {name: value for name, value in result.items() if name not in others}
        assert {"configuration and checks", "table and exit"} <= parts.keys()
        assert sum(parts.values()) == pytest.approx(result["all"])
        assert (result["command"], result["encoder_s"] > 0) == ("ours/beam3/0/6", True)
