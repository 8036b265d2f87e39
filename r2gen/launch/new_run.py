"""The folder of a new run, from a training or an import: found or made, checked, and filled by the ranks."""

import hashlib
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from r2gen.config import rules
from r2gen.config.mixed import MIX
from r2gen.config.read import to_plain
from r2gen.config.schema import Config
from r2gen.data.reports import data_digest
from r2gen.errors import DONE, FIXABLE, STOPPED, Code, UserError
from r2gen.evaluate.ending import ending, from_here
from r2gen.launch.parts_check import check_input, check_parts
from r2gen.launch.processes import Ranks
from r2gen.launch.rank_process import end_early
from r2gen.pages.run import write_page
from r2gen.runs import provenance, stored
from r2gen.runs.disk import gone
from r2gen.runs.failure import Failure
from r2gen.runs.files import absolute
from r2gen.runs.folder import ENCODER, RunFolder
from r2gen.runs.identity import EXTENSIBLE, PROCESS_ONLY, differences, earlier_identity, identity
from r2gen.runs.job_file import write_job
from r2gen.runs.metrics_file import metrics_path


@dataclass(frozen=True)
class RunLocation:
    """The folder of a training, and its identity."""

    run_dir: Path
    name: str
    identity: str
    data_hash: str | None  # None: an imported run does not know its data


def locate(config: Config) -> RunLocation:
    """The location of a configuration whose paths are absolute.

    A run that version 0.1 made is found under the identity that it had there. Raises UserError where the data does not
    exist.
    """
    plain, data_hash = to_plain(config), data_digest(config.data)
    name = (config.choices.get("experiment") or f"{config.choices['lm']}-{config.choices['data']}").replace("/", "-")
    candidates = [
        RunLocation(Path(config.run_dir or absolute(f"outputs/train-{name}-{digest[:8]}")), name, digest, data_hash)
        for digest in (identity(plain, data_hash), earlier_identity(plain, data_hash))
    ]
    return next((candidate for candidate in candidates if _has_identity(candidate)), candidates[0])


def is_done(config: Config, location: RunLocation) -> bool:
    """Whether the training is finished, so that its command would only show its table.

    Raises UserError where its folder holds another run.
    """
    folder = RunFolder(location.run_dir)
    if config.fresh or not (location.run_dir / "checkpoints").is_dir() or not folder.exists():
        return False
    _refuse_another(folder, config, location.data_hash)
    return _is_finished(folder, config)


def train(config: Config, overrides: list[str]) -> int:
    """Train what is left to train, or show the table of a finished run; gives the exit status."""
    location = locate(config)
    config = replace(config, run_dir=str(location.run_dir))
    folder = RunFolder(location.run_dir)
    folder.refuse_exported(fresh=config.fresh)
    folder.check_usable()
    with Ranks(config) as ranks:
        if config.fresh or not (folder.exists() and _is_finished(folder, config)):
            check_parts(config)
            ranks.start()
            check_input(config)
        else:
            end_early()
        folder.create()
        lock = folder.lock()
        try:
            return _train(ranks, folder, lock, location, overrides)
        finally:
            folder.unlock()


def _train(ranks: Ranks, folder: RunFolder, lock: int, location: RunLocation, overrides: list[str]) -> int:
    """Train in a folder that is locked."""
    config = ranks.config
    has_trained = (folder.path / "checkpoints").is_dir()
    if folder.exists() and (config.fresh or not has_trained):
        folder.clear()  # also a start that saved no checkpoint: its configuration may have been wrong
    if folder.exists():
        _refuse_another(folder, config, location.data_hash)
        shown = _is_finished(folder, config) and (
            _show_encoder(folder, config) or _show(folder, verbose=config.verbose)
        )
        if shown:
            return DONE
    print(f"run folder: {from_here(folder.path)}", flush=True)
    earlier = folder.finished()
    _describe(folder, config, location, overrides)
    status, failure = ranks.run(folder.config_file, lock)
    if status == FIXABLE and earlier is not None and earlier.last == folder.last():
        folder.restore(earlier)  # the ranks refused before the first step, so the run is still the finished one
        write_page(folder.path)
    else:
        _record_end(folder, status, failure)
    return status


def import_run(config: Config, overrides: list[str]) -> int:
    """Make the run folder of a checkpoint of R2GenGPT; `overrides` compose to its configuration."""
    assert config.run_dir is not None
    assert config.checkpoint is not None
    folder = RunFolder(Path(config.run_dir))
    folder.refuse_exported(fresh=config.fresh)
    folder.check_usable()
    check_parts(config)
    with Ranks(config) as ranks:
        ranks.start()
        folder.create()
        lock = folder.lock()
        try:
            if folder.exists():
                folder.clear()  # an import that failed, or one that fresh=true repeats
            checkpoint = Path(config.checkpoint)
            with checkpoint.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            run = replace(config, task="train", checkpoint=None, fresh=False)
            name = str(config.choices["experiment"])
            location = RunLocation(folder.path, name, identity(to_plain(run), digest), None)
            _describe(folder, run, location, overrides)
            folder.record(imported={"checkpoint": checkpoint.name, "sha256": digest})
            job_file = folder.path / "import.yaml"
            write_job(job_file, config)
            status, failure = ranks.run(job_file, lock)
            _record_end(folder, status, failure)
            return status
        finally:
            folder.unlock()


def _has_identity(location: RunLocation) -> bool:
    folder = RunFolder(location.run_dir)
    return folder.exists() and folder.facts().get("identity") == location.identity


def _show_encoder(folder: RunFolder, config: Config) -> bool:
    """Print where the encoder of a finished objective=align is; False for other runs, or if there is none."""
    encoder = folder.path / ENCODER
    if not rules.encoder_only(config) or not encoder.is_dir():
        return False
    write_page(folder.path)
    print(f"{folder.path} is finished (fresh=true starts over)\n\nencoder, for vision.path: {encoder}")
    return True


def _show(folder: RunFolder, *, verbose: bool) -> bool:
    """Print the scores of a finished run; False where its metrics.json is damaged, which is then removed."""
    scores = metrics_path(folder.path)
    try:
        text = ending(folder.path, scores, verbose=verbose) if scores.is_file() else None
    except UserError:
        text = None
    if text is None:
        print(f"{folder.path} is finished, but its {scores.name} is damaged or missing: it is scored again")
        scores.unlink(missing_ok=True)
        return False
    write_page(folder.path)  # the command may have been killed between its last record and the page
    print(f"{from_here(folder.path)} is finished (fresh=true starts over)\n\n{text}")
    return True


def _refuse_another(folder: RunFolder, config: Config, data_hash: str | None) -> None:
    """Raise UserError where the folder holds the run of another configuration, other data or other weights."""
    changed = _changes(folder, config, but=PROCESS_ONLY + EXTENSIBLE)
    before = folder.facts().get("data_hash")
    # Options added to R2Gen since the run are compared above. An imported run does not know its data.
    stored_names = folder.config()["data"]
    of_the_run = {key: value for key, value in config.data.arguments.items() if key in stored_names}
    if before is not None and before not in (data_hash, data_digest(replace(config.data, arguments=of_the_run))):
        what = "data.sets: their data, names or weights" if config.data.name == MIX else "data: the files"
        changed.append(f"{what} have changed (hash {before} -> {data_hash})")
    changed += stored.changed_weights(folder, config)
    if changed:
        listed = "\n  ".join(changed)
        raise UserError(
            f"run_dir={folder.path} belongs to another configuration (stored -> passed):\n  {listed}\n"
            "give another run_dir, or fresh=true to remove what it holds"
        )


def _changes(folder: RunFolder, config: Config, *, but: tuple[str, ...]) -> list[str]:
    return differences(stored.with_class_defaults(stored.completed(folder)), stored.with_class_defaults(config), but)


def _is_finished(folder: RunFolder, config: Config) -> bool:
    return folder.facts()["status"] == "finished" and not _changes(folder, config, but=PROCESS_ONLY)


def _describe(folder: RunFolder, config: Config, location: RunLocation, overrides: list[str]) -> None:
    """Write config.yaml and run.json of a run that starts or resumes."""
    if folder.exists():
        folder.record(
            status="running"
        )  # first: a kill must not leave the config.yaml of a longer run with status=finished
    write_job(folder.config_file, config)
    folder.record(
        status="running",
        reason=None,
        code=None,
        phase=None,
        name=location.name,
        task=config.task,
        overrides=overrides,
        command=shlex.join(["python", "run.py", *overrides]),
        git=provenance.git_revision(),
        versions=provenance.versions(),
        hardware=provenance.machine(),
        data_hash=location.data_hash,
        identity=location.identity,
        weights=provenance.weights_hashes(config),
        started=provenance.now(),
        finished=None,
        seconds=folder.facts()["seconds"] if folder.exists() else {},
    )


def _record_end(folder: RunFolder, status: int, failure: Failure | None) -> None:
    """Record how the run ended. The reason that a rank recorded is kept."""
    word = {DONE: "finished", STOPPED: "stopped"}.get(status, "failed")
    try:
        if not folder.path.is_dir():
            raise gone(folder.path)
        if word == "failed" and not folder.facts()["reason"]:
            folder.record(**(failure or Failure(f"a rank ended with status {status}", Code.DEFECT)).facts())
        if word == "stopped":
            folder.record(reason="stopped by a signal", code=None, phase=None)
        folder.record(status=word, finished=provenance.now())
        write_page(folder.path)  # shows the status; its images are kept
    except (OSError, UserError):
        if word != "failed":
            raise
        # A rank has printed why it failed, most likely for the same reason.
