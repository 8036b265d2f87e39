"""What the header of a DICOM file says about its image and patient: position, age and sex."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from r2gen.data.age_and_sex import age_of, sex_of
from r2gen.data.dicom import SUFFIXES, is_dicom
from r2gen.data.image_folder import IMAGES
from r2gen.data.image_input import is_dataset
from r2gen.data.positions import position_of
from r2gen.data.reports import Study

TAGS = ("ViewPosition", "PatientAge", "PatientSex")


def tags_of(image: Any) -> Mapping[str, str]:
    """The values of TAGS of a pydicom dataset or DICOM file; nothing if it is neither, or cannot be read.

    Decoding the image reports what is wrong with the file.
    """
    try:
        if not is_dataset(image):
            if not isinstance(image, str | Path) or not is_dicom(Path(image)):
                return {}
            import pydicom

            image = pydicom.dcmread(image, stop_before_pixels=True, specific_tags=list(TAGS))
        return {name: str(image.get(name) or "").strip() for name in TAGS}
    except Exception:  # pydicom raises many types on damaged files
        return {}


def may_be_dicom(name: str) -> bool:
    """Whether the suffix is one of DICOM files, or of no kind of image."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in SUFFIXES or suffix not in IMAGES


def with_tags(study: Study, images: Sequence[Any]) -> Study:
    """The study with position, age and sex of its DICOM images where it lacks them. Only headers are read."""
    positions = study.positions or ("",) * len(images)
    if all(positions) and study.age is not None and study.sex is not None:
        return study
    tags = [tags_of(image) for image in images]
    positions = tuple(
        position or position_of(some.get("ViewPosition", "")) for position, some in zip(positions, tags, strict=True)
    )
    age = study.age if study.age is not None else _first(tags, "PatientAge", age_of)
    sex = study.sex or _first(tags, "PatientSex", sex_of)
    return replace(study, positions=positions if any(positions) else (), age=age, sex=sex)


def _first(tags: Sequence[Mapping[str, str]], name: str, read: Callable[[Any], Any]) -> Any:
    """The first value that can be read; None if there is none."""
    for some in tags:
        with suppress(ValueError):
            if value := read(some.get(name)):
                return value
    return None
