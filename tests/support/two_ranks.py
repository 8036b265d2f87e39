"""What one rank, or each of several, does for test_ranks.py:  python two_ranks.py FOLDER

Imports once and forks every rank from there, since importing takes longer than all of the work. Leaves in FOLDER, for
each case and number of ranks, what rank 0 has: losses, weights, reports.
"""

import multiprocessing
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from small_model import STUDIES, dataset, report_generator

from r2gen.config.decoding import Decoding
from r2gen.errors import UserError
from r2gen.evaluate.generate import predict
from r2gen.ranks import dist
from r2gen.ranks.ports import free_port
from r2gen.ranks.stop import StopRequest
from r2gen.runs.files import read_jsonl
from r2gen.train.checkpoint import Checkpoints, TrainState, load_trainable
from r2gen.train.engine import keep_whole, start_engine, trainable_tensors, whole_weights
from r2gen.train.fit import LoopSettings, fit
from r2gen.train.loggers import NoLogger, TrainLog
from r2gen.train.optim import adamw

WORLDS = (1, 2)
STEPS = 4


@dataclass(frozen=True)
class Case:
    zero: int
    bf16: bool = False
    lora: bool = False  # frozen parts with LoRA, recomputed in the backward pass; else everything is trained
    resumes: bool = False  # two ranks also go on from a checkpoint: test_checkpoint.py has one

    @property
    def name(self) -> str:
        return f"zero{self.zero}{'-bf16' if self.bf16 else ''}{'-lora' if self.lora else ''}"


CASES = [Case(0), Case(1), Case(2, resumes=True), Case(3), Case(3, bf16=True, lora=True, resumes=True)]


class Run:
    """An engine under a ZeRO stage, and fit() on 24 studies: four a step, two a micro-batch, dropout where LoRA is."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.folder, self.texts = case, folder, list[list[tuple[str, str]]]()
        folder.mkdir(parents=True, exist_ok=True)
        mode = "lora" if case.lora else "full"
        self.model = report_generator(
            vision=mode, lm=mode, lively=True, dropout=0.1, vision_checkpointing=case.lora, lm_checkpointing=case.lora
        )
        self.model.to(torch.bfloat16 if case.bf16 else torch.float32)
        # All weights are cut, however small: by default such small ones stay whole
        options = {"stage": case.zero} | ({"stage3_param_persistence_threshold": 0} if case.zero == 3 else {})
        self.engine = start_engine(
            self.model,
            adamw(self.model, learning_rate=1e-3, betas=(0.9, 0.999), weight_decay=0.01),
            batch_size=4,
            micro_batch_size=2,
            gradient_clipping=0.0,
            bf16=case.bf16,
            options={"zero_optimization": options},
        )
        self.checkpoints = Checkpoints(folder, keep=2)

    def resume(self, *, weights_only: bool = False) -> TrainState:
        return self.checkpoints.resume(self.engine, zero_stage=self.case.zero, weights_only=weights_only)

    def fit(self, total: int, state: TrainState) -> None:
        stop = StopRequest()
        settings = LoopSettings(
            batch_size=4,
            micro_batch_size=2,
            learning_rate=1e-3,
            min_learning_rate=0.0,
            warmup_steps=1,
            schedule="constant",
            patience=None,
            workers=0,
            save_every_steps=None,
            log_every_steps=1,
            shuffle=True,
            seed=0,
        )
        fit(
            self.engine,
            dataset(),
            settings=settings,
            total_steps=total,
            validation_steps={2, STEPS},
            validate=self.validate,
            selection=lambda scores: scores["quality"],
            checkpoints=self.checkpoints,
            state=state,
            log=TrainLog(
                self.folder,
                total_steps=total,
                first_step=state.step,
                validated_step=state.validated_step,
                logger=NoLogger(),
            ),
            refresh_page=lambda: None,
            stop=stop,
        )

    def validate(self) -> dict[str, float]:
        with whole_weights(self.engine):
            self.write()
        return {"quality": 1.0}

    def write(self) -> None:
        """Reports of five studies, of one, and of none: two batches and a half on two ranks, one, none at all."""
        for studies in (5, 1, 0):
            found = predict(
                self.model,
                dataset().first(studies),
                Decoding(max_new_tokens=6),
                batch_size=2,
                workers=0,
                device=torch.device("cpu"),
            )
            assert [one.id for one in found] == [study.id for study in STUDIES[:studies]]
            self.texts.append([(one.id, one.report) for one in found])


def work(case: Case, folder: Path) -> dict[str, Any]:
    unbroken = Run(case, folder / "unbroken")
    unbroken.fit(STEPS, TrainState(world=dist.world(), zero_stage=case.zero))
    weights = trainable_tensors(unbroken.engine)
    unbroken.engine.destroy()
    keep_whole(unbroken.model)
    load_trainable(unbroken.model, unbroken.checkpoints.best())
    unbroken.write()

    steps = [line for line in read_jsonl(folder / "unbroken" / "train.jsonl") if line["event"] == "step"]
    found = {
        "losses": [line["loss"] for line in steps],
        "norms": [line["grad_norm"] for line in steps],
        "weights": weights,
        "texts": unbroken.texts,
    }
    return found | (gone_on(case, folder / "broken") if case.resumes and dist.world() > 1 else {})


def gone_on(case: Case, folder: Path) -> dict[str, Any]:
    broken = Run(case, folder)
    broken.fit(2, TrainState(world=dist.world(), zero_stage=case.zero))
    stored = trainable_tensors(broken.engine)
    broken.engine.destroy()
    fresh = Run(case, folder)
    fresh.resume(weights_only=True)
    weights_alone = trainable_tensors(fresh.engine)
    fresh.engine.destroy()
    resumed = Run(case, folder)
    resumed.fit(STEPS, resumed.resume())
    weights = trainable_tensors(resumed.engine)
    dist.barrier()
    if dist.is_first():  # as if more ranks had written it
        file = resumed.folder / "checkpoints" / "last" / "state.json"
        file.write_text(file.read_text().replace(f'"world": {dist.world()}', '"world": 64'))
    dist.barrier()
    refused = ""
    try:
        resumed.resume()
    except UserError as error:
        refused = str(error)
    resumed.engine.destroy()
    return {"stored": stored, "went_on": weights, "weights_alone": weights_alone, "refused": refused}


def rank(number: int, world: int, port: int, folder: Path) -> None:
    places = {
        "RANK": number,
        "LOCAL_RANK": number,
        "WORLD_SIZE": world,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    os.environ.update({name: str(value) for name, value in places.items()})
    dist.start(torch.device("cpu"), timeout_s=120)
    found = {case.name: work(case, folder / str(world) / case.name) for case in CASES}
    if dist.is_first():
        torch.save(found, folder / f"{world}.pt")
    dist.stop()


def main(folder: Path) -> int:
    fork = multiprocessing.get_context("fork")
    for world in WORLDS:
        port = free_port()
        ranks = [fork.Process(target=rank, args=(number, world, port, folder)) for number in range(world)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
        if any(process.exitcode for process in ranks):
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
