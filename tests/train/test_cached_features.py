"""A frozen encoder computes the features of an image once in a training, and that changes no bit of the result."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from composed import composed
from small_engine import equal, fit_small, start_small_engine
from small_model import CONTEXT, dataset, report_generator

from r2gen.build import Job
from r2gen.build_training import cache_images
from r2gen.config.decoding import Decoding
from r2gen.data.dataset import StudyDataset
from r2gen.evaluate.generate import predict
from r2gen.runs.untrusted import read_jsonl
from r2gen.train.checkpoint import Checkpoints
from r2gen.train.engine import trainable_tensors
from r2gen.vision.encoder import cached_validation

pytestmark = pytest.mark.usefixtures("world")
DATA = dataset(context=CONTEXT)  # 24 studies, so that three steps are an epoch
VAL = DATA.first(5)


def images(studies: StudyDataset) -> int:
    return sum(map(studies.images_of, studies.studies))


class Training:
    """A training with validations after steps 2, 4 and 7, which counts the images of each pass of the encoder."""

    def __init__(self, folder: Path, *options: str, data: StudyDataset = DATA, vision: str = "frozen") -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.data, self.reports = folder, data, list[list[str]]()
        self.model = report_generator(vision=vision, lively=True, context=True)
        job = cast(Job, SimpleNamespace(model=self.model))
        self.cache = cache_images(composed("trainer.device=cpu", *options), job, data, VAL)
        encode, self.trained_on, self.validated_on = self.model.vision.encode, list[int](), list[int]()

        def counted(images_N3HW: torch.Tensor) -> torch.Tensor:
            (self.trained_on if self.model.training else self.validated_on).append(len(images_N3HW))
            return encode(images_N3HW)

        self.model.vision.encode = counted  # type: ignore[method-assign]
        self.engine = start_small_engine(self.model, batch_size=8, micro_batch_size=4)
        self.checkpoints = Checkpoints(folder, keep=2)

    def fit(self, total: int) -> None:
        state = self.checkpoints.resume(self.engine, zero_stage=0, weights_only=False)
        fit_small(
            self.engine,
            self.data,
            self.folder,
            total,
            at={2, 4, 7},
            validate=self.validate,
            checkpoints=self.checkpoints,
            state=state,
            warmup_steps=1,
        )

    def validate(self) -> dict[str, float]:
        with cached_validation(self.model.vision, self.cache):
            self.reports.append(self.written())
        return {"quality": 1.0}

    def written(self) -> list[str]:
        device, decoding = torch.device("cpu"), Decoding(max_new_tokens=6)
        written = predict(self.model, VAL, decoding, batch_size=2, workers=0, device=device)
        return [prediction.report for prediction in written]

    def result(self) -> tuple[list[float], list[list[str]]]:
        steps = [line for line in read_jsonl(self.folder / "train.jsonl") if line["event"] == "step"]
        return [line["loss"] for line in steps], self.reports

    def weights(self) -> dict[str, torch.Tensor]:
        return trainable_tensors(self.engine)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Training]]:
    started = []

    def training(name: str, *options: str, **parts: Any) -> Training:
        started.append(Training(tmp_path / name, *options, **parts))
        return started[-1]

    yield training
    for each in started:
        each.engine.destroy()


def test_cached_features_change_no_bit_also_of_a_run_that_resumes(start: Callable[..., Training]):
    cached, plain, stopped = start("cached"), start("plain", "trainer.feature_cache_mib=0"), start("stopped")
    cached.fit(7)
    plain.fit(7)
    stopped.fit(4)
    resumed = start("stopped")
    resumed.fit(7)
    assert cached.result() == plain.result()
    assert equal(cached.weights(), plain.weights())
    assert equal(resumed.weights(), plain.weights())
    assert resumed.result()[0] == plain.result()[0]

    assert cached.trained_on == [1] * images(DATA)
    assert sum(cached.validated_on) == images(VAL)
    assert set(plain.trained_on) == {1}
    assert len(plain.trained_on) > 2 * images(DATA)
    assert sum(plain.validated_on) == 3 * images(VAL)
    before = len(cached.validated_on)
    assert cached.written() == cached.reports[-1]
    assert len(cached.validated_on) > before  # outside validations nothing is cached


def test_changed_images_are_computed_every_time_and_those_of_validations_once(start: Callable[..., Training]):
    training = start("run", data=DATA.augmented(lambda image_HW: image_HW))
    training.fit(7)
    assert len(training.trained_on) > 2 * images(DATA)
    assert sum(training.validated_on) == images(VAL)


@pytest.mark.parametrize(
    ("options", "vision", "caches"),
    [
        ([], "frozen", True),
        (["trainer.feature_cache_mib=0"], "frozen", False),
        (["trainer=zero3"], "frozen", True),
        ([], "full", False),
        ([], "lora", False),
    ],
)
def test_only_a_frozen_encoder_has_a_cache(
    start: Callable[..., Training], options: list[str], vision: str, caches: bool
):
    training = start("run", *options, vision=vision)
    assert (training.model.vision.cache is not None, training.cache is not None) == (caches, caches)
