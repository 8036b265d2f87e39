"""Train on one rank and on two for test_ranks.py:  python two_ranks.py FOLDER [scst|batch-norm]

With scst the case is self-critical training of LoRA with ZeRO 3, which is slow. With batch-norm the cases are those
whose statistics move, over the four studies of a step. Imports once and forks
every rank from there, since imports take longer than the training. Writes losses, weights and reports of rank 0 to
FOLDER, for each case and number of ranks.
"""

import multiprocessing
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from small_engine import fit_small, start_small_engine
from small_model import CONTEXT, STUDIES, dataset, report_generator

from r2gen.config.decoding import Decoding
from r2gen.data.dataset import StudyDataset
from r2gen.errors import UserError
from r2gen.evaluate.generate import predict
from r2gen.ranks import dist
from r2gen.ranks.exchange import FOLDER
from r2gen.runs.untrusted import read_jsonl
from r2gen.train.averaging import WeightAverage
from r2gen.train.checkpoint import Checkpoints, TrainState, load_trainable
from r2gen.train.engine import keep_whole, trainable_tensors, whole_weights
from r2gen.train.objectives.findings import FindingsLoss
from r2gen.train.objectives.objective import Objective, ReportLoss, TrainingParts
from r2gen.train.objectives.scst import SelfCritical
from r2gen.vision.batch_norm import moving_statistics

WORLDS = (1, 2)
STEPS = 4


@dataclass(frozen=True)
class Case:
    zero: int
    bf16: bool = False
    lora: bool = False  # frozen parts with LoRA and gradient checkpointing; otherwise everything is trained
    frozen: bool = False  # a language model that is frozen, of more layers than there is room for
    objective: str | None = None  # of OBJECTIVES
    averages: bool = False  # validates and stores a moving average of the weights
    batch_norm: bool = False  # statistics that move: a step is one micro-batch, over all ranks
    context: bool = False  # prompts have one, and some studies a prior with images
    resumes: bool = False  # two ranks also resume from a checkpoint: test_checkpoint.py tests it for one

    @property
    def name(self) -> str:
        kinds = {
            "bf16": self.bf16,
            "lora": self.lora,
            "frozen": self.frozen,
            "batch-norm": self.batch_norm,
            "context": self.context,
        }
        parts = (f"zero{self.zero}", *(kind * has for kind, has in kinds.items()), self.objective or "")
        return "-".join(part for part in parts if part)


CASES = [
    Case(0, averages=True),
    Case(1, averages=True),
    Case(2, averages=True, resumes=True),
    Case(3, averages=True),
    Case(3, bf16=True, lora=True, resumes=True),
    Case(3, frozen=True, averages=True, resumes=True),
    Case(3, context=True, resumes=True),
    Case(0, objective="findings"),
    Case(0, objective="scst"),
]
OF_SCST = [Case(3, lora=True, objective="scst", resumes=True)]
OF_BATCH_NORM = [
    Case(0, batch_norm=True, averages=True, resumes=True),
    Case(2, batch_norm=True, resumes=True),
    Case(3, batch_norm=True, averages=True, resumes=True),
    Case(3, batch_norm=True, bf16=True, resumes=True),
]
OBJECTIVES: dict[str | None, type[Objective]] = {
    None: ReportLoss,
    "findings": FindingsLoss,
    "scst": SelfCritical,
}


class Run:
    """An engine with a ZeRO stage on 24 studies: 4 per step, 2 per micro-batch, dropout in LoRA."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.folder, self.texts = case, folder, list[list[tuple[str, str]]]()
        folder.mkdir(parents=True, exist_ok=True)
        mode = "lora" if case.lora else "full"
        self.model = report_generator(
            vision=mode,
            lm="frozen" if case.frozen else mode,
            lm_layers=5 if case.frozen else 2,
            lively=True,
            dropout=0.1,
            vision_checkpointing=case.lora or case.batch_norm,
            lm_checkpointing=case.lora,
            moving_batch_norm=case.batch_norm,
            context=case.context,
        )
        self.micro_batch_size = 4 // dist.world() if case.batch_norm else 2
        self.model.to(torch.bfloat16 if case.bf16 else torch.float32)
        self.objective = OBJECTIVES[case.objective]()
        self.objective.prepare(
            TrainingParts(model=self.model, studies=STUDIES, seed=0, max_new_tokens=6, keeps_slots=False)
        )
        self.engine = start_small_engine(
            self.model,
            batch_size=4,
            micro_batch_size=self.micro_batch_size,
            zero=case.zero,
            bf16=case.bf16,
            frozen_lm=self.model.lm.model if case.frozen else None,
        )
        self.checkpoints = Checkpoints(folder, keep=2)
        if case.averages:
            self.checkpoints.average = WeightAverage(self.engine, 0.5)

    def dataset(self) -> StudyDataset:
        return dataset(context=CONTEXT if self.case.context else None)

    def resume(self, *, weights_only: bool = False) -> TrainState:
        return self.checkpoints.resume(
            self.engine, zero_stage=self.engine.zero_optimization_stage(), weights_only=weights_only
        )

    def fit(self, total: int, state: TrainState) -> None:
        fit_small(
            self.engine,
            self.dataset(),
            self.folder,
            total,
            at={2, STEPS},
            validate=self.validate,
            checkpoints=self.checkpoints,
            state=state,
            objective=self.objective,
            batch_size=4,
            micro_batch_size=self.micro_batch_size,
            warmup_steps=1,
        )

    def validate(self) -> dict[str, float]:
        average = self.checkpoints.average
        with whole_weights(self.engine) if average is None else average.in_module():
            self.write()
        return {"quality": 1.0}

    def evaluated(self) -> dict[str, torch.Tensor]:
        """The weights that are validated and stored."""
        average = self.checkpoints.average
        return self.trained() if average is None else average.tensors()

    def trained(self) -> dict[str, torch.Tensor]:
        """The weights themselves, and the statistics that move."""
        statistics = {name: tensor.clone() for name, tensor in moving_statistics(self.model).items()}
        return trainable_tensors(self.engine) | statistics

    def write(self) -> None:
        """Write the reports of five studies, of one and of none. With batches of 2, some ranks then have fewer."""
        for studies in (5, 1, 0):
            predictions = predict(
                self.model,
                self.dataset().first(studies),
                Decoding(max_new_tokens=6),
                batch_size=2,
                workers=0,
                device=torch.device("cpu"),
            )
            assert [prediction.id for prediction in predictions] == [study.id for study in STUDIES[:studies]]
            self.texts.append([(prediction.id, prediction.report) for prediction in predictions])


def work(case: Case, folder: Path) -> dict[str, Any]:
    uninterrupted = Run(case, folder / "uninterrupted")
    uninterrupted.fit(STEPS, TrainState(world=dist.world(), zero_stage=uninterrupted.engine.zero_optimization_stage()))
    weights, evaluated = uninterrupted.trained(), uninterrupted.evaluated()
    uninterrupted.engine.destroy()
    keep_whole(uninterrupted.model)
    load_trainable(uninterrupted.model, uninterrupted.checkpoints.best())
    uninterrupted.write()

    steps = [line for line in read_jsonl(folder / "uninterrupted" / "train.jsonl") if line["event"] == "step"]
    results = {
        "losses": [line["loss"] for line in steps],
        "norms": [line["grad_norm"] for line in steps],
        "weights": weights,
        "evaluated": evaluated,
        "texts": uninterrupted.texts,
    }
    return results | (resumed_results(case, folder / "stopped") if case.resumes and dist.world() > 1 else {})


def resumed_results(case: Case, folder: Path) -> dict[str, Any]:
    stopped = Run(case, folder)
    stopped.fit(2, TrainState(world=dist.world(), zero_stage=stopped.engine.zero_optimization_stage()))
    stored = stopped.evaluated()
    stopped.engine.destroy()
    fresh = Run(case, folder)
    fresh.resume(weights_only=True)
    weights_alone = fresh.trained()
    fresh.engine.destroy()
    resumed = Run(case, folder)
    resumed.fit(STEPS, resumed.resume())
    weights, evaluated = resumed.trained(), resumed.evaluated()
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
    results = {"stored": stored, "resumed": weights, "resumed_evaluated": evaluated}
    return results | {"weights_alone": weights_alone, "refused": refused}


def rank(number: int, world: int, folder: Path, cases: list[Case]) -> None:
    variables = {
        "RANK": number,
        "LOCAL_RANK": number,
        "WORLD_SIZE": world,
        FOLDER: folder / f"exchange-{world}",
    }
    os.environ.update({name: str(value) for name, value in variables.items()})
    dist.start(torch.device("cpu"), timeout_s=120)
    results = {case.name: work(case, folder / str(world) / case.name) for case in cases}
    if dist.is_first():
        torch.save(results, folder / f"{world}.pt")
    dist.stop()


def main(folder: Path, cases: list[Case]) -> int:
    fork = multiprocessing.get_context("fork")
    for world in WORLDS:
        (folder / f"exchange-{world}").mkdir()
        ranks = [fork.Process(target=rank, args=(number, world, folder, cases)) for number in range(world)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
        if any(process.exitcode for process in ranks):
            return 1
    return 0


if __name__ == "__main__":
    chosen = {"scst": OF_SCST, "batch-norm": OF_BATCH_NORM}
    sys.exit(main(Path(sys.argv[1]), chosen[sys.argv[2]] if sys.argv[2:] else CASES))
