"""Measure the start of a command:  python benchmarks/start_up.py [CHECKOUT ...] [-- OPTIONS]

Each CHECKOUT (default: this one) runs `python run.py OPTIONS` for one step, three times in turn, and the medians are
printed: seconds to the built model and to the first step; processor time to the first step, of the command with all its
processes, and of the imports of the rank alone. With two checkouts the last column is the first divided by the second.
For a model of 7 billion weights and an encoder in local folders, on a GPU machine:

    python benchmarks/start_up.py OLD . -- lm=llama2 lm.path=LM vision=swin_base vision.path=ENCODER tune=shallow
"""

import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPEATS = 3
SMALL = ["data.train_studies=16", "data.val_studies=4", "data.test_studies=4", "evaluate.nearest_studies=0"]
ONE_STEP = ["trainer.max_steps=1", "trainer.log_every_steps=1", "metrics=[bleu]", "evaluate.best=bleu_4"]
EVENTS = {
    "studies:": "model built",
    "step 1/": "first step",
}  # how a line of its output begins
IMPORTS = "import r2gen.tasks.worker, r2gen.tasks.train"


def start(checkout: Path, options: list[str]) -> dict[str, float]:
    """The seconds of one command to each event, and its processor time until the first step."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*SMALL, *ONE_STEP, f"run_dir={folder}/run", *options]
        command = [sys.executable, str(checkout / "run.py"), *words]
        began = time.monotonic()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, start_new_session=True
        )
        assert process.stdout is not None
        seconds, lines = {}, []
        for line in process.stdout:
            lines.append(line)
            name = next((name for beginning, name in EVENTS.items() if line.startswith(beginning)), None)
            if name is not None:
                seconds[name] = time.monotonic() - began
            if name == "first step":
                seconds["processor time"] = tree_s(process.pid)
                process.send_signal(signal.SIGKILL)  # its rank ends with it
                break
        else:
            raise SystemExit("".join(lines))
        process.stdout.read()
        process.wait()
    return seconds


def tree_s(pid: int) -> float:
    """The processor time of a process and of all that it has started, those that have ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    children = [
        int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()
    ]
    return own + sum(map(tree_s, children))


def imports(checkout: Path) -> dict[str, float]:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    before = usage.ru_utime + usage.ru_stime
    paths = os.pathsep.join(filter(None, [str(checkout), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "DS_ACCELERATOR": os.environ.get("DS_ACCELERATOR", "cpu")}
    subprocess.run([sys.executable, "-c", IMPORTS], env=environment, cwd=checkout, check=True, capture_output=True)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"processor time of the imports": usage.ru_utime + usage.ru_stime - before}


def main() -> None:
    words, options = sys.argv[1:], []
    if "--" in words:
        words, options = words[: words.index("--")], words[words.index("--") + 1 :]
    checkouts = [Path(word).resolve() for word in words] or [Path(__file__).resolve().parents[1]]
    measured: list[list[dict[str, float]]] = [[] for _ in checkouts]
    for _ in range(REPEATS):
        for checkout, values in zip(checkouts, measured, strict=True):  # in turn, since the load changes
            values.append(start(checkout, options) | imports(checkout))
    names = list(measured[0][0])
    width = max(map(len, names))
    print(" ".join([f"{'seconds':<{width}}", *(f"{checkout.name or '/':>10}" for checkout in checkouts)]))
    for name in names:
        medians = [statistics.median(value[name] for value in values) for values in measured]
        ratio = f"{medians[0] / medians[1]:>8.2f}x" if len(medians) == 2 else ""
        print(f"{name:<{width}} " + " ".join(f"{median:>10.2f}" for median in medians) + ratio)


if __name__ == "__main__":
    main()
