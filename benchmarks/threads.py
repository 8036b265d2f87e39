"""Measure the cost of waiting threads on a shared machine:  python benchmarks/threads.py

Times the same training steps of a model like the default job's with libgomp's default, where waiting threads spin, and
with the spin count that R2Gen sets for its ranks (rank_process.SPIN_COUNT), on an idle machine and next to one busy
process. Prints seconds per step and the ratio, all measured in one run, in three rounds.
"""

import os
import statistics
import subprocess
import sys

from r2gen.launch.rank_process import SPIN_COUNT

STEPS = r"""
import time, torch
from torch import nn
torch.manual_seed(0)
width, batch = 128, 16
model = nn.Sequential(nn.Conv2d(3, 32, 7, 2, 3), nn.GroupNorm(8, 32), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(),
                      nn.Conv2d(64, width, 3, 2, 1), nn.Flatten(2))
reader = nn.TransformerEncoder(nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True), 2)
images, optimizer = torch.randn(2 * batch, 3, 64, 64), torch.optim.AdamW([*model.parameters(), *reader.parameters()])
for step in range(12):
    if step == 2:
        began = time.perf_counter()
    reader(model(images).transpose(1, 2)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
print((time.perf_counter() - began) / 10)
"""
BUSY = "while True: pass"


def seconds_per_step(*, spin_count: str | None, busy: bool) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    if spin_count is not None:
        environment["GOMP_SPINCOUNT"] = spin_count
    other = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
    try:
        done = subprocess.run(
            [sys.executable, "-c", STEPS], env=environment, capture_output=True, text=True, check=True
        )
    finally:
        if other is not None:
            other.kill()
            other.wait()
    return float(done.stdout)


def main() -> None:
    ways = {"libgomp's default": None, f"GOMP_SPINCOUNT={SPIN_COUNT}": SPIN_COUNT}
    rounds: dict[tuple[str, bool], list[float]] = {}
    for _ in range(3):
        for name, spin_count in ways.items():
            for busy in (False, True):
                rounds.setdefault((name, busy), []).append(seconds_per_step(spin_count=spin_count, busy=busy))
    median = {key: statistics.median(times) for key, times in rounds.items()}
    print(f"{'threads wait with':<22} {'alone':>10} {'next to one busy process':>26}")
    for name in ways:
        print(f"{name:<22} {median[name, False]:>8.3f} s {median[name, True]:>24.3f} s")
    default, ours = ways
    alone, next_to_busy = (median[default, other] / median[ours, other] for other in (False, True))
    print(f"{'ratio':<22} {alone:>9.2f}x {next_to_busy:>24.2f}x")


if __name__ == "__main__":
    main()
