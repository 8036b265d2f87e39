"""Files in the layouts of PadChest and PadChest-GR, with invented patients, texts and images.

    python tests/support/padchest_tree.py DIR                     # PadChest
    python tests/support/padchest_tree.py DIR gr                  # PadChest-GR

No word and no number of it is theirs. Images are phantoms with 16 bits, so that their reports say what is drawn.
"""

import csv
import gzip
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from r2gen.data.phantom import VERSION, Phantom

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"
REPORTS = "grounded_reports_20240819.json"
COLUMNS = (
    *("", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM"),
    *("ViewPosition_DICOM", "Projection", "MethodProjection", "Pediatric", "Modality_DICOM", "Manufacturer_DICOM"),
    *("PhotometricInterpretation_DICOM", "PixelRepresentation_DICOM", "PixelAspectRatio_DICOM"),
    *("SpatialResolution_DICOM", "BitsStored_DICOM", "WindowCenter_DICOM", "WindowWidth_DICOM", "Rows_DICOM"),
    *("Columns_DICOM", "XRayTubeCurrent_DICOM", "Exposure_DICOM", "ExposureInuAs_DICOM", "ExposureTime"),
    *("RelativeXRayExposure_DICOM", "ReportID", "Report", "MethodLabel", "Labels", "Localizations"),
    *("LabelsLocalizationsBySentence", "labelCUIS", "LocalizationsCUIS"),
)
MASTER_COLUMNS = (
    *("StudyID", "ImageID", "label", "boxes_count", "extra_boxes_count", "locations", "prior_study"),
    *("progression_status", "prior_imageID", "sentence_en", "sentence_es", "study_is_benchmark", "study_is_validation"),
    *("split", "PatientID", "patient_is_benchmark", "PatientBirth", "PatientSex_DICOM", "StudyDate_DICOM"),
    *("StudyDate", "PatientAge", "label_group", "Year"),
)
PROJECTIONS = {"frontal": ("PA", "AP", "AP_horizontal"), "lateral": ("L", "COSTAL", "EXCLUDE")}
GR_FOLDERS = ("Padchest_GR_files/PadChest_GR", "PadChest_GR_progression_prior_studies")


def write_padchest(root: Path, *, patients: int = 40, size_px: int = 32) -> None:
    """The table and the images of `patients` invented patients with one to three studies each."""
    phantom, rows = drawn(patients, size_px), []
    for patient in range(patients):
        for number in range(1 + patient % 3):
            source = phantom.studies("train")[3 * patient + number]
            for index, kind in enumerate(PROJECTIONS):
                row = padchest_row(patient, number, index, report=source.report)
                rows.append(row)
                folder = root / str(row["ImageDir"])
                folder.mkdir(parents=True, exist_ok=True)
                save_16_bits(phantom.image(f"{source.id}-{kind}"), folder / str(row["ImageID"]))
    write_padchest_table(root, sorted(rows, key=lambda row: (row["ImageDir"], row["ImageID"])))


def padchest_row(patient: int, number: int, index: int, *, report: str) -> dict[str, Any]:
    """The row of one image. A study's rows are not next to each other in the table."""
    kind = list(PROJECTIONS)[index]
    study = study_id(patient, number)
    return dict.fromkeys(COLUMNS, "") | {
        "ImageID": f"{study}_{index:02d}-{patient:03d}-{number:03d}.png",
        "ImageDir": (patient + 7 * index) % 55,
        "StudyDate_DICOM": f"2014{1 + number:02d}{1 + patient % 28:02d}",
        "StudyID": study,
        "PatientID": f"8{patient:035d}",
        "PatientBirth": "" if patient % 7 == 3 else f"{1930 + patient % 60}.0",
        "PatientSex_DICOM": ("F", "M", "O")[patient % 3],
        "Projection": PROJECTIONS[kind][patient % 3],
        "MethodProjection": "Manual review of DICOM fields",
        "Pediatric": "No",
        "BitsStored_DICOM": 12,
        "ReportID": f"{4 * 10**6 + 3 * patient + number}",
        "Report": "" if patient % 11 == 9 else report,
        "MethodLabel": "Physician",
        "Labels": "['invented']",
    }


def write_padchest_table(root: Path, rows: Iterable[dict[str, Any]]) -> None:
    with gzip.open(root / TABLE, "wt", newline="", compresslevel=1) as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def write_padchest_gr(root: Path, *, patients: int = 40, size_px: int = 32) -> None:
    """Reports, master table and images. Later studies name the one before; of some patients, that is no entry."""
    phantom, entries, rows = drawn(patients, size_px), list[dict[str, Any]](), list[dict[str, Any]]()
    for folder in GR_FOLDERS:
        (root / folder).mkdir(parents=True)
    for patient in range(patients):
        for number in range(1 + patient % 3):
            source = phantom.studies("train")[3 * patient + number]
            image = f"{study_id(patient, number)}_x.png"
            first_is_no_entry = patient % 3 == 1 and number == 0
            file = root / GR_FOLDERS[first_is_no_entry] / image
            save_16_bits(phantom.image(f"{source.id}-frontal"), file)
            if first_is_no_entry:
                continue
            entries.append(gr_entry(patient, number, image, report=source.report))
            rows += [master_row(entries[-1], finding, patient, number) for finding in entries[-1]["findings"]]
    write_padchest_gr_tables(root, entries, rows)


def gr_entry(patient: int, number: int, image: str, *, report: str) -> dict[str, Any]:
    """An entry of the file of reports. Normal findings have no boxes."""
    before = study_id(patient, number - 1) if number else None
    findings: list[dict[str, Any]] = []
    for index, text in enumerate(report.rstrip(" .").split(" . ")):
        words = {"sentence_en": f"{text.capitalize()}.", "sentence_es": f"Hallazgo inventado: {text}"}
        boxes = {"boxes": [[0.1, 0.1, 0.4, 0.4]], "extra_boxes": [], "labels": ["invented"], "locations": []}
        findings.append({**words, "abnormal": bool(index % 2), **(boxes if index % 2 else {}), "progression": None})
    return {
        "StudyID": study_id(patient, number),
        "ImageID": image,
        "PreviousStudyID": before,
        "PreviousImageID": f"{before}_x.png" if before else None,
        "findings": [] if patient % 11 == 9 else findings,
    }


def master_row(entry: dict[str, Any], finding: dict[str, Any], patient: int, number: int) -> dict[str, Any]:
    row = padchest_row(patient, number, 0, report="")
    copied = {name: row[name] for name in ("PatientID", "PatientBirth", "PatientSex_DICOM", "StudyDate_DICOM")}
    return (
        dict.fromkeys(MASTER_COLUMNS, "")
        | copied
        | {
            "StudyID": entry["StudyID"],
            "ImageID": entry["ImageID"],
            "prior_imageID": entry["PreviousImageID"] or "",
            "sentence_en": finding["sentence_en"],
            "split": "validation" if patient % 8 == 6 else "test" if patient % 8 == 7 else "train",
            "PatientAge": 30 + patient,
        }
    )


def write_padchest_gr_tables(root: Path, entries: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    with_rows = {row["StudyID"] for row in rows}
    rows = (
        rows
        + [  # a study without a finding is in the table too
            master_row(entry, {"sentence_en": ""}, int(entry["StudyID"][3:30]), int(entry["StudyID"][30:]))
            for entry in entries
            if entry["StudyID"] not in with_rows
        ]
    )
    (root / REPORTS).write_text(json.dumps(entries, ensure_ascii=False, indent=1))
    with (root / "master_table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, MASTER_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def study_id(patient: int, number: int) -> str:
    """39 digits, as PadChest's."""
    return f"216{patient:027d}{number:09d}"


def drawn(patients: int, size_px: int) -> Phantom:
    return Phantom(train_studies=3 * patients, val_studies=0, test_studies=0, size_px=size_px, version=VERSION)


def save_16_bits(image: Image.Image, file: Path) -> None:
    Image.fromarray(np.asarray(image, dtype=np.uint16) * 257).save(file)


if __name__ == "__main__":
    (write_padchest_gr if sys.argv[2:] == ["gr"] else write_padchest)(Path(sys.argv[1]))
