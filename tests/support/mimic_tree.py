"""Files in MIMIC-CXR-JPG's exact layout, with invented patients, texts and images.

    python tests/support/mimic_tree.py DIR

No word and no number of it is MIMIC's. Images are phantoms, so that their reports say what is drawn.
"""

import csv
import gzip
import sys
from pathlib import Path

import numpy as np

from r2gen.data.phantom import VERSION, Phantom

SPLIT_COLUMNS = ("dicom_id", "study_id", "subject_id", "split")
METADATA_COLUMNS = (
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
    "Rows",
    "Columns",
    "StudyDate",
    "StudyTime",
    "ProcedureCodeSequence_CodeMeaning",
)
# How a report may look: {findings} and {impression} are filled in, the rest is invented.
LAYOUTS = (
    """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with a made up cough  // invented question?

 TECHNIQUE:  Chest PA and lateral

 COMPARISON:  None.

 FINDINGS:

 {findings}

 IMPRESSION:

 {impression}
""",
    """WET READ: ___ ___ ___ 9:11 PM
  Invented wet read, which is no part of the report.
 ______________________________________________________________________________
                                 FINAL REPORT
 HISTORY:  Invented history, question of nothing.

 COMPARISONS:  ___.

 FINDINGS:  {findings}

 IMPRESSION:  {impression}
""",
    """                                 FINAL REPORT
 REASON FOR EXAMINATION:  Invented follow-up.

 FINDINGS AND IMPRESSION:  {findings}
""",
    """                                 FINAL REPORT
 CLINICAL HISTORY:  Invented.

 FINIDNGS:  {findings}

 IMPRESSOIN:  {impression}
""",
)
WITHOUT_FINDINGS = """                                 FINAL REPORT
 INDICATION:  Invented.

 IMPRESSION:  {impression}
"""
# StudyDate and StudyTime of a patient's studies, by their ids or in the opposite order, since real ids tell nothing.
TAKEN = (("21800228", "4530.0"), ("21800228", "213014.53100000002"), ("21800301", "90000"))
WITHOUT_HEADINGS = """                                 FINAL REPORT
 Invented portable image, no headings.

 {findings}
"""


def write_tree(root: Path, *, patients: int = 40, seed: int = 0, size_px: int = 32) -> None:
    """Tables, reports and images of `patients` invented patients with one to three studies each."""
    phantom = Phantom(
        seed=seed, train_studies=3 * patients, val_studies=0, test_studies=0, size_px=size_px, version=VERSION
    )
    drawn, random = list(phantom.studies("train")), np.random.default_rng(seed)
    split_rows, metadata_rows = [], []
    for patient in range(patients):
        subject = f"{10 + patient % 10}{patient:06d}"
        split = "validate" if patient % 8 == 6 else "test" if patient % 8 == 7 else "train"
        studies = 1 + patient % 3
        for number in range(studies):
            study, source = f"5{patient:05d}{number:02d}", drawn[3 * patient + number]
            folder = root / "files" / f"p{subject[:2]}" / f"p{subject}"
            (folder / f"s{study}").mkdir(parents=True)
            findings = source.report.replace(" . ", ".  ").rstrip(" .").capitalize() + "."
            layout = LAYOUTS[(patient + number) % len(LAYOUTS)]
            layout = WITHOUT_FINDINGS if patient % 11 == 9 else WITHOUT_HEADINGS if patient % 11 == 10 else layout
            date, time = TAKEN[number if patient % 2 else studies - 1 - number]
            if patient % 12 == 5 and number == 1:  # between two others; it is left out, and a prior all the same
                layout = WITHOUT_FINDINGS
            text = layout.format(findings=findings.replace(".  ", ".\n "), impression="No invented acute process.")
            (folder / f"s{study}.txt").write_text(text)
            # The tables list images in no order; a frontal image may come after the lateral one, and some have no view.
            views = [("lateral", "LATERAL" if patient % 2 else "LL"), ("frontal", ("PA", "AP", "")[patient % 3])]
            for kind, position in views[patient % 2 if number else 0 :]:
                dicom_id = "-".join(random.bytes(4).hex() for _ in range(5))
                phantom.image(f"{source.id}-{kind}").save(folder / f"s{study}" / f"{dicom_id}.jpg", quality=95)
                split_rows.append((dicom_id, study, subject, split))
                metadata_rows.append((dicom_id, subject, study, "CHEST", position, size_px, size_px, date, time, ""))
    write_table(root / "mimic-cxr-2.0.0-split.csv.gz", SPLIT_COLUMNS, split_rows)
    write_table(root / "mimic-cxr-2.0.0-metadata.csv.gz", METADATA_COLUMNS, metadata_rows)


def write_table(file: Path, columns: tuple[str, ...], rows: list[tuple]) -> None:
    with gzip.open(file, "wt", newline="") as out:
        csv.writer(out).writerows([columns, *rows])


if __name__ == "__main__":
    write_tree(Path(sys.argv[1]))
