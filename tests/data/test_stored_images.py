"""trainer.image_cache: images are decoded once, as long as their files stay the same."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import composed
from forked_run import run
from PIL import Image
from smallest_run import SMALLEST

from r2gen.data import stored_images
from r2gen.data.annotation import AnnotatedReports
from r2gen.data.reports import ImageFile, image_file_of
from r2gen.data.share import TrainShare
from r2gen.data.stored_images import StoredImages
from r2gen.errors import UserError
from r2gen.launch.paths import with_absolute_paths
from r2gen.vision.transforms import ImageTransform

SIZE_PX = 32


class Decoder:
    """Reads images of a folder, and counts them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.read = folder, 0

    def __call__(self, view: str) -> torch.Tensor:
        self.read += 1
        with Image.open(self.folder / view) as image:
            return ImageTransform(SIZE_PX)(image)

    def file(self, view: str) -> ImageFile:
        return ImageFile(self.folder / view)


@pytest.fixture
def decoder(tmp_path: Path) -> Decoder:
    write_image(tmp_path / "a.png", seed=0)
    return Decoder(tmp_path)


def write_image(file: Path, *, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 255, (50, 40), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


def images(decoder: Decoder, *, size_px: int = SIZE_PX) -> StoredImages:
    return StoredImages(decoder, folder=decoder.folder / "cache", size_px=size_px, file_of=decoder.file)


def stored(decoder: Decoder) -> list[Path]:
    return sorted((decoder.folder / "cache").rglob("*.gray"))


def test_an_image_is_decoded_once_by_any_number_of_trainings(decoder: Decoder):
    first, second = images(decoder)("a.png"), images(decoder)("a.png")
    assert decoder.read == 1
    assert first.dtype == second.dtype == torch.uint8
    assert torch.equal(first, second)
    (decoder.folder / "copy.png").write_bytes((decoder.folder / "a.png").read_bytes())
    assert torch.equal(images(decoder)("copy.png"), first)
    assert decoder.read == 1
    assert len(stored(decoder)) == 1


def test_a_file_that_is_replaced_is_decoded_again(decoder: Decoder):
    before = images(decoder)("a.png")
    write_image(decoder.folder / "a.png", seed=1)
    after = images(decoder)("a.png")
    assert decoder.read == 2
    assert torch.equal(after, decoder("a.png"))
    assert not torch.equal(before, after)


def test_gray_levels_that_are_read_otherwise_are_another_image(decoder: Decoder, monkeypatch: pytest.MonkeyPatch):
    images(decoder)("a.png")
    monkeypatch.setattr(decoder, "file", lambda view: ImageFile(decoder.folder / view, gray_bits=12))
    images(decoder)("a.png")
    monkeypatch.setattr(stored_images, "version_of", lambda package: f"next {package}")
    images(decoder)("a.png")
    assert decoder.read == len(stored(decoder)) == 3


@pytest.mark.parametrize("damage", ["empty", "torn", "zeros", "other pixels", "pipe", "folder", "link to nothing"])
def test_a_damaged_file_is_decoded_again(damage: str, decoder: Decoder):
    expected = images(decoder)("a.png")
    (file,) = stored(decoder)
    whole = file.read_bytes()
    if damage in ("empty", "torn", "zeros", "other pixels"):
        contents = {"empty": b"", "torn": whole[:50], "zeros": bytes(len(whole)), "other pixels": b"!!" + whole[2:]}
        file.write_bytes(contents[damage])
        readable = True
    else:
        file.unlink()
        make = {"pipe": os.mkfifo, "folder": Path.mkdir, "link to nothing": lambda path: path.symlink_to("nothing")}
        make[damage](file)
        readable = damage != "folder"  # which a file does not replace
    assert torch.equal(images(decoder)("a.png"), expected)
    assert torch.equal(images(decoder)("a.png"), expected)
    assert decoder.read == (2 if readable else 3)


def test_a_file_that_is_replaced_while_it_is_decoded_is_not_stored(decoder: Decoder):
    cache = images(decoder)

    def load(view: str) -> torch.Tensor:
        write_image(decoder.folder / view, seed=1)
        return decoder(view)

    cache.load = load
    cache("a.png")
    assert stored(decoder) == []


def test_a_full_disk_stops_no_training(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stored_images.Path, "replace", fail)
    cache = images(decoder)
    for _ in range(2):
        assert torch.equal(cache("a.png"), decoder("a.png"))
    assert capsys.readouterr().out.count("no more images are stored (No space left on device)") == 1
    assert [file for file in (decoder.folder / "cache").rglob("*") if file.is_file()] == []


def test_a_folder_that_is_removed_is_made_again(decoder: Decoder):
    cache = images(decoder)
    shutil.rmtree(decoder.folder / "cache")
    cache("a.png")
    assert len(stored(decoder)) == 1


def test_a_folder_that_cannot_be_made_is_named(decoder: Decoder):
    (decoder.folder / "cache").write_text("a file")
    with pytest.raises(UserError, match=r"trainer.image_cache=.*cache cannot be made"):
        images(decoder)


def test_an_image_without_a_file_is_not_stored(decoder: Decoder):
    cache = StoredImages(decoder, folder=decoder.folder / "cache", size_px=SIZE_PX, file_of=lambda view: None)
    cache("a.png")
    assert stored(decoder) == []
    with pytest.raises(FileNotFoundError):
        images(decoder)("missing.png")


def annotated(folder: Path, *, studies: int = 8) -> Path:
    (folder / "images").mkdir(parents=True)
    splits = {}
    for split in ("train", "val", "test"):
        splits[split] = []
        for number in range(studies):
            name = f"{split}-{number}.png"
            write_image(folder / "images" / name, seed=hash((split, number)) % 1000)
            report = f"no effusion . nodule {'in both lungs' if number % 2 else 'in the left lung'} ."
            splits[split].append({"id": f"{split}-{number}", "report": report, "image_path": [name]})
    (folder / "annotation.json").write_text(json.dumps(splits))
    return folder


def test_a_data_set_names_the_file_of_an_image_also_through_a_share_of_it(tmp_path: Path):
    data = AnnotatedReports(root=str(annotated(tmp_path / "data")), cleaner="none", gray_bits=12)
    expected = ImageFile(tmp_path / "data" / "images" / "val-3.png", gray_bits=12)
    assert image_file_of(data, "val-3.png") == expected
    assert image_file_of(TrainShare(data, 0.5), "val-3.png") == expected


def test_the_folder_is_absolute_in_the_run_and_may_not_be_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    config = with_absolute_paths(composed("trainer.image_cache=cache"))
    assert config.trainer.image_cache == str(tmp_path / "cache")
    with pytest.raises(UserError, match=r"trainer\.image_cache, .* cannot be empty"):
        composed("trainer.image_cache=")


@pytest.mark.slow
def test_trainings_with_and_without_the_folder_have_the_same_scores(tmp_path: Path):
    annotated(tmp_path / "data")
    smallest = [word for word in SMALLEST if not word.startswith("data.")]
    words = [*smallest, "data=iu_xray", "data.root=data", "data.cleaner=none", "evaluate.nearest_studies=0"]
    results = {}
    for name, more in {
        "plain": [],
        "first": ["trainer.image_cache=cache"],
        "second": ["trainer.image_cache=cache", "trainer.workers=2"],
    }.items():
        done = run(*words, *more, f"run_dir={name}", cwd=tmp_path, smallest=False)
        assert done.returncode == 0, done.stdout + done.stderr
        results[name] = (tmp_path / name / "metrics.json").read_text()
    assert len(list((tmp_path / "cache").rglob("*.gray"))) == 24
    scores = [json.loads(text)["splits"] for text in results.values()]
    assert scores[0] == scores[1] == scores[2]
