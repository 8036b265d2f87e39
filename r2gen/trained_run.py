"""A trained run as a Python object: `load_run(DIR).generate(["frontal.png", "lateral.png"])`."""

import os
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import constants
from PIL import Image

from r2gen.build import build_context, build_decoding, build_model, pick_device, uses_bf16
from r2gen.config.compose import compose
from r2gen.config.context import GivenConfig
from r2gen.config.decoding import Decoding
from r2gen.config.names import suggest, unknown_option
from r2gen.config.plain import Plain
from r2gen.config.root import CONF
from r2gen.config.schema import Config
from r2gen.data.cleaning import Cleaner, clean_report
from r2gen.data.collate import collate
from r2gen.data.dataset import Example
from r2gen.data.dicom_tags import with_tags
from r2gen.data.given import given_study, not_used
from r2gen.data.image_input import read_gray
from r2gen.data.studies_in_memory import studies_of
from r2gen.errors import UserError, shown
from r2gen.evaluate.frames import history_frame, html_of, predictions_frame, reports_frame, scores_frame
from r2gen.evaluate.study_reports import write_reports
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
        self.config = config
        self.model, self.checkpoint = trained_model(config, bf16=uses_bf16(config, device), device=device)
        self.decoding = build_decoding(config)
        self.context = build_context(config, self.model.lm.tokenizer)
        self.cleaner: Cleaner = config.data.get("cleaner") or "none"  # of the reports of prior studies
        self.gray_bits: int | None = config.data.get("gray_bits")  # images are read as in training
        self.device = device
        if warm_up and device.type == "cuda":
            self.model.lm.keeps_slots = True
            size = self.model.vision.transform.size_px
            self.generate([Image.new("L", (size, size))])

    def generate(
        self,
        images: Sequence[Any],
        *,
        indication: str | None = None,
        technique: str | None = None,
        comparison: str | None = None,
        age: float | None = None,
        sex: str | None = None,
        positions: Sequence[str] = (),
        prior_images: Sequence[Any] = (),
        prior_positions: Sequence[str] = (),
        prior_days: float | None = None,
        prior_report: str | None = None,
    ) -> str:
        """The report of one study from its images: paths, PIL images, numpy arrays or pydicom datasets.

        A large JPEG file is decoded at a reduced size (data/images.py), unlike a PIL image: at the encoder's size, the
        two differ by less than half a gray level on average. The rest is what is known besides the images: a run uses
        what its group `context` names, and what it does not use is printed (docs/context.md). Raises UserError naming
        an image that cannot be read, or a value that is not valid.
        """
        lists = {"images": images, "positions": positions, "prior_images": prior_images}
        for name, value in (lists | {"prior_positions": prior_positions}).items():
            if not isinstance(value, list | tuple):
                raise UserError(f"{name}: pass a list of {'images' if 'images' in name else 'texts such as PA'}")
        given = GivenConfig(
            indication=indication,
            technique=technique,
            comparison=comparison,
            age=_number(age),
            sex=sex,
            positions=list(positions),
            prior_images=list(prior_images),
            prior_positions=list(prior_positions),
            prior_days=_number(prior_days),
            prior_report=clean_report(prior_report, self.cleaner) if isinstance(prior_report, str) else prior_report,
        )
        if not images:
            raise UserError("a study needs at least one image")
        study = given_study(len(images), given)
        if unused := not_used(study, self.config.context):
            print(unused, file=sys.stderr, flush=True)
        context = None
        if self.context is not None:
            study = with_tags(study, images)
            context = self.context.example(study, self._read(prior_images) if self.context.prior_views(study) else None)
        example = Example(study.id, self._read(images), torch.zeros(0, dtype=torch.long), context)
        return self.model.generate(collate([example]).to(self.device), self.decoding)[0].text

    def _read(self, images: Sequence[Any]) -> torch.Tensor:
        """Images [V, H, W] at the encoder's size."""
        transform = self.model.vision.transform
        read = [read_gray(image, at_least_px=transform.size_px, gray_bits=self.gray_bits) for image in images]
        return torch.stack([transform(image) for image in read])

    def predict(
        self,
        studies: Any,
        *,
        decoding: str | None = None,
        images: str | Path | None = None,
        batch_size: int = 32,
        **options: Any,
    ) -> Any:
        """The reports of many studies, in their order: a list of texts, or a data frame for a data frame.

        A study is one image or a list of images: paths, PIL images, numpy arrays (image_input.py has the scaling) or
        pydicom datasets. A data frame has the columns of a table (docs/own-data.md), whose paths are relative to
        `images` (by default the current folder); its result has id, report and findings. `decoding` is the name of a
        profile in conf/generation, by default the run's own, and `options` change its values, such as num_beams=3.
        Raises UserError naming the study that cannot be read, or the option.
        """
        listed, index = studies_of(studies, images=images)
        profile = self.decoding if decoding is None and not options else self._decoding(decoding, options)
        reports = write_reports(
            self.model,
            listed,
            profile,
            batch_size=batch_size,
            device=self.device,
            decoder=self.model.lm.decoder_for(profile),
            gray_bits=self.gray_bits,
            context=self.context,
        )
        texts = dict[str, str]()
        for written in reports:
            if written.error:
                raise UserError(f"study {written.id}: {written.error}")
            texts[written.id] = written.report
        ordered = [texts[study.id] for study in listed]
        return ordered if index is None else reports_frame([study.id for study in listed], ordered, index)

    def _decoding(self, name: str | None, options: Plain) -> Decoding:
        """A profile by name, with the options changed."""
        profiles = sorted(file.stem for file in (CONF / "generation").glob("*.yaml"))
        if name is not None and name not in profiles:
            raise UserError(
                f"decoding={shown(name)}: choose one of {', '.join(profiles)}{suggest(str(name), profiles)}"
            )
        values = self.config.generation if name is None else compose([f"generation={name}"]).plain["generation"]
        for option in options:
            if option not in (names := [spec.name for spec in fields(Decoding)]):
                raise UserError(unknown_option(option, names))
        return build_decoding(replace(self.config, generation={**values, **options}))

    @property
    def scores(self) -> Any:
        """The scores in metrics.json as a data frame: a row for each split and system, the model and its baselines."""
        return scores_frame(self.config.folder)

    @property
    def predictions(self) -> Any:
        """The reports of val and test next to their references, as a data frame."""
        return predictions_frame(self.config.folder, str(self.config.choices["generation"]))

    @property
    def history(self) -> Any:
        """The steps and validations of the training as a data frame."""
        return history_frame(self.config.folder)

    def __repr__(self) -> str:
        return f"TrainedRun({', '.join(f'{name}={value}' for name, value in self._facts().items())})"

    def _repr_html_(self) -> str:
        return html_of(self._facts(), self.config.folder)

    def _facts(self) -> dict[str, str]:
        choices = {name: str(self.config.choices.get(name)) for name in ("lm", "vision", "data")}
        return {"run": str(self.config.folder), **choices, "device": str(self.device)}


def _number(value: Any) -> Any:
    """A number of numpy, as the cells of a data frame are, as one of Python; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def load_run(run_dir: str | Path, *, device: str = "auto", lm_path: str | None = None) -> TrainedRun:
    """The run in a folder, with its best checkpoint, on `auto`, `cpu` or `cuda`.

    `lm_path` is the folder of the frozen language model, if it is not the one of training. Raises UserError if the
    folder is not a run, if it has no checkpoint yet, or if the files at lm.path or vision.path are not those of
    training. On a GPU the model writes a first report while it loads, for which it is compiled, so that the next ones
    take two thirds of the time.
    """
    folder = RunFolder(Path(run_dir))
    folder.refuse_missing(str(run_dir))
    config = replace(stored.completed(folder), run_dir=str(folder.path))  # it may have been moved
    if lm_path is not None:
        config = replace(config, lm=replace(config.lm, path=lm_path))
    stored.refuse_other_weights(folder, config)
    if "HF_HUB_OFFLINE" not in os.environ:  # huggingface_hub has already read the variable, so its constant is set
        constants.HF_HUB_OFFLINE = config.hub != "online"
    return TrainedRun(config, device=pick_device(device), warm_up=True)
