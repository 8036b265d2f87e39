"""Run one job of a configuration: its folder, its file, and its ranks."""

from dataclasses import replace
from pathlib import Path

from r2gen.config.read import to_plain
from r2gen.config.schema import Config
from r2gen.config.task_table import BY_NAME
from r2gen.data.reports import data_digest
from r2gen.errors import UserError
from r2gen.evaluate.ending import from_here
from r2gen.launch import machines, new_run
from r2gen.launch.export_folder import check_export
from r2gen.launch.parts_check import check_input, check_parts
from r2gen.launch.paths import with_absolute_paths
from r2gen.launch.processes import Ranks, refuse_too_many
from r2gen.runs import stored
from r2gen.runs.disk import out_of_disk
from r2gen.runs.files import absolute, remove
from r2gen.runs.folder import RunFolder
from r2gen.runs.identity import identity
from r2gen.runs.job_file import write_job
from r2gen.runs.resources import out_of_files


def launch(config: Config, *, overrides: list[str]) -> int:
    """Run one job to its end and give its exit status; `overrides` are what was passed.

    Raises UserError before any rank has the job.
    """
    config = with_absolute_paths(config)
    machines.check(config.trainer)
    if config.trainer.nodes == 1:
        refuse_too_many(config.trainer.devices)
    try:
        return _launch(config, overrides)
    except OSError as error:
        full = out_of_files(error) or out_of_disk(error, config.run_dir or ".")
        if full is None:
            raise
        raise full from error


def _launch(config: Config, overrides: list[str]) -> int:
    if config.task == "import":
        return new_run.import_run(config, overrides)
    match BY_NAME[config.task].on:
        case "new run":
            return new_run.train(config, overrides)
        case "own folder":
            return _in_own_folder(config)
        case _:
            return _on_stored_run(config)


def _on_stored_run(config: Config) -> int:
    """A task on a run that exists; its configuration is TASK.yaml next to the run's config.yaml."""
    if config.task == "demo":  # one process answers, however many trained
        config = replace(config, trainer=replace(config.trainer, devices=1, nodes=1))
    assert config.run_dir is not None
    folder = RunFolder(Path(config.run_dir))
    lock = folder.lock()  # first, since checking images may take minutes
    try:
        folder.refuse_untrained()
        if config.task == "export":
            check_export(config)
        check_parts(config)
        with Ranks(config) as ranks:
            ranks.start()
            stored.refuse_other_weights(folder, config)
            check_input(config)
            return _run(ranks, folder, lock)
    finally:
        folder.unlock()


def _in_own_folder(config: Config) -> int:
    """A task that reads no run, in a folder named by the configuration; the same command writes it again."""
    if config.run_dir is None:
        digest = identity(to_plain(config), data_digest(config.data))[:8]
        config = replace(config, run_dir=absolute(f"outputs/{config.task}-{config.choices['lm']}-{digest}"))
    assert config.run_dir is not None
    folder = RunFolder(Path(config.run_dir))
    if folder.exists():
        raise UserError(
            f"run_dir={folder.path} holds a run: task={config.task} writes a folder of its own, give another"
        )
    is_ours = (folder.path / f"{config.task}.yaml").is_file()
    if not is_ours:
        folder.check_usable()
    check_parts(config)
    with Ranks(config) as ranks:
        ranks.start()
        check_input(config)
        if not is_ours:
            folder.create()
        lock = folder.lock()
        try:
            # Results of another configuration must never be taken for those of this one.
            remove(folder.path / "tokenizer")
            remove(folder.path / f"{config.task}.json")
            return _run(ranks, folder, lock)
        finally:
            folder.unlock()


def _run(ranks: Ranks, folder: RunFolder, lock: int) -> int:
    job_file = folder.path / f"{ranks.config.task}.yaml"
    write_job(job_file, ranks.config)
    print(f"run folder: {from_here(folder.path)}", flush=True)
    return ranks.run(job_file, lock)[0]
