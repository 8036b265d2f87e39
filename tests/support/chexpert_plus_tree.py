"""Files in CheXpert Plus's exact layout, with invented patients, texts and images.

    python tests/support/chexpert_plus_tree.py DIR

No word and no number of it is Stanford's. Images are phantoms, so that their reports say what is drawn.
"""

import csv
import sys
from collections.abc import Iterable
from pathlib import Path

from r2gen.data.phantom import VERSION, Phantom

COLUMNS = (
    *("path_to_image", "path_to_dcm", "frontal_lateral", "ap_pa", "deid_patient_id", "patient_report_date_order"),
    *("report", "section_narrative", "section_clinical_history", "section_history", "section_comparison"),
    *("section_technique", "section_procedure_comments", "section_findings", "section_impression"),
    *("section_end_of_impression", "section_summary", "section_accession_number", "age", "sex", "race", "ethnicity"),
    *("interpreter_needed", "insurance_type", "recent_bmi", "deceased", "split"),
)
NARRATIVE = """NARRATIVE:
RADIOGRAPHIC EXAMINATION OF THE CHEST: 1/1/2099

{findings}

IMPRESSION:

1. {impression}
"""


def write_tree(root: Path, *, patients: int = 40, size_px: int = 32, suffix: str = ".png", tree: str = "PNG") -> None:
    """The table, and images below `tree`, of invented patients with one to three studies each."""
    drawn = Phantom(seed=1, train_studies=3 * patients, val_studies=0, test_studies=0, size_px=size_px, version=VERSION)
    studies = iter(drawn.studies("train"))
    rows = []
    for patient in range(patients):
        split = "valid" if patient % 5 == 4 else "train"
        for number in range(1, 2 + patient % 3):
            source = next(studies)
            findings = source.report.replace(" . ", ". ").rstrip(" .").capitalize() + "."
            for view, kind in enumerate(("frontal", "lateral")[: 1 + (patient + number) % 2], start=1):
                path = f"{split}/patient{patient:05d}/study{number}/view{view}_{kind}"
                (root / tree / path).parent.mkdir(parents=True, exist_ok=True)
                drawn.image(f"{source.id}-{kind}").save((root / tree / path).with_suffix(suffix))
                rows.append(row(path, findings, patient=patient, number=number, kind=kind, split=split))
    rows.sort(key=lambda cells: cells["path_to_image"][::-1])  # rows of a study are not next to each other
    write_table(root / "df_chexpert_plus_240401.csv", rows)


def row(path: str, findings: str, *, patient: int, number: int, kind: str, split: str) -> dict[str, str]:
    """One row. Reports without findings or impression are common."""
    without = patient % 7 == 3 and number == 2
    return {
        **dict.fromkeys(COLUMNS, ""),
        "path_to_image": f"{path}.jpg",
        "path_to_dcm": f"{path}.dcm",
        "frontal_lateral": kind.capitalize(),
        "ap_pa": ("AP", "PA", "")[patient % 3] if kind == "frontal" else "",
        "deid_patient_id": f"patient{patient:05d}",
        "patient_report_date_order": str(number),
        "report": NARRATIVE.format(findings=findings, impression="No invented disease."),
        "section_narrative": findings,
        "section_clinical_history": "Invented years of age, invented cough." if patient % 2 else "",
        "section_history": "" if patient % 2 else "Invented history.",
        "section_comparison": "None." if patient % 4 else "",
        "section_findings": "" if without else findings,
        "section_impression": "\n \n1.  No invented disease.",
        "section_accession_number": f"{patient}{number}",
        # The order of one patient is not that of time.
        "age": f"{60 + (-number if patient == 5 else number)}.0" if patient != 1 else "",
        "sex": ("Female", "Male", "Unknown")[patient % 3],
        "recent_bmi": "25.5",
        "deceased": "No",
        "split": split,
    }


def write_table(file: Path, rows: Iterable[dict[str, str]], columns: tuple[str, ...] = COLUMNS) -> None:
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    write_tree(Path(sys.argv[1]))
