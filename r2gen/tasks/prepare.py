"""task=prepare: a published layout becomes an annotation to train on. No rank, no run folder, and no torch."""

from dataclasses import asdict
from pathlib import Path

from r2gen.config.schema import Config
from r2gen.errors import DONE, UserError
from r2gen.runs import provenance
from r2gen.runs.files import absolute


def prepare(config: Config, overrides: list[str]) -> int:
    """Write the annotation of the chosen data set and print its counts; gives the exit status."""
    choice = config.choices["data"]
    if choice != "mimic_cxr":
        raise UserError(f"task=prepare data={choice}: only data=mimic_cxr needs it; train on the others as they are")
    from r2gen.data import mimic  # not at the top: other commands wait for no Pillow

    data, options = config.data.arguments, config.prepare
    root = Path(absolute(data["root"]))
    if not root.is_dir():
        raise UserError(f"data.root={root} does not exist: point it at the folder of MIMIC-CXR-JPG")
    reports = Path(absolute(options.reports)) if options.reports is not None else root / data["images"]
    if (reports / "files").is_dir():
        reports = reports / "files"
    if not reports.is_dir():
        raise UserError(
            f"there is no folder of reports {reports}: set prepare.reports to the one that holds p10/, p11/"
        )
    policy = {name: value for name, value in asdict(options).items() if name != "reports"}
    print(
        mimic.prepare(
            root=root,
            reports=reports,
            images=data["images"],
            annotation=root / data["annotation"],
            policy=mimic.Policy(**policy),
            code=provenance.git_revision(),
            fresh=config.fresh,
            date=provenance.now(),
        )
    )
    return DONE
