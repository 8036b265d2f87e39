"""benchmarks/decode.py runs on the CPU with tiny weights; no test judges its figures."""

import json
from pathlib import Path

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
