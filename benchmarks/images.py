"""Images read per second and core, from large JPEG and DICOM files, next to the way of R2GenGPT:

    PYTHONPATH=. python benchmarks/images.py [--size 2500x3000] [--times 5] [--workers 8]

Writes pictures of that size with the sharpness and noise of a radiograph as JPEG (quality 95) and as DICOM (12 bits of
16, uncompressed and JPEG 2000), and reads them for an encoder of 224 px. R2GenGPT's way (`FieldParser.parse`): Pillow
opens the file, converts it to RGB and decodes all of it, and the feature extractor resizes three channels (bicubic) and
normalises them. It reads no DICOM, so a DICOM is compared with the JPEG of its picture. Prints milliseconds of CPU per
image, the best of several runs, by how many gray levels (of 255) the two squares differ, and the milliseconds of an
image that trainer.image_cache has stored. With --workers, also the images per second that a loader with so many
processes gives to a training.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from r2gen.data.dataset import StudyDataset
from r2gen.data.images import read_image
from r2gen.data.loader import evaluation_loader
from r2gen.data.reports import ImageFile, Study
from r2gen.data.stored_images import StoredImages
from r2gen.vision.transforms import ImageTransform

ENCODER_PX = 224


def picture(width: int, height: int) -> NDArray[np.uint16]:
    """A picture of 12 bits: soft shapes, edges and quantum noise."""
    draw = np.random.default_rng(0)
    coarse = Image.fromarray(draw.uniform(300, 3300, (14, 12)).astype(np.float32))
    soft = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    fine = Image.fromarray(draw.normal(0, 120, (height // 8, width // 8)).astype(np.float32))
    edges = np.asarray(fine.resize((width, height), Image.Resampling.NEAREST))
    return np.clip(soft + edges + draw.normal(0, 40, (height, width)), 0, 4095).astype(np.uint16)


def write_dicom(file: Path, pixels: NDArray[np.uint16], *, jpeg_2000: bool) -> None:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, JPEG2000Lossless

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    image = FileDataset(str(file), {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PixelRepresentation, image.PhotometricInterpretation = 1, 0, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.WindowCenter, image.WindowWidth = 2048, 4096
    image.PixelData = pixels.tobytes()
    if jpeg_2000:
        image.compress(JPEG2000Lossless)
    image.save_as(file, enforce_file_format=True)


def ours(file: Path) -> torch.Tensor:
    transform = ImageTransform(ENCODER_PX)
    return transform(read_image(file, at_least_px=transform.size_px))


def originals(file: Path) -> torch.Tensor:
    """What R2GenGPT gives to its encoder, [3, 224, 224], normalised as ImageNet."""
    with Image.open(file) as opened:
        array = np.array(opened.convert("RGB"))
    small = Image.fromarray(array).resize((ENCODER_PX, ENCODER_PX), Image.Resampling.BICUBIC)
    scaled = np.asarray(small).astype(np.float32) * np.float32(1 / 255)
    normal = (scaled - np.float32((0.485, 0.456, 0.406))) / np.float32((0.229, 0.224, 0.225))
    return torch.from_numpy(normal.transpose(2, 0, 1).copy())


def image_file(view: str) -> ImageFile:
    return ImageFile(Path(view))


def best_ms(work: Callable[[], object], times: int) -> float:
    spent = []
    for _ in range(times):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return min(spent) * 1e3


def loaded_per_s(file: Path, workers: int, *, read: Callable[[Path], torch.Tensor]) -> float:
    """Images per second from a loader, after its processes have started."""
    studies = [Study(id=str(number), views=(str(file),), report="") for number in range(100 * workers)]
    dataset = StudyDataset(studies, image=lambda view: read(Path(view)), encode=lambda report: [1])
    batches = iter(evaluation_loader(dataset, batch_size=8, rank=0, world=1, workers=workers, pin=False))
    for _ in range(workers):
        next(batches)
    began = time.perf_counter()
    images = sum(len(batch.ids) for batch in batches)
    return images / (time.perf_counter() - began)


def main(width: int, height: int, times: int, workers: int) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as top:
        folder, pixels = Path(top), picture(width, height)
        gray = Image.fromarray((pixels / 4095 * 255 + 0.5).astype(np.uint8))
        gray.save(folder / "a.jpg", quality=95)
        write_dicom(folder / "a.dcm", pixels, jpeg_2000=False)
        write_dicom(folder / "b.dcm", pixels, jpeg_2000=True)
        theirs_ms = best_ms(lambda: originals(folder / "a.jpg"), times)
        square = originals(folder / "a.jpg")[0] * 0.229 * 255 + 0.485 * 255
        print(f"{width} x {height} to {ENCODER_PX} px, one core", flush=True)
        print(f"{'':28} {'MiB':>5} {'ms':>7} {'images/s':>9} {'ratio':>6}  gray levels apart: mean, most")
        print(f"{'R2GenGPT, JPEG':28} {_mib(folder / 'a.jpg'):5.1f} {theirs_ms:7.1f} {1e3 / theirs_ms:9.1f}")
        for name, title in (("a.jpg", "JPEG"), ("a.dcm", "DICOM, uncompressed"), ("b.dcm", "DICOM, JPEG 2000")):
            file = folder / name
            ms = best_ms(lambda file=file: ours(file), times)  # type: ignore[misc]
            apart = (ours(file).float() - square).abs()
            print(
                f"{title:28} {_mib(file):5.1f} {ms:7.1f} {1e3 / ms:9.1f} {theirs_ms / ms:6.2f}  {apart.mean():.2f}, "
                f"{apart.max():.0f}",
                flush=True,
            )
            cache = StoredImages(
                lambda view: ours(Path(view)), folder=folder / "cache", size_px=ENCODER_PX, file_of=image_file
            )
            stored_ms = best_ms(lambda: cache(str(file)), times + 1)  # noqa: B023  called at once
            print(f"{'  stored before':28} {'':5} {stored_ms:7.1f} {1e3 / stored_ms:9.1f} {theirs_ms / stored_ms:6.2f}")
            if workers:
                for when, read in (("", ours), (", stored before", lambda file: cache(str(file)))):  # noqa: B023
                    per_s = loaded_per_s(file, workers, read=read)
                    print(f"{f'  from {workers} processes{when}':33} {per_s:18.1f}", flush=True)


def _mib(file: Path) -> float:
    return file.stat().st_size / 2**20


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="2500x3000")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    main(*map(int, options.size.split("x")), options.times, options.workers)
