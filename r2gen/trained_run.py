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
from r2gen.lm.tokenizer import read_tokenizer
from r2gen.runs import stored
from r2gen.runs.folder import RunFolder
from r2gen.train.checkpoint import load_best


class TrainedRun:
    """The best checkpoint of a run folder, ready to generate reports."""

    def __init__(self, run_dir: Path, *, config: Config, device: torch.device) -> None:
        tokenizer = None if config.lm.path else read_tokenizer(run_dir / "tokenizer")
        self.model = build_model(config, tokenizer=tokenizer, bf16=uses_bf16(config, device), device=device).eval()
        load_best(self.model, run_dir)
        self.decoding = build_decoding(config)
        self.gray_bits: int | None = config.data.get("gray_bits")  # images are read as in training
        self.device = device

    def generate(self, images: Sequence[str | Path | Image.Image]) -> str:
        """The report of one study from its images: files or PIL images, which are read as their files would be.

        A large JPEG given as a file is decoded at a reduced size (data/images.py), one given as a PIL image is not: at
        the encoder's size they differ by less than half a gray level on average.

        Raises UserError naming an image that cannot be read.
        """
        if isinstance(images, str | Path | Image.Image):
            raise UserError("give a list of images, such as generate([frontal, lateral])")
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
            raise UserError(f"an image given as a PIL image cannot be used: {error}") from error


def load_run(run_dir: str | Path, *, device: str = "auto", lm_path: str | None = None) -> TrainedRun:
    """The run in a folder, with its best checkpoint, on `auto`, `cpu` or `cuda`.

    `lm_path` is the folder of the frozen language model where it is not the one of training.

    Raises UserError where the folder is not a run, has no checkpoint yet, or where the files at lm.path or vision.path
    are not those of training.
    """
    folder = RunFolder(Path(run_dir))
    if not folder.exists():
        raise UserError(f"{run_dir} is not a run folder: there is no run.json in it")
    config = stored.completed(folder)
    if lm_path is not None:
        config = replace(config, lm=replace(config.lm, path=lm_path))
    stored.refuse_other_weights(folder, config)
    if "HF_HUB_OFFLINE" not in os.environ:  # huggingface_hub has read the variable by now, so its own value is set
        constants.HF_HUB_OFFLINE = config.hub != "online"
    return TrainedRun(folder.path, config=config, device=pick_device(device))
