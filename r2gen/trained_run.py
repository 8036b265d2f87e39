"""A trained run as a Python object: `load_run(DIR).generate(["frontal.png", "lateral.png"])`."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from huggingface_hub import constants
from PIL import Image

from r2gen.build import build_decoding, build_model, pick_device, uses_bf16
from r2gen.config.schema import Config
from r2gen.data.collate import Batch
from r2gen.data.images import read_image, to_gray, upright
from r2gen.errors import UserError
from r2gen.model.report_generator import ReportGenerator
from r2gen.runs import stored
from r2gen.runs.folder import RunFolder
from r2gen.train.checkpoint import load_best


def trained_model(config: Config, *, bf16: bool, device: torch.device) -> tuple[ReportGenerator, str]:
    """The report generator of a run folder in eval(), with the best weights, and the digest of those."""
    model = build_model(config, bf16=bf16, device=device).eval()
    return model, load_best(model, config.folder)


class TrainedRun:
    """The best checkpoint of a run folder, ready to generate reports.

    With `warm_up`, a GPU is prepared for many calls of `generate`: about 10 s more before the first one, and each
    report in about two thirds of the time.
    """

    def __init__(self, config: Config, *, device: torch.device, warm_up: bool = False) -> None:
        self.model, _ = trained_model(config, bf16=uses_bf16(config, device), device=device)
        self.decoding = build_decoding(config)
        self.gray_bits: int | None = config.data.get("gray_bits")  # images are read as in training
        self.device = device
        if warm_up and device.type == "cuda":
            self.model.lm.keeps_slots = True
            size = self.model.vision.transform.size_px
            self.generate([Image.new("L", (size, size))])

    def generate(self, images: Sequence[str | Path | Image.Image]) -> str:
        """The report of one study from its images: files, or PIL images.

        A large JPEG file is decoded at a reduced size (data/images.py), unlike a PIL image: at the encoder's size, the
        two differ by less than half a gray level on average. Raises UserError naming an image that cannot be read.
        """
        if isinstance(images, str | Path | Image.Image):
            raise UserError("pass a list of images, such as generate([frontal, lateral])")
        if not images:
            raise UserError("a study needs at least one image")
        transform = self.model.vision.transform
        images_BVHW = torch.stack([transform(self._read(image)) for image in images])[None]
        batch = Batch(
            ids=("study",),
            images_BVHW=images_BVHW,
            views_BV=torch.ones(1, len(images), dtype=torch.bool),
            report_BT=torch.zeros(1, 0, dtype=torch.long),
        )
        return self.model.generate(batch.to(self.device), self.decoding)[0].text

    def _read(self, image: str | Path | Image.Image) -> Image.Image:
        if not isinstance(image, Image.Image):
            return read_image(Path(image), at_least_px=self.model.vision.transform.size_px, gray_bits=self.gray_bits)
        try:
            return to_gray(upright(image), gray_bits=self.gray_bits)
        except (OSError, ValueError) as error:
            raise UserError(f"a PIL image cannot be used: {error}") from error


def load_run(run_dir: str | Path, *, device: str = "auto", lm_path: str | None = None) -> TrainedRun:
    """The run in a folder, with its best checkpoint, on `auto`, `cpu` or `cuda`.

    `lm_path` is the folder of the frozen language model, if it is not the one of training. Raises UserError if the
    folder is not a run, if it has no checkpoint yet, or if the files at lm.path or vision.path are not those of
    training. On a GPU the model writes a first report while it loads, for which it is compiled, so that the next ones
    take two thirds of the time.
    """
    folder = RunFolder(Path(run_dir))
    if not folder.exists():
        raise UserError(f"{run_dir} is not a run folder: there is no run.json in it")
    config = replace(stored.completed(folder), run_dir=str(folder.path))  # it may have been moved
    if lm_path is not None:
        config = replace(config, lm=replace(config.lm, path=lm_path))
    stored.refuse_other_weights(folder, config)
    if "HF_HUB_OFFLINE" not in os.environ:  # huggingface_hub has already read the variable, so its constant is set
        constants.HF_HUB_OFFLINE = config.hub != "online"
    return TrainedRun(config, device=pick_device(device), warm_up=True)
