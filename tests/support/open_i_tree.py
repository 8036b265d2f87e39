"""Files in the exact layout of IU X-Ray's original archives (Open-i), with invented texts and images.

    python tests/support/open_i_tree.py DIR

No word of a report is Indiana's. Images are phantoms, so that their reports say what is drawn.
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from r2gen.data.phantom import VERSION, Phantom

REPORT = """<?xml version="1.0" encoding="utf-8"?><eCitation>
   <meta type="rr"/>
   <uId id="CXR{number}"/>
   <pmcId id="{number}"/>
   <docSource>CXR</docSource>
   <IUXRId id="{number}"/>
   <licenseType>open-access</licenseType>
   <articleDate>2013-08-01</articleDate>
   <articleType>XR</articleType>
   <title>Invented Chest X-ray Collection</title>
   <MedlineCitation Owner="Nobody" Status="invented">
      <Article PubModel="Electronic">
         <Abstract>
{texts}
         </Abstract>
         <AuthorList CompleteYN="Y"><Author ValidYN="Y"><LastName>Nobody</LastName></Author></AuthorList>
      </Article>
   </MedlineCitation>
   <MeSH>
{mesh}
      <automatic>invented</automatic>
   </MeSH>
{images}
</eCitation>
"""
IMAGE = """   <parentImage id="{image}">
      <figureId>F{figure}</figureId>
      <caption>Xray Chest PA and Lateral</caption>
      <panel type="single"><url>/storage/extract/{image}.jpg</url><imgModality>7</imgModality></panel>
   </parentImage>"""
LABELS = ("COMPARISON", "INDICATION", "FINDINGS", "IMPRESSION")  # in the order of the real files; a text may be empty


def report_xml(number: int, texts: Mapping[str, str], images: Sequence[str], mesh: Sequence[str]) -> str:
    """One report; `texts` has labels in capitals."""
    return REPORT.format(
        number=number,
        texts="\n".join(
            f'            <AbstractText Label="{label}">{escape(texts.get(label, ""))}</AbstractText>'
            for label in LABELS
        ),
        mesh="\n".join(f"      <major>{escape(term)}</major>" for term in mesh),
        images="\n".join(IMAGE.format(image=image, figure=figure) for figure, image in enumerate(images, start=1)),
    )


def write_tree(root: Path, *, studies: int = 40, size_px: int = 32, projections: bool = True) -> None:
    """Reports 1 to `studies`, their PNG files and, with `projections`, the table of them (as on Kaggle)."""
    phantom = Phantom(seed=0, train_studies=studies, val_studies=0, test_studies=0, size_px=size_px, version=VERSION)
    reports, images = root / "NLMCXR_reports/ecgen-radiology", root / "NLMCXR_png"
    reports.mkdir(parents=True)
    images.mkdir()
    rows: list[tuple[object, ...]] = [("uid", "filename", "projection")]
    for number, drawn in enumerate(phantom.studies("train"), start=1):
        doubled = f"{number}_" if number == 1 else ""  # the first report of the real collection is named this way
        views = [("frontal", 1001), ("lateral", 2001)]
        if number % 4 == 2:  # the lateral image may come first, and a study may have no image or one
            views.reverse()
        views = views[: 0 if number % 10 == 7 else 1 if number % 10 == 9 else 2]
        names = []
        for kind, digits in views:
            name = f"CXR{number}_{doubled}IM-{number:04d}-{digits}"
            phantom.image(f"{drawn.id}-{kind}").save(images / f"{name}.png")
            rows.append((number, f"{number}_IM-{number:04d}-{digits}.dcm.png", kind.capitalize()))
            names.append(name)
        texts = {
            "COMPARISON": "None." if number % 3 else "",
            "INDICATION": f"XXXX-year-old with an invented cough & fever <{number} days>, XXXX.",
            "FINDINGS": "" if number % 10 == 3 else drawn.report.replace(" . ", ". ").capitalize(),
            "IMPRESSION": "No invented disease, compared to XXXX.",
        }
        mesh = ["normal"] if number % 2 else ["Invented/lung/left", "Nothing, Large/right"]
        (reports / f"{number}.xml").write_text(report_xml(number, texts, names, mesh))
    if projections:
        with (root / "indiana_projections.csv").open("w", newline="") as out:
            csv.writer(out).writerows(rows)


if __name__ == "__main__":
    write_tree(Path(sys.argv[1]))
