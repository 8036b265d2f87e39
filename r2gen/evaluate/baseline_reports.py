"""Reports of the baselines of a run, which ignore the study's images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from r2gen.data.dataset import StudyDataset
from r2gen.data.reports import ReportData
from r2gen.errors import UserError
from r2gen.evaluate.baselines import BASELINE_SEED, Selection, constant_report, random_reports, shuffled_reports
from r2gen.evaluate.nearest import joined, nearest_studies, read_nearest, spread, write_nearest
from r2gen.ranks import dist
from r2gen.ranks.stop import StopRequest


class BaselineReports:
    """Makes the reports of each baseline.

    `nearest_file` stores the nearest studies for later evaluations; `nearest_most` is the number of training studies
    that are searched for them, 0 for no such baseline; `data_hash` identifies the data set.
    """

    def __init__(
        self,
        *,
        data: ReportData,
        datasets: Mapping[str, StudyDataset],
        data_hash: str,
        nearest_file: Path,
        nearest_most: int,
        stop: StopRequest,
    ) -> None:
        self.data, self.datasets, self.data_hash, self.stop = data, datasets, data_hash, stop
        self.nearest_file, self.nearest_most = nearest_file, nearest_most

    def train_reports(self) -> list[str]:
        return [study.report for study in self.datasets["train"].studies]

    def constant(self, selection: Selection) -> str | None:
        """The training report with the highest `selection` when given to every validation study.

        None if a split is empty.
        """
        train, val = self.train_reports(), self.datasets["val"].studies
        if not train or not val:
            return None
        return constant_report(train, {study.id: study.report for study in val}, selection)

    def nearest(self, splits: Sequence[str]) -> dict[str, str]:
        """The training study with the nearest images for each study of the splits; empty without this baseline.

        Every rank calls this, and searches its share of the training studies.
        """
        train = spread(self.datasets["train"].studies, self.nearest_most)
        if not train:
            return {}
        stored = {}
        if dist.is_first():
            stored = read_nearest(self.nearest_file, data_hash=self.data_hash, compared=len(train))
            names = {study.id for _, study in train}  # the file may have been edited
            stored = {id: match for id, match in stored.items() if match in names}
        nearest = dist.first_of([stored])
        missing = [study for split in splits for study in self.datasets[split].studies if study.id not in nearest]
        if not missing:
            return nearest
        try:
            matches = nearest_studies(
                self.data, train[dist.rank() :: dist.world()], missing, each=self.stop.leave_if_requested
            )
        except UserError as error:
            raise UserError(
                f'{error} (the baseline "nearest" reads training images; evaluate.nearest_studies=0 leaves it out)'
            ) from error
        nearest |= joined(dist.gather(matches))
        if dist.is_first():
            write_nearest(self.nearest_file, nearest, data_hash=self.data_hash, compared=len(train))
        return nearest

    def searched(self) -> dict[str, int]:
        """How many of the training studies are searched for the nearest images, as metrics.json has it."""
        train = len(self.datasets["train"])
        return {"compared": min(self.nearest_most, train), "train": train}

    def reports(
        self, model: Mapping[str, str], *, constant: str | None, nearest: Mapping[str, str]
    ) -> dict[str, dict[str, str]]:
        """Baseline to its reports of the studies that `model` has reports of; without baselines that are impossible."""
        train = self.datasets["train"].studies
        reports = {}
        if constant is not None:
            reports["constant"] = dict.fromkeys(model, constant)
        if train:
            reports["random"] = random_reports(model, self.train_reports(), seed=BASELINE_SEED)
        if nearest:
            by_id = {study.id: study.report for study in train}
            reports["nearest"] = {id: by_id[nearest[id]] for id in model}
        if len(model) > 1:
            reports["shuffled"] = shuffled_reports(model, seed=BASELINE_SEED)
        return reports
