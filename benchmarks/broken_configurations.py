"""Random commands, configuration files and YAML files, mostly with mistakes: how many are accepted, refused, or fail?

    python benchmarks/broken_configurations.py 10000     that many in all; a failure is printed, and the status is 1

Nothing is started. The tests of tests/config/ run a few hundred of the same.
"""

import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import broken_configurations as broken  # noqa: E402
import random_configurations as drawn  # noqa: E402
from mutated_yaml import check_mutated  # noqa: E402

PROGRESS_S = 60


def count(number: int, name: str, check: Callable[[Any], str], values: st.SearchStrategy[Any]) -> Counter[str]:
    """Check so many values and count the results; an exception is printed and counted as a failure."""
    results: Counter[str] = Counter()
    began = last = time.monotonic()

    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(value=values)
    def each(value: Any) -> None:
        nonlocal last
        try:
            results[check(value)] += 1
        except Exception:
            results["failed"] += 1
            print(f"{name}: {value!r:.2000}\n{traceback.format_exc()}", flush=True)
        if time.monotonic() - last > PROGRESS_S:
            last = time.monotonic()
            print(f"{name}: {dict(results)} in {last - began:.0f} s", flush=True)

    each()
    print(f"{name}: {sum(results.values())} in {time.monotonic() - began:.0f} s: {dict(results)}", flush=True)
    return results


def main(number: int) -> int:
    drawn.STRIDE = 7  # composing takes most of the time
    with tempfile.TemporaryDirectory() as folder, broken.nothing_starts():
        file = Path(folder) / "x.yaml"
        total = count(
            number // 2, "commands", lambda command: broken.check_command(command, build=False), drawn.commands()
        )
        total += count(
            number * 3 // 10, "config.yaml", lambda plain: broken.check_edited(plain, build=False), drawn.edited()
        )
        seeds = st.integers(0, 2**32)
        total += count(number // 5, "YAML files", lambda seed: check_mutated(file, Random(seed)), seeds)
    print(f"in all: {sum(total.values())}: {dict(total)}")
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 10_000))
