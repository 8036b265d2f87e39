"""Paths of a configuration: relative to the current folder when passed, absolute in config.yaml."""

import errno
import os
from dataclasses import replace
from pathlib import Path

from omegaconf import MISSING

from r2gen.config.metrics import with_absolute_weights
from r2gen.config.mixed import roots, with_roots
from r2gen.config.schema import Config
from r2gen.config.task_table import BY_NAME
from r2gen.errors import UserError, shown
from r2gen.runs.files import absolute
from r2gen.runs.special_files import refuse_special

LOCAL = "local-dir:"


def with_absolute_paths(config: Config) -> Config:
    """The configuration with absolute paths. Raises UserError where a path cannot be used."""
    for name, path in (
        ("run_dir", config.run_dir),
        ("out", config.out),
        ("studies", config.studies),
        ("prepare.images", config.prepare.images),
        ("checkpoint", config.checkpoint),
        ("trainer.hostfile", config.trainer.hostfile),
        ("trainer.image_cache", config.trainer.image_cache),
        ("lm.path", config.lm.path),
        ("vision.path", config.vision.get("path")),
        *(("images", image) for image in config.images),
        *(("given.prior_images", image) for image in config.given.prior_images),
        *roots(config.data).items(),
    ):
        _refuse_impossible(name, path)
    resolved = replace(
        config,
        images=[absolute(image) for image in config.images],
        given=replace(config.given, prior_images=[absolute(image) for image in config.given.prior_images]),
        run_dir=_absolute(config.run_dir),
        out=_absolute(config.out),
        studies=_absolute(config.studies),
        prepare=replace(config.prepare, images=_absolute(config.prepare.images)),
        checkpoint=_absolute(config.checkpoint),
        trainer=replace(
            config.trainer,
            hostfile=_absolute(config.trainer.hostfile),
            image_cache=_absolute(config.trainer.image_cache),
        ),
        lm=replace(config.lm, path=_if_here(config.lm.path)),
    )
    if "path" in config.vision.arguments:
        path = config.vision.get("path") or _folder_of(config.vision.get("name"))
        resolved.vision = config.vision.with_arguments(path=_if_here(path))
    resolved.data = with_roots(config.data, lambda root: root if root == MISSING else absolute(root))
    if BY_NAME[config.task].scores:
        resolved.metrics = with_absolute_weights(config.metrics)
    return resolved


def _absolute(path: str | None) -> str | None:
    return None if path is None else absolute(path)


def _folder_of(name: str | None) -> str | None:
    """The folder that a name of timm's form local-dir:FOLDER means."""
    return name.removeprefix(LOCAL) if name is not None and name.startswith(LOCAL) else None


def _if_here(path: str | None) -> str | None:
    """A path on this machine as an absolute one; a hub id as it is."""
    return absolute(path) if path and Path(path).expanduser().exists() else path


def _refuse_impossible(option: str, path: str | None) -> None:
    """Raise UserError for a name that no file can have, once for all that look whether it exists."""
    if path is not None:
        refuse_special(absolute(path), option=option)
    try:
        if path is not None:
            os.lstat(absolute(path))
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES):
            raise UserError(f"{option}={shown(path)} cannot be used: {error.strerror}") from error
