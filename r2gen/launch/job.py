"""From a composed configuration to fresh processes: run folder, config.yaml, one worker a rank. Imports no torch."""

import errno
import hashlib
import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from r2gen.config.metrics import with_absolute_weights
from r2gen.config.secrets import refuse_secrets
from r2gen.config.targets import instantiate
from r2gen.data.reports import DataSource, data_digest
from r2gen.errors import DONE, FIXABLE, STOPPED, Code, UserError, shown
from r2gen.evaluate.tables import table_of
from r2gen.launch import machines
from r2gen.launch.processes import refuse_too_many, run_ranks
from r2gen.pages.run import write_page
from r2gen.runs import provenance, stored
from r2gen.runs.failure import Failure
from r2gen.runs.files import absolute, write_whole
from r2gen.runs.folder import RunFolder
from r2gen.runs.identity import EXTENSIBLE, PROCESS_ONLY, differences, identity
from r2gen.runs.resources import out_of_disk


def launch(config: dict[str, Any], *, overrides: list[str]) -> int:
    """Run one job to its end and give its exit status.

    `config["choices"]` says which option each group has, `overrides` what the user typed. Raises UserError before any
    process starts.
    """
    config = with_absolute_paths(config)
    machines.check(config["trainer"])
    if config["trainer"]["nodes"] == 1:
        refuse_too_many(config["trainer"]["devices"])
    try:
        return _launch(config, overrides=overrides)
    except OSError as error:
        full = out_of_disk(error, config["run_dir"])
        if full is None:
            raise
        raise full from error


def _launch(config: dict[str, Any], *, overrides: list[str]) -> int:
    if config["task"] == "train":
        return _train(config, overrides=overrides)
    if config["task"] == "import":
        return _import(config, overrides=overrides)
    if config["task"] == "check":
        _make_check_folder(config)
    folder = RunFolder(Path(config["run_dir"]))
    if config["task"] == "evaluate":
        check_data(config["data"])
    job_file = folder.path / f"{config['task']}.yaml"
    if folder.exists():
        stored.refuse_other_weights(folder, config)
    lock = folder.lock()
    try:
        if config["task"] == "check":  # what another configuration left: never a table that this one did not make
            shutil.rmtree(folder.path / "tokenizer", ignore_errors=True)
            (folder.path / "check.json").unlink(missing_ok=True)
        write_whole(job_file, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        return run_ranks(config, job_file, lock)[0]
    finally:
        folder.unlock()


def _make_check_folder(config: dict[str, Any]) -> None:
    """A preflight has a folder of its own, under the configuration's mark; the same command writes it anew."""
    check_data(config["data"])
    mark = identity(config, data_digest(config["data"]))
    if config["run_dir"] is None:
        config["run_dir"] = absolute(f"outputs/check-{config['choices']['lm']}-{mark[:8]}")
    folder = Path(config["run_dir"])
    if RunFolder(folder).exists():
        raise UserError(f"run_dir={folder} holds a run: task=check writes a folder of its own, give another")
    if not (folder / "check.yaml").is_file():
        RunFolder(folder).create()


def _import(config: dict[str, Any], *, overrides: list[str]) -> int:
    """Make the run folder of an original checkpoint; `overrides` give its configuration, as if they had been typed."""
    folder = RunFolder(Path(config["run_dir"]))
    folder.refuse_exported(fresh=config["fresh"])
    folder.create()
    lock = folder.lock()
    try:
        if folder.exists():
            folder.clear()  # an import that failed, or one that fresh=true makes again
        with Path(config["checkpoint"]).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        name = str(config["choices"]["experiment"])
        run = {**config, "task": "train", "checkpoint": None, "fresh": False}
        _describe(folder, run, name=name, overrides=overrides, data_hash=None, mark=identity(run, digest))
        folder.record(imported={"checkpoint": Path(config["checkpoint"]).name, "sha256": digest})
        job_file = folder.path / "import.yaml"
        write_whole(job_file, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        status, failure = run_ranks(config, job_file, lock)
        _record_end(folder, status, failure)
        return status
    finally:
        folder.unlock()


def with_absolute_paths(config: dict[str, Any]) -> dict[str, Any]:
    """Paths are relative to where the user stands; in config.yaml they are absolute."""
    config = {**config, "data": dict(config["data"]), "images": [absolute(image) for image in config["images"]]}
    refuse_secrets(config, os.environ)
    for name in ("run_dir", "out", "checkpoint"):
        _refuse_name(name, config[name])
    _refuse_name("data.root", config["data"].get("root"))
    if config["run_dir"] is not None:
        config["run_dir"] = absolute(config["run_dir"])
    if config["data"].get("root", "???") != "???":
        config["data"]["root"] = absolute(config["data"]["root"])
    for key in ("out", "checkpoint"):
        if config[key] is not None:
            config[key] = absolute(config[key])
    if config["task"] in ("train", "evaluate"):
        config["metrics"] = with_absolute_weights(config["metrics"])
    if config["trainer"]["hostfile"] is not None:
        config["trainer"] = {**config["trainer"], "hostfile": absolute(config["trainer"]["hostfile"])}
    for part in ("lm", "vision"):  # a hub id stays as it is
        path = config[part].get("path")
        if path and Path(path).expanduser().exists():
            config[part] = {**config[part], "path": absolute(path)}
    return config


def _refuse_name(option: str, path: str | None) -> None:
    """A name that no file can have is refused here, for all that ask whether it is there."""
    try:
        if path is not None:
            os.lstat(absolute(path))
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES):
            raise UserError(f"{option}={shown(path)} cannot be used: {error.strerror}") from error


@dataclass(frozen=True)
class Place:
    """Where a training belongs, and by what it is known."""

    run_dir: Path
    name: str
    mark: str  # its identity
    data_hash: str


def place(config: dict[str, Any]) -> Place:
    """The place of a configuration whose paths are absolute. Raises UserError where the data is not there."""
    data_hash = data_digest(config["data"])
    mark = identity(config, data_hash)
    choices = config["choices"]
    name = (choices.get("experiment") or f"{choices['lm']}-{choices['data']}").replace("/", "-")
    return Place(Path(config["run_dir"] or absolute(f"outputs/train-{name}-{mark[:8]}")), name, mark, data_hash)


def is_done(config: dict[str, Any]) -> bool:
    """Whether the training is finished, so that its command would only show its table.

    Raises UserError where its folder holds another run.
    """
    where = place(config)
    folder = RunFolder(where.run_dir)
    if config["fresh"] or not (where.run_dir / "checkpoints").is_dir() or not folder.exists():
        return False
    _refuse_another(folder, config, where.data_hash)
    return _is_finished(folder, config)


def _train(config: dict[str, Any], *, overrides: list[str]) -> int:
    where = place(config)
    config["run_dir"] = str(where.run_dir)
    folder = RunFolder(where.run_dir)
    folder.refuse_exported(fresh=config["fresh"])
    if config["fresh"] or not (folder.exists() and _is_finished(folder, config)):
        check_data(config["data"])
    folder.create()
    lock = folder.lock()
    try:
        trained = (folder.path / "checkpoints").is_dir()
        if folder.exists() and (config["fresh"] or not trained):
            folder.clear()  # also what a start that trained nothing has left: it may have had a mistake in it
        if folder.exists():
            _refuse_another(folder, config, where.data_hash)
            scores = folder.path / "metrics.json"
            if _is_finished(folder, config):
                table = _table(scores)
                if table is not None:
                    write_page(folder.path)  # a kill may have come between the last word and its page
                    print(f"{folder.path} is finished (fresh=true starts over)\n\n{table}")
                    return DONE
                print(f"{folder.path} is finished, but its {scores.name} is torn or gone: it is scored again")
                scores.unlink(missing_ok=True)
        earlier = folder.finished()
        _describe(folder, config, name=where.name, overrides=overrides, data_hash=where.data_hash, mark=where.mark)
        status, failure = run_ranks(config, folder.config_file, lock)
        if status == FIXABLE and earlier is not None and earlier.last == folder.last():
            folder.restore(earlier)  # refused before its first step: the finished run is what it was
            write_page(folder.path)
        else:
            _record_end(folder, status, failure)
        return status
    finally:
        folder.unlock()


def check_data(data: dict[str, Any]) -> None:
    """Refuse reports or images that cannot be used: once, before a folder is made or a rank starts."""
    source: DataSource = instantiate(data)
    source.check()


def _refuse_another(folder: RunFolder, config: dict[str, Any], data_hash: str) -> None:
    changed = _changes(folder, config, but=PROCESS_ONLY + EXTENSIBLE)
    before = folder.facts().get("data_hash")
    # Keys of data that came after the run are compared above; an imported run does not know its data.
    known = {key: value for key, value in config["data"].items() if key in folder.config()["data"]}
    if before is not None and before not in (data_hash, data_digest(known)):
        changed.append(f"data: the files have changed (hash {before} -> {data_hash})")
    changed += stored.changed_weights(folder, config)
    if changed:
        listed = "\n  ".join(changed)
        raise UserError(
            f"run_dir={folder.path} belongs to another configuration (stored -> asked):\n  {listed}\n"
            "give another run_dir, or fresh=true to remove what it holds"
        )


def _changes(folder: RunFolder, config: dict[str, Any], *, but: tuple[str, ...]) -> list[str]:
    return differences(stored.explicit(stored.completed(folder)), stored.explicit(config), but)


def _is_finished(folder: RunFolder, config: dict[str, Any]) -> bool:
    return folder.facts()["status"] == "finished" and not _changes(folder, config, but=PROCESS_ONLY)


def _table(scores: Path) -> str | None:
    """The table in a metrics file; None where the file is torn or gone."""
    try:
        return table_of(scores) if scores.is_file() else None
    except UserError:
        return None


def _describe(
    folder: RunFolder, config: dict[str, Any], *, name: str, overrides: list[str], data_hash: str | None, mark: str
) -> None:
    if folder.exists():
        folder.record(status="running")  # first: a kill here must not leave the longer run's config.yaml as finished
    write_whole(folder.config_file, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    folder.record(
        status="running",
        reason=None,
        code=None,
        phase=None,
        name=name,
        task=config["task"],
        overrides=overrides,
        command=shlex.join(["python", "run.py", *overrides]),
        git=provenance.git_revision(),
        versions=provenance.versions(),
        hardware=provenance.machine(),
        data_hash=data_hash,
        identity=mark,
        weights=provenance.weights_hashes(config),
        started=provenance.now(),
        finished=None,
        seconds=folder.facts()["seconds"] if folder.exists() else {},
    )


def _record_end(folder: RunFolder, status: int, failure: Failure | None) -> None:
    """Record how the run ended. The reason that a rank recorded is kept."""
    word = {DONE: "finished", STOPPED: "stopped"}.get(status, "failed")
    if word == "failed" and not folder.facts()["reason"]:
        folder.record(**(failure or Failure(f"a rank ended with status {status}", Code.DEFECT)).facts())
    if word == "stopped":
        folder.record(reason="stopped by a signal", code=None, phase=None)
    folder.record(status=word, finished=provenance.now())
    write_page(folder.path)  # its badge is the status; the images on it stay
