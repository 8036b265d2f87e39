"""The nearest image depends on pixels alone, not on brightness, the order of views, blocks and processes."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import r2gen.evaluate.nearest as nearest
from r2gen.data.phantom import Phantom
from r2gen.data.reports import Study
from r2gen.errors import UserError
from r2gen.evaluate.nearest import SmallImages, nearest_studies, read_nearest, small_image, spread, write_nearest
from r2gen.ranks.forked import Forked


class NoiseImages:
    """Images by name: "3" is noise from seed 3, "3 dark" the same image darker and of another size."""

    def __init__(self) -> None:
        self.views: list[str] = []

    def studies(self, split: str) -> list[Study]:
        raise AssertionError(f"{split}: only images may be read")

    def image(self, view: str, *, at_least_px: int | None = None) -> Image.Image:
        self.views.append(view)
        seed, _, kind = view.partition(" ")
        if seed == "black":
            return Image.new("L", (64, 64))
        coarse = Image.fromarray(np.random.default_rng(int(seed)).integers(40, 200, (8, 8), dtype=np.uint8))
        image = coarse.resize((128, 128), Image.Resampling.BICUBIC)
        return image.point(lambda value: value / 2 + 5).resize((300, 300)) if kind == "dark" else image


def study(id: str, *views: str) -> Study:
    return Study(id=id, views=views, report=f"report of {id}")


TRAIN = [study(f"t{number}", str(number), str(number + 100)) for number in range(20)]


def nearest_of(train: list[Study], *queried: Study) -> dict[str, str]:
    return nearest_studies(partial(small_image, NoiseImages()), train, queried)


def test_brightness_size_and_the_order_and_number_of_views_do_not_count() -> None:
    queried = (
        study("dark", "7 dark", "107"),
        study("turned", "108 dark", "8"),
        study("one", "109"),
        study("three", "10", "110", "10 dark"),
    )
    assert nearest_of(TRAIN, *queried) == {"dark": "t7", "turned": "t8", "one": "t9", "three": "t10"}


def test_among_equal_studies_the_first_wins_and_a_black_image_is_similar_to_none() -> None:
    twins = [*TRAIN, study("twin", "107", "7"), study("black", "black")]
    assert nearest_of(twins, study("queried", "7", "107")) == {"queried": "t7"}
    assert nearest_of(twins[::-1], study("queried", "7", "107")) == {"queried": "twin"}
    assert nearest_of(TRAIN, study("black", "black")) == {"black": "t0"}


def test_a_study_is_not_its_own_nearest() -> None:
    assert nearest_of([*TRAIN, study("twin", "3", "103")], TRAIN[3]) == {"t3": "twin"}


def test_blocks_and_processes_change_nothing_and_each_image_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Phantom(train_studies=30, val_studies=12, test_studies=0, size_px=32, version=1)
    train, val = data.studies("train"), data.studies("val")
    whole = nearest_studies(partial(small_image, data), train, val)
    assert list(whole) == [study.id for study in val]
    monkeypatch.setattr(nearest, "_BLOCK", 7)
    monkeypatch.setattr(nearest, "_QUERIES", 5)
    views = [view for study in (*train, *val) for view in study.views]
    images = SmallImages(data, views, processes=3, fork=Forked)
    for reader in images.readers:
        reader.result()
    assert nearest_studies(images, train, val) == whole
    noise = NoiseImages()
    nearest_studies(partial(small_image, noise), TRAIN, TRAIN[:11])
    assert sorted(noise.views) == sorted(view for study in [*TRAIN, *TRAIN[:11]] for view in study.views)


def test_a_limited_search_takes_evenly_spaced_training_studies() -> None:
    assert spread(TRAIN, 5) == TRAIN[::4]
    assert spread(TRAIN, 0) == []
    assert spread(TRAIN, 99) == TRAIN


def test_a_search_is_reused_for_the_same_data_and_number_of_studies_only(tmp_path: Path) -> None:
    file = tmp_path / "nearest.json"
    assert read_nearest(file, data_hash="a", compared=20) == {}
    write_nearest(file, {"v": "t1"}, data_hash="a", compared=20)
    assert read_nearest(file, data_hash="a", compared=20) == {"v": "t1"}
    assert read_nearest(file, data_hash="b", compared=20) == read_nearest(file, data_hash="a", compared=5) == {}
    for torn in ('{"forma', "[]", "{}"):
        file.write_text(torn)
        assert read_nearest(file, data_hash="a", compared=20) == {}


def test_an_image_that_cannot_be_read_is_an_error() -> None:
    class Broken(NoiseImages):
        def image(self, view: str, *, at_least_px: int | None = None) -> Image.Image:
            raise UserError(f"image {view} does not exist")

    with pytest.raises(UserError, match="image 0 does not exist"):
        SmallImages(Broken(), TRAIN[0].views, processes=1, fork=Forked).readers[0].result()


def test_each_image_is_read_once() -> None:
    """benchmarks/speed.py shows that comparing takes less time than reading."""
    images, train = NoiseImages(), [study(str(number), f"{number}", f"{number} dark") for number in range(600)]
    queried = [study(f"queried {number}", f"{1000 + number}") for number in range(5)]
    nearest_studies(partial(small_image, images), train, queried)
    assert sorted(images.views) == sorted(view for study in (*train, *queried) for view in study.views)
