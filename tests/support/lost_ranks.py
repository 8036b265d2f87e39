"""Three ranks, one of which is lost, for test_dist.py:  python lost_ranks.py FOLDER

Imports torch once and forks the ranks of each case. Writes each rank's output and exit status to FOLDER.
"""

import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # as R2Gen starts its ranks

import torch

from r2gen.errors import UserError
from r2gen.ranks import dist
from r2gen.ranks.exchange import FOLDER
from r2gen.ranks.ports import free_port

CASES: dict[str, tuple[int, signal.Signals | None]] = {  # the lost rank, and the signal it gets
    "stopped": (1, signal.SIGSTOP),
    "first stopped": (0, signal.SIGSTOP),
    "killed": (2, signal.SIGKILL),
    "first killed": (0, signal.SIGKILL),
    "hangs": (1, None),
    "never starts": (2, None),
    "none lost": (-1, None),
    "first stopped, tcp": (0, signal.SIGSTOP),
    "first killed, tcp": (0, signal.SIGKILL),
    "none lost, tcp": (-1, None),
}  # tcp: as torchrun or several machines' launcher start them
TIMEOUT_S = 12  # 30 processes on a busy machine take seconds to start
FORK = multiprocessing.get_context("fork")


def rank(number: int, case: str, port: int, folder: Path) -> None:
    output = os.open(folder / f"{case}.{number}", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    placement = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": 3}
    placement |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port} if case.endswith("tcp") else {FOLDER: folder / case}
    os.environ.update({name: str(value) for name, value in placement.items()})
    try:
        dist.start(torch.device("cpu"), timeout_s=TIMEOUT_S)
        (folder / f"{case}.ready").touch()
        for collective in range(400 if not case.startswith("none lost") else 20):
            dist.sum_over_ranks(torch.zeros(3))
            if (case, number, collective) == ("hangs", 1, 5):
                time.sleep(100)
            time.sleep(0.02)
        dist.stop()
        print("done")
    except UserError as error:
        print(f"error: {error}")
        sys.exit(2)
    except RuntimeError as error:
        print(f"lost: {dist.lost(error)}", flush=True)
        dist.stop()
        sys.exit(2)


def run(case: str, lost: int, number: signal.Signals | None, folder: Path) -> None:
    port = free_port()
    (folder / case).mkdir()
    ranks = [FORK.Process(target=rank, args=(each, case, port, folder)) for each in range(3)]
    started = [process for each, process in enumerate(ranks) if (case, each) != ("never starts", lost)]
    for process in started:
        process.start()
    if number is not None:
        while not (folder / f"{case}.ready").exists():
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(ranks[lost].pid or 0, number)
    for each, process in enumerate(ranks):
        if each != lost:
            process.join(timeout=60)
    statuses = [process.exitcode for each, process in enumerate(ranks) if each != lost]
    (folder / f"{case}.json").write_text(json.dumps(statuses))
    for process in started:
        process.kill()


def main(folder: Path) -> None:
    cases = [FORK.Process(target=run, args=(case, *loss, folder)) for case, loss in CASES.items()]
    for case in cases:
        case.start()
    for case in cases:
        case.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
