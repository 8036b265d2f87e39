"""The nearest image is found by pixels alone: whatever the brightness, the order of views, the blocks and the ranks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import r2gen.evaluate.nearest as nearest
from r2gen.data.phantom import Phantom
from r2gen.data.reports import Study
from r2gen.errors import UserError
from r2gen.evaluate.nearest import joined, nearest_studies, read_nearest, spread, write_nearest


class Drawn:
    """Images by name: "3" is noise from seed 3, "3 dark" the same image darker and of another size."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def studies(self, split: str) -> list[Study]:
        raise AssertionError(f"{split}: images are asked for, not studies")

    def image(self, view: str, *, at_least_px: int | None = None) -> Image.Image:
        self.read.append(view)
        seed, _, kind = view.partition(" ")
        if seed == "black":
            return Image.new("L", (64, 64))
        coarse = Image.fromarray(np.random.default_rng(int(seed)).integers(40, 200, (8, 8), dtype=np.uint8))
        image = coarse.resize((128, 128), Image.Resampling.BICUBIC)
        return image.point(lambda value: value / 2 + 5).resize((300, 300)) if kind == "dark" else image


def study(id: str, *views: str) -> Study:
    return Study(id=id, views=views, report=f"report of {id}")


TRAIN = [study(f"t{number}", str(number), str(number + 100)) for number in range(20)]


def found(train: list[Study], *asked: Study) -> dict[str, str]:
    return joined([nearest_studies(Drawn(), list(enumerate(train)), asked)])


def test_neither_brightness_nor_size_nor_the_order_and_number_of_views_counts() -> None:
    asked = (
        study("dark", "7 dark", "107"),
        study("turned", "108 dark", "8"),
        study("one", "109"),
        study("three", "10", "110", "10 dark"),
    )
    assert found(TRAIN, *asked) == {"dark": "t7", "turned": "t8", "one": "t9", "three": "t10"}


def test_of_equal_studies_the_first_counts_and_a_black_image_is_like_none() -> None:
    twins = [*TRAIN, study("twin", "107", "7"), study("black", "black")]
    assert found(twins, study("asked", "7", "107")) == {"asked": "t7"}
    assert found(twins[::-1], study("asked", "7", "107")) == {"asked": "twin"}
    assert found(TRAIN, study("black", "black")) == {"black": "t0"}


def test_a_study_is_not_its_own_nearest() -> None:
    assert found([*TRAIN, study("twin", "3", "103")], TRAIN[3]) == {"t3": "twin"}


def test_blocks_and_ranks_change_nothing_and_training_images_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Phantom(train_studies=30, val_studies=12, test_studies=0, size_px=32, version=1)
    train, asked = list(enumerate(data.studies("train"))), data.studies("val")
    whole = joined([nearest_studies(data, train, asked)])
    assert list(whole) == [one.id for one in asked]
    monkeypatch.setattr(nearest, "_BLOCK", 7)
    monkeypatch.setattr(nearest, "_QUERIES", 5)
    assert joined(nearest_studies(data, train[rank::3], asked) for rank in range(3)) == whole
    drawn = Drawn()
    nearest_studies(drawn, list(enumerate(TRAIN)), TRAIN[:11])
    assert sorted(drawn.read) == sorted([v for s in TRAIN for v in s.views] + [v for s in TRAIN[:11] for v in s.views])


def test_of_too_many_training_studies_evenly_spread_ones_are_looked_through() -> None:
    assert [place for place, _ in spread(TRAIN, 5)] == [0, 4, 8, 12, 16]
    assert spread(TRAIN, 0) == []
    assert spread(TRAIN, 99) == list(enumerate(TRAIN))


def test_what_was_found_is_kept_for_the_same_data_only(tmp_path: Path) -> None:
    file = tmp_path / "nearest.json"
    assert read_nearest(file, data_hash="a", compared=20) == {}
    write_nearest(file, {"v": "t1"}, data_hash="a", compared=20)
    assert read_nearest(file, data_hash="a", compared=20) == {"v": "t1"}
    assert read_nearest(file, data_hash="b", compared=20) == read_nearest(file, data_hash="a", compared=5) == {}
    for torn in ('{"forma', "[]", "{}"):
        file.write_text(torn)
        assert read_nearest(file, data_hash="a", compared=20) == {}


def test_a_image_that_cannot_be_read_is_an_error() -> None:
    class Broken(Drawn):
        def image(self, view: str, *, at_least_px: int | None = None) -> Image.Image:
            raise UserError(f"image {view} does not exist")

    with pytest.raises(UserError, match="image 0 does not exist"):
        nearest_studies(Broken(), list(enumerate(TRAIN)), TRAIN[:1])


def test_each_image_is_read_once() -> None:
    """benchmarks/speed.py shows that comparing takes less time than reading."""
    data, train = Drawn(), [study(str(number), f"{number}", f"{number} dark") for number in range(600)]
    requested = [study(f"requested {number}", f"{1000 + number}") for number in range(5)]
    nearest_studies(data, list(enumerate(train)), requested)
    assert sorted(data.read) == sorted(view for one in (*train, *requested) for view in one.views)
