"""External evaluation: a run scored on another data set than that of its training, in a folder of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from PIL import Image

from r2gen.build import Job, build_data, build_datasets
from r2gen.config.schema import Config
from r2gen.config.targets import Target
from r2gen.data.dataset import StudyDataset
from r2gen.data.reports import ImageFile, ReportData, Study, data_digest, image_file_of
from r2gen.errors import UserError
from r2gen.ranks import dist
from r2gen.runs import stored
from r2gen.runs.folder import RunFolder

OF_TRAINING = "\0"  # begins the names of training images, which may be those of the other data set: no name has it


def is_external(config: Config, data_hash: str) -> bool:
    """Whether the run in run_dir was trained on another data set. An imported run does not know its data."""
    folder = RunFolder(config.folder)
    before = folder.facts().get("data_hash")
    if before is None or before == data_hash:  # a digest reads the whole annotation
        return False
    names = folder.config()["data"]  # options that the class has gained since the training do not count
    arguments = {key: value for key, value in config.data.arguments.items() if key in names}
    return bool(before != data_digest(Target(config.data.name, arguments)))


def training_data(config: Config, job: Job) -> tuple[ReportData, dict[str, StudyDataset]]:
    """The data sets of the baselines: train and val of the training, from which their reports come, and images of both.

    They are empty if the training data is not on this machine.
    """
    try:
        own = replace(config, data=stored.completed(RunFolder(config.folder)).data)
        data = build_data(own)
        datasets = {split: build_datasets(own, data, job.model)[split] for split in ("train", "val")}
    except UserError as error:
        if dist.is_first():
            print(f"without baselines, whose reports come from the data set of the training: {error}", flush=True)
        return job.data, {split: job.datasets[split].first(0) for split in ("train", "val")}
    train = datasets["train"]
    if dist.is_first():
        _name_trained(train.studies, {split: job.datasets[split].studies for split in config.evaluate.splits})
    studies = [replace(study, views=tuple(OF_TRAINING + view for view in study.views)) for study in train.studies]
    datasets["train"] = train.of(studies)
    return _ImagesOfBoth(training=data, other=job.data), datasets


def _name_trained(trained: Sequence[Study], splits: Mapping[str, Sequence[Study]]) -> None:
    """Print how many studies of each split were trained on, by id and report: their scores are not of unseen data."""
    seen = {(study.id, study.report) for study in trained}
    for split, studies in splits.items():
        count = sum((study.id, study.report) in seen for study in studies)
        if count:
            print(
                f"{count:,} of {len(studies):,} studies of {split} have the id and the report of a study that this run "
                "was trained on: its scores there are too high; leave those studies out",
                flush=True,
            )


class _ImagesOfBoth:
    """The other data set, which also has the images of the training."""

    def __init__(self, *, training: ReportData, other: ReportData) -> None:
        self.training, self.other = training, other

    @property
    def section(self) -> str:
        return self.other.section

    @property
    def cleaner(self) -> str:
        return self.other.cleaner

    def studies(self, split: str) -> Sequence[Study]:
        return self.other.studies(split)

    def image(self, view: str, *, at_least_px: int | None = None) -> Image.Image:
        if view.startswith(OF_TRAINING):
            return self.training.image(view.removeprefix(OF_TRAINING), at_least_px=at_least_px)
        return self.other.image(view, at_least_px=at_least_px)

    def image_file(self, view: str) -> ImageFile | None:
        if view.startswith(OF_TRAINING):
            return image_file_of(self.training, view.removeprefix(OF_TRAINING))
        return image_file_of(self.other, view)


def external_name(config: Config, data_hash: str) -> str:
    """The name of the folder of the results on a data set, below `external` in the run folder."""
    return f"{config.choices['data']}-{data_hash[:8]}"
