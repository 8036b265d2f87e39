"""Files in ReXGradient-160K's layout, with invented patients, texts and images.

    python tests/support/rexgradient_tree.py DIR

No word and no number of it is ReXGradient's. Images are phantoms, so that their reports say what is drawn.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from r2gen.data.phantom import VERSION, Phantom

VIEWS = {"frontal": ("PA", "AP", "POSTERO_ANTERIOR", "ANTERO_POSTERIOR"), "lateral": ("LATERAL", "LL", None)}


def write_tree(root: Path, *, patients: int = 40, size_px: int = 32) -> None:
    """Metadata and images of `patients` invented patients with one to three studies each."""
    phantom = Phantom(train_studies=3 * patients, val_studies=0, test_studies=0, size_px=size_px, version=VERSION)
    drawn = list(phantom.studies("train"))
    splits: dict[str, dict[str, Any]] = {"train": {}, "valid": {}, "test": {}}
    for patient in range(patients):
        split = "valid" if patient % 8 == 6 else "test" if patient % 8 == 7 else "train"
        for number in range(1 + patient % 3):
            source = drawn[3 * patient + number]
            findings = ". ".join(text.capitalize() for text in source.report.rstrip(" .").split(" . ")) + "."
            key, entry = study(patient, number, findings=findings)
            splits[split][key] = entry
            for path, kind in zip(entry["ImagePath"], VIEWS, strict=False):
                file = root / path.removeprefix("../")
                file.parent.mkdir(parents=True, exist_ok=True)
                phantom.image(f"{source.id}-{kind}").save(file)
    write_metadata(root, {split: iter(entries.items()) for split, entries in splits.items()})


def study(patient: int, number: int, *, findings: str) -> tuple[str, dict[str, Any]]:
    """The key and the entry of a study in the metadata."""
    ids = {"PatientID": f"GRD{patient:08d}", "AccessionNumber": f"GRA{patient:07d}{number}"}
    uid = f"1.2.826.0.1.{patient}.{number}"
    kinds = list(VIEWS)[: 1 + (patient + number) % 2]
    folder = f"../deid_png/{ids['PatientID']}/{ids['AccessionNumber']}/studies/{uid}/series/{uid}.1/instances"
    entry: dict[str, Any] = {
        "id": f"p{ids['PatientID']}_a{ids['AccessionNumber']}_s{uid}",
        **ids,
        "StudyInstanceUid": uid,
        "PatientSex": ("F", "M", "O", "")[patient % 4],
        "PatientAge": ("045Y", "007M", "", "999Y")[patient % 4],
        "StudyDate": f"2012{1 + number:02d}{1 + patient % 28:02d}",
        "StudyDescription": "XR CHEST INVENTED",
        "Indication": "Invented cough,\n question of nothing." if patient % 3 else "None",
        "Comparison": "None." if number == 0 else "Invented radiograph of ___.",
        "Findings": "" if patient % 11 == 9 and number != 1 else findings,
        "Impression": "No invented acute process.",
        "ImagePath": [f"{folder}/{uid}.1.{index}.png" for index in range(len(kinds))],
        "ImageViewPosition": [VIEWS[kind][patient % len(VIEWS[kind])] for kind in kinds],
        "ImageModality": ["DX"] * len(kinds),
        "ImageBodyPart": ["CHEST"] * len(kinds),
    }
    return entry["id"], entry


def write_metadata(root: Path, splits: dict[str, Iterator[tuple[str, Any]]]) -> None:
    """The JSON files, of studies that need not be in memory together."""
    (root / "metadata").mkdir(parents=True, exist_ok=True)
    for split, entries in splits.items():
        with (root / "metadata" / f"{split}_metadata_view_position.json").open("w") as file:
            before = "{"
            for key, entry in entries:
                file.write(f"{before}\n    {json.dumps(key)}: {json.dumps(entry, indent=4)}")
                before = ","
            file.write("\n}" if before == "," else "{}")


if __name__ == "__main__":
    write_tree(Path(sys.argv[1]))
