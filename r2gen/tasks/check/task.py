"""task=check: try a configuration on a few studies, print the table, write check.json."""

import torch

from r2gen.config.schema import Config
from r2gen.errors import UserError
from r2gen.ranks import dist
from r2gen.ranks.stop import StopRequest
from r2gen.runs import provenance
from r2gen.tasks.check.preflight import Preflight
from r2gen.tasks.check.rows import FAIL, PASS, run_checks, write_rows


def check(config: Config, device: torch.device, stop: StopRequest) -> None:
    """Raises UserError at the end where a row failed."""
    choices = config.choices

    def say(text: str) -> None:
        stop.leave_if_requested()
        if dist.is_first():
            print(text, flush=True)

    say(f"check lm={choices['lm']} quant={choices['quant']} generation={choices['generation']} on {device}\n")
    rows = run_checks(Preflight(config, device).checks(), say)
    if not dist.is_first():
        return
    failed = [row for row in rows if row.status == FAIL]
    file = config.folder / "check.json"
    facts: dict[str, object] = {
        "lm": choices["lm"],
        "path": config.lm.path,
        "quant": choices["quant"],
        "generation": choices["generation"],
        "device": str(device),
        "code": provenance.git_revision(),
        "versions": provenance.versions(),
    }
    write_rows(file, rows, facts=facts)
    passed = sum(row.status == PASS for row in rows)
    print(f"\n{passed} of {len(rows)} pass, {len(failed)} fail: {file}", flush=True)
    if failed:
        raise UserError(f"task=check: {', '.join(row.name for row in failed)} failed; the fixes are in the table")
