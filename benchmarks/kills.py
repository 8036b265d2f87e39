"""Kill runs at random moments and compare what the same command then ends with:  python benchmarks/kills.py [KILLS]

    PYTHONPATH=. python benchmarks/kills.py               24 kills by SIGKILL, 6 by SIGTERM, and 30 signals to one of
                                                          two ranks, a line each
    PYTHONPATH=. python benchmarks/kills.py 5 --terms 0 --ranks 0     fewer

tests/support/killed_run.py defines what a moment is. A kill that comes after the end of a run is drawn again. After the
kill the same command runs again. It must end with the weights, reports and scores of the unbroken run, bit for bit, and
leave no temporary file. Half of the runs start from nothing, the others resume a finished run of fewer epochs. A signal
to one of two ranks must also end the command within trainer.timeout_s + 10 s, with a free lock and one message that
names the rank, or without a message if the signal asks for a stop.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from killed_run import PHASES, SMALL, TWO_RANKS, scenario  # noqa: E402

TO_ONE_RANK = (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGSTOP, signal.SIGHUP, signal.SIGSEGV)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int, nargs="?", default=24)
    parser.add_argument("--terms", type=int, default=6, help="number of runs that SIGTERM stops")
    parser.add_argument("--ranks", type=int, default=30, help="number of signals to one of two ranks")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as top:
        root = Path(top)
        whole = scenario("train", [*SMALL, "trainer.epochs=2"], root / "whole", None)
        scenario("first", [*SMALL, "trainer.epochs=1"], root / "first", None)
        longer = scenario("resume", [*SMALL, "trainer.epochs=2"], root / "longer", root / "first")
        print(
            f"unbroken: {len(whole.events)} and {len(longer.events)} file events in {whole.seconds:.1f} s\n\n"
            f"{'':>4} {'scenario':<9} {'signal':<8} {'target':<9} {'moment':<30} {'status':>6}  the same command again"
        )
        equal = 0
        two = scenario("two ranks", [*TWO_RANKS, "trainer.epochs=2"], root / "two", None) if options.ranks else whole
        kinds = [(signal.SIGKILL, options.kills), (signal.SIGTERM, options.terms)]
        phases = draw.sample([*PHASES, None], len(PHASES) + 1)  # None: any time; in random order, for few kills
        plan = [
            (kind, (whole, longer)[index % 2], phases[index // 2 % len(phases)])
            for kind, number in kinds
            for index in range(number)
        ]
        plan += [(TO_ONE_RANK[index % len(TO_ONE_RANK)], two, None) for index in range(options.ranks)]
        for index, (kind, of, phase) in enumerate(plan, start=1):
            folder, status, different = root / f"kill-{index}", 0, list[str]()
            while status == 0:
                shutil.rmtree(folder, ignore_errors=True)
                moment = of.draw_rank_moment(draw, kind) if of is two else of.draw_moment(draw, kind, phase)
                status, different = of.kill(moment, folder)
                if (kind == signal.SIGTERM and of is not two) or different:
                    break
            equal += not different
            where = f"{moment.event.phase} {moment.event.number}" if moment.event else "at"
            print(
                f"{index:>4} {of.name:<9} {signal.Signals(kind).name:<8} {moment.target:<9} "
                f"{where + f' + {moment.after_s:.3f} s':<30} {status:>6}  "
                f"{'bit for bit' if not different else ', '.join(different)}",
                flush=True,
            )
            shutil.rmtree(folder)
        print(f"\n{equal} of {len(plan)} runs end as the unbroken one, bit for bit")
    return 0 if equal == len(plan) else 1


if __name__ == "__main__":
    sys.exit(main())
