"""Reports of the baselines of a run, which ignore the study's images."""

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from r2gen.data.dataset import StudyDataset
from r2gen.data.reports import ReportData
from r2gen.errors import UserError
from r2gen.evaluate.baselines import BASELINE_SEED, Selection, constant_report, random_reports
from r2gen.evaluate.nearest import SmallImages, nearest_studies, read_nearest, spread, write_nearest
from r2gen.ranks.forked import Fork, Forked

_IMAGES_PER_PROCESS = 500


class BaselineReports:
    """Makes the reports of each baseline.

    `trained_on` has train and val of the training, if `datasets` are those of another data set; `data` then reads the
    images of both. `nearest_file` stores the nearest studies for later evaluations; `nearest_most` is the number of
    training studies that are searched for them, 0 for no such baseline; `data_hash` identifies the data set.
    """

    def __init__(
        self,
        *,
        data: ReportData,
        datasets: Mapping[str, StudyDataset],
        data_hash: str,
        nearest_file: Path,
        nearest_most: int,
        trained_on: Mapping[str, StudyDataset] | None = None,
    ) -> None:
        self.data, self.datasets, self.data_hash = data, datasets, data_hash
        self.nearest_file, self.nearest_most = nearest_file, nearest_most
        self.trained_on = trained_on or datasets

    def train_reports(self) -> list[str]:
        return [study.report for study in self.trained_on["train"].studies]

    def constant(self, selection: Selection) -> str | None:
        """The training report with the highest `selection` when given to every validation study.

        None if a split is empty.
        """
        train, val = self.train_reports(), self.trained_on["val"].studies
        if not train or not val:
            return None
        return constant_report(train, {study.id: study.report for study in val}, selection)

    def nearest(self, splits: Sequence[str], *, fork: Fork) -> Generator[Forked[Any], None, dict[str, str]]:
        """The training study with the nearest images for each study of the splits; empty without this baseline.

        Yields the processes that read the images, so that the caller need not wait for them.
        """
        train = spread(self.trained_on["train"].studies, self.nearest_most)
        if not train:
            return {}
        stored = read_nearest(self.nearest_file, data_hash=self.data_hash, compared=len(train))
        names = {study.id for study in train}
        nearest = {id: match for id, match in stored.items() if match in names}  # the file may have been edited
        missing = [study for split in splits for study in self.datasets[split].studies if study.id not in nearest]
        if missing:
            views = [view for study in (*train, *missing) for view in study.views]
            processes = min(len(os.sched_getaffinity(0)) // 2, len(views) // _IMAGES_PER_PROCESS) or 1
            images = SmallImages(self.data, views, processes=processes, fork=fork)
            try:
                for reader in images.readers:
                    yield reader
                    reader.result()
            except UserError as error:
                raise UserError(
                    f'{error} (the baseline "nearest" reads training images; evaluate.nearest_studies=0 leaves it out)',
                    code=error.code,
                ) from error
            search = fork(lambda: nearest_studies(images, train, missing))
            yield search
            nearest |= search.result()
            write_nearest(self.nearest_file, nearest, data_hash=self.data_hash, compared=len(train))
        return nearest

    def searched(self) -> dict[str, int]:
        """How many of the training studies are searched for the nearest images, as metrics.json has it."""
        train = len(self.trained_on["train"])
        return {"compared": min(self.nearest_most, train), "train": train}

    def reports(
        self, ids: Iterable[str], *, constant: str | None, nearest: Mapping[str, str]
    ) -> dict[str, dict[str, str]]:
        """Baseline to its reports of these studies, without baselines that are impossible, and without `shuffled`."""
        train, ids = self.trained_on["train"].studies, list(ids)
        reports = {}
        if constant is not None:
            reports["constant"] = dict.fromkeys(ids, constant)
        if train:
            reports["random"] = random_reports(ids, self.train_reports(), seed=BASELINE_SEED)
        if nearest:
            by_id = {study.id: study.report for study in train}
            reports["nearest"] = {id: by_id[nearest[id]] for id in ids}
        return reports
