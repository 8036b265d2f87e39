"""task=check: try a configuration on a few studies, print a table of checks, and write check.json."""

import torch

from r2gen.config.schema import Config
from r2gen.errors import UserError
from r2gen.ranks import dist
from r2gen.ranks.stop import StopRequest
from r2gen.runs import provenance
from r2gen.tasks.check.preflight import Preflight
from r2gen.tasks.check.results import FAIL, PASS, CheckResult, run_checks, write_results


def check(config: Config, device: torch.device, stop: StopRequest) -> None:
    """Raises UserError at the end if a check failed."""
    choices = config.choices

    def report(result: CheckResult) -> None:
        stop.leave_if_requested()
        if dist.is_first():
            print(result.line(), flush=True)

    if dist.is_first():
        chosen = " ".join(f"{group}={choices[group]}" for group in ("lm", "quant", "generation"))
        print(f"check {chosen} on {device}\n", flush=True)
    results = run_checks(Preflight(config, device).checks(), report)
    if not dist.is_first():
        return
    file = config.folder / "check.json"
    facts = {
        "lm": choices["lm"],
        "path": config.lm.path,
        "quant": choices["quant"],
        "generation": choices["generation"],
        "device": str(device),
        "code": provenance.git_revision(),
        "versions": provenance.versions(),
    }
    write_results(file, results, facts=facts)
    passed = sum(result.status == PASS for result in results)
    failed = [result.name for result in results if result.status == FAIL]
    print(f"\n{passed} of {len(results)} pass, {len(failed)} fail: {file}", flush=True)
    if failed:
        raise UserError(f"task=check: {', '.join(failed)} failed; the fixes are in the table")
