"""Several data sets as one: data=mix. Each keeps its cleaner and its images, and training draws it by its weight."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from r2gen.config.mixed import WEIGHT, set_targets
from r2gen.config.targets import instantiate
from r2gen.data.reports import SPLITS, DataSource, ImageFile, Study, data_digest, digest_of, image_file_of
from r2gen.errors import UserError, shown

if TYPE_CHECKING:
    from PIL import Image

_OPTION = re.compile(r"(?<![\w./-])data\.(?=[a-z_]+)")  # data.root in a message
_COMPARED = 8  # images of the same name whose pixels are compared


class Mix:
    """The union of data sets, in each split. Ids and views begin with the name of their set, as in "iu_xray/s1".

    `sets` has a node for each name (config/mixed.py): a data set, and a weight, which is how often an epoch draws each
    of its training studies. The studies of a split are in an order in which every part of it has the sets in
    proportion.
    """

    def __init__(self, *, sets: Mapping[str, Any]) -> None:
        self._weights = {name: float(node[WEIGHT]) for name, node in sets.items()}
        self._sets: dict[str, DataSource] = {}
        for name, target in set_targets(sets).items():
            with _naming(name):
                self._sets[name] = instantiate(target)
        self._studies: dict[str, tuple[Study, ...]] = {}

    @classmethod
    def digest(cls, arguments: Mapping[str, Any]) -> str:
        """16 hex digits of the digests of all sets, their names and their weights."""
        digests = {}
        for name, target in set_targets(arguments["sets"]).items():
            with _naming(name):
                digests[name] = data_digest(target)
        twice = [name for name, digest in digests.items() if list(digests.values()).count(digest) > 1]
        if twice:
            raise UserError(f"data.sets: {' and '.join(twice)} are the same data. Leave one out, and give it a weight")
        return digest_of(cls, {name: [digest, arguments["sets"][name][WEIGHT]] for name, digest in digests.items()})

    @property
    def section(self) -> str:
        return _joined(data.section for data in self._sets.values())

    @property
    def cleaner(self) -> str:
        return _joined(data.cleaner for data in self._sets.values())

    def check(self) -> None:
        """Check each set, and refuse images that one set trains on and another one scores."""
        for name, data in self._sets.items():
            with _naming(name):
                data.check()
        self._refuse_shared_images()

    def splits(self) -> Mapping[str, int]:
        """As of the sets together. A set whose splits differ by construction counts as one that names everything."""
        total = {"entries": 0, "study_id": 0, "subject_id": 0}
        for data in self._sets.values():
            named = data.splits()
            count = sum(len(data.studies(split)) for split in SPLITS)
            for key in total:
                total[key] += count if named is None else named[key]
        return total

    def studies(self, split: str) -> Sequence[Study]:
        if split not in self._studies:
            placed = []
            for number, (name, data) in enumerate(self._sets.items()):
                studies = data.studies(split)
                placed += [
                    ((index + 0.5) / len(studies), number, self._named(name, study))
                    for index, study in enumerate(studies)
                ]
            placed.sort(key=lambda place: place[:2])
            self._studies[split] = tuple(study for _, _, study in placed)
        return self._studies[split]

    def image(self, view: str, *, at_least_px: int | None = None) -> "Image.Image":
        name, _, own = view.partition("/")
        return self._sets[name].image(own, at_least_px=at_least_px)

    def image_file(self, view: str) -> ImageFile | None:
        name, _, own = view.partition("/")
        return image_file_of(self._sets[name], own)

    def _named(self, name: str, study: Study) -> Study:
        def mine(text: str) -> str:
            return f"{name}/{text}"

        prior = study.prior
        return replace(
            study,
            id=mine(study.id),
            views=tuple(map(mine, study.views)),
            patient=None if study.patient is None else mine(study.patient),
            prior=None if prior is None else replace(prior, id=mine(prior.id), views=tuple(map(mine, prior.views))),
            set=name,
            weight=self._weights[name],
        )

    def _refuse_shared_images(self) -> None:
        """Raise UserError where an image of one set's training is in val or test of another: scores would be too high.

        Images of the same name are compared by their pixels: PadChest-GR is a part of PadChest, for example.
        """
        views = {name: {split: _by_name(data.studies(split)) for split in SPLITS} for name, data in self._sets.items()}
        for trained, of_trained in views.items():
            for scored, of_scored in views.items():
                for split in ("val", "test") if scored != trained else ():
                    shared = sorted(of_trained["train"].keys() & of_scored[split].keys())
                    looked_at = shared[:: -(-len(shared) // _COMPARED) or 1]
                    pairs = [(of_trained["train"][name], of_scored[split][name]) for name in looked_at]
                    same = [pair for pair in pairs if self._equal((trained, pair[0]), (scored, pair[1]))]
                    if same:
                        raise UserError(
                            f"data.sets: image {shown(same[0][0])} of the training of {trained} is also in {split} of "
                            f"{scored}, and {len(shared):,} images have the same names. Leave one of the sets out"
                        )

    def _equal(self, *images: tuple[str, str]) -> bool:
        first, second = (self._sets[name].image(view) for name, view in images)
        return first.size == second.size and first.tobytes() == second.tobytes()


def _by_name(studies: Sequence[Study]) -> dict[str, str]:
    """The views of studies by the name of their file, if no other one has it, or else by their path."""
    views = [view for study in studies for view in study.views]
    names: dict[str, int] = {}
    for view in views:
        names[PurePosixPath(view).name] = names.get(PurePosixPath(view).name, 0) + 1
    return {(name if names[name := PurePosixPath(view).name] == 1 else view): view for view in views}


def _joined(values: Iterator[str]) -> str:
    """The value of all sets, or their different ones, as in "iu_xray+none"."""
    return "+".join(dict.fromkeys(values))


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Let messages about a set name its options: data.root becomes data.sets.<name>.root."""
    try:
        yield
    except UserError as error:
        text = _OPTION.sub(f"data.sets.{name}.", str(error))
        raise UserError(text if text != str(error) else f"data.sets.{name}: {error}", code=error.code) from error
