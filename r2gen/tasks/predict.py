"""task=predict: the reports of many studies, without references, in a CSV or JSON lines file.

    python run.py task=predict run_dir=RUN studies=FOLDER out=reports.csv

The same command resumes: studies whose report is in the file are skipped.
"""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import cast

import torch

from r2gen.config.plain import canonical
from r2gen.config.schema import Config
from r2gen.data.listed_studies import StudyImages
from r2gen.errors import UserError
from r2gen.evaluate.report_file import ReportFile, ReportRow, findings_in
from r2gen.evaluate.study_reports import write_reports
from r2gen.launch.parts_check import studies_to_predict
from r2gen.lm.protocol import DecoderName
from r2gen.ranks import dist
from r2gen.ranks.stop import StopRequest
from r2gen.runs.progress import bar, working
from r2gen.tasks.scoring import profile_name
from r2gen.trained_run import TrainedRun


def predict(config: Config, device: torch.device, stop: StopRequest) -> None:
    """Write a row for each study that the file does not have yet; every rank takes its share."""
    assert config.out is not None
    studies = studies_to_predict(config)
    with working("loading the run", shown=dist.is_first()):
        run = TrainedRun(config, device=device)
    file, made_by = ReportFile(Path(config.out)), _made_by(config, run)
    done = dist.first_of([file.start(made_by=made_by, fresh=config.fresh) if dist.is_first() else None]) or set()
    left = [study for study in studies if study.id not in done]
    if dist.is_first() and done:
        print(f"{file.path} has {len(studies) - len(left):,} of {len(studies):,} reports; resuming", flush=True)
    failed = _write(config, run, left[dist.rank() :: dist.world()], file, made_by, stop)
    total, errors = len(studies), [error for some in dist.gather(failed) for error in some]
    if dist.is_first():
        if errors and len(errors) == total:
            raise UserError(f"none of the {total:,} studies has a report ({errors[0]}); {file.path} has the reasons")
        of_them = f"{len(errors):,} {'study has' if len(errors) == 1 else 'studies have'}"
        lost = f"; {of_them} no report, but an error" if errors else ""
        print(f"{total - len(errors):,} reports in {file.path}{lost}", flush=True)
    dist.barrier()


def _made_by(config: Config, run: TrainedRun) -> str:
    """What decides the reports, in short: the checkpoint, the decoding profile, and a digest of both and of quant."""
    facts = {"checkpoint": run.checkpoint, "generation": asdict(run.decoding), "quant": asdict(config.quant)}
    digest = hashlib.sha256(canonical(facts).encode()).hexdigest()[:8]
    return f"{Path(config.folder).name}/{profile_name(config)}/{digest}"


def _write(
    config: Config, run: TrainedRun, studies: list[StudyImages], file: ReportFile, made_by: str, stop: StopRequest
) -> list[str]:
    """Append the rows of some studies; return the errors."""
    images, errors = {study.id: [str(image) for image in study.images] for study in studies}, list[str]()
    reports = write_reports(
        run.model,
        studies,
        run.decoding,
        batch_size=config.evaluate.batch_size,
        device=run.device,
        slots=config.evaluate.slots,
        decoder=run.model.lm.decoder_for(run.decoding, cast(DecoderName, config.evaluate.decoder)),
        gray_bits=run.gray_bits,
        context=run.context,
    )
    with bar(total=len(studies), title="predict", unit="study", shown=dist.is_first()) as shown:
        for written in reports:
            findings = [] if written.error else findings_in(written.report)
            file.add(ReportRow(written.id, written.report, findings, images[written.id], written.error, made_by))
            if written.error:
                errors.append(written.error)
                shown.set_description_str(f"predict, {len(errors):,} failed", refresh=False)
            shown.update()
            stop.leave_if_requested()
    return errors
