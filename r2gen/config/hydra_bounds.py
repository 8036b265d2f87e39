"""What a file may make Hydra do: the same as a word of the command, and within bounds.

Hydra composes the files that defaults lists name. Its own options (where it writes, what it logs, which classes it
makes) can be set in any of them. They are checked here, where a command, a cell of a sweep and `compose` meet.
"""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.default_element import GroupDefault
from omegaconf import DictConfig, OmegaConf

from r2gen.config.plain import flat, is_under
from r2gen.config.yaml_files import read_files
from r2gen.errors import UserError, shown

# The options of Hydra that are used; conf/config.yaml sets the others that matter to the only value that is accepted.
USED = ("hydra.mode", "hydra.launcher", "hydra.sweeper", "hydra.sweep.dir")
FIXED = {"hydra.output_subdir": None, "hydra.run.dir": ".", "hydra.sweep.subdir": "."}
FOLDERS = ("hydra.run", "hydra.sweep", "hydra.output_subdir", "hydra.job.chdir")
CHOSEN = ("hydra/launcher", "hydra/sweeper")
# The options of Hydra's other groups that conf/config.yaml or Hydra itself chooses.
STANDARD = {
    "hydra/env": ("default",),
    "hydra/help": ("default",),
    "hydra/hydra_help": ("default",),
    "hydra/hydra_logging": ("none",),
    "hydra/job_logging": ("none",),
    "hydra/output": ("default",),
}
PLUGINS = {
    "hydra.launcher": ("hydra_plugins.r2gen_sweeps.GpusLauncher", "hydra_plugins.r2gen_sweeps.SlurmLauncher"),
    "hydra.sweeper": ("hydra_plugins.r2gen_sweeps.GridSweeper", "hydra_plugins.r2gen_sweeps.OptunaSweeper"),
}
MOST_FILES = 200  # in one composition
LONGEST_NAME = 200
DEEPEST = 20  # files that include each other


def refusal(key: str) -> str | None:
    """Why an option or group of Hydra's own may not be set; None for any other name."""
    if is_under(key, *FOLDERS) and not is_under(key, *USED):
        return "Hydra's own folders are not used: run_dir=DIR sets the folder of a run"
    if is_under(key, "hydra.searchpath"):
        return "Hydra's search path is fixed: --config-dir FOLDER adds YAML files"
    if key.split(".")[-1] == "_target_" and is_under(key, "hydra"):
        return "the classes of Hydra's plugins are fixed: choose hydra/launcher=OPTION or hydra/sweeper=OPTION"
    if (key.startswith("hydra/") and key not in CHOSEN) or (is_under(key, "hydra") and not is_under(key, *USED)):
        return f"of Hydra's own options R2Gen uses only {', '.join((*CHOSEN, *USED))}"
    return None


def bound_hydra() -> None:
    """Put the checks of this module into Hydra, once."""
    if not hasattr(ConfigLoaderImpl.load_configuration, "__wrapped__"):
        loader: Any = ConfigLoaderImpl
        loader._compose_config_from_defaults_list = _checking_files(loader._compose_config_from_defaults_list)
        loader.load_configuration = _checking_plugins(loader.load_configuration)
        defaults_list._create_defaults_tree_impl = _without_cycles(defaults_list._create_defaults_tree_impl)


def _checking_files(compose: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    @wraps(compose)
    def checked(self: Any, defaults: Any, repo: Any) -> DictConfig:
        for default in defaults:
            _check_choice(*default.config_path.rpartition("/")[::2], named_by="a defaults list")
            if default.config_path in read_files:
                loaded, file = repo.load_config(default.config_path), read_files[default.config_path]
                for entry in loaded.defaults_list:
                    if isinstance(entry, GroupDefault):
                        _check_choice(str(entry.group).lstrip("/"), entry.value, named_by=file)
                _check_options(file, loaded.config, default.package)
        return compose(self, defaults=defaults, repo=repo)

    return checked


def _check_choice(group: str, option: Any, *, named_by: object) -> None:
    if group.startswith("hydra/") and group not in CHOSEN and option not in STANDARD.get(group, ()):
        raise UserError(f"{named_by}: {group}={shown(option)}: {refusal(group)}")


def _check_options(file: Path, content: DictConfig, package: str | None) -> None:
    """Refuse Hydra's own options in a file, except those that a word may set."""
    prefix = "" if package in (None, "", "_global_") else f"{package}."
    plain: Any = OmegaConf.to_container(content, resolve=False)
    for key, value in flat(plain, prefix):
        why = refusal(key)
        ours = (key in FIXED and value == FIXED[key]) or (key.endswith("._target_") and package in PLUGINS)
        if why is not None and not ours:
            raise UserError(f"{file}: {key}={shown(value)}: {why}")


def _checking_plugins(load: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    @wraps(load)
    def checked(self: Any, *arguments: Any, **options: Any) -> DictConfig:
        try:
            composed = load(self, *arguments, **options)
        except RecursionError as error:
            raise UserError("a value of the configuration is nested too deep") from error
        for name, classes in PLUGINS.items():
            hydra: Any = OmegaConf.to_container(composed.hydra, resolve=False)
            node = hydra.get(name.removeprefix("hydra."))
            nested = [key for key, _ in flat({"": node}) if key.split(".")[-1] == "_target_"]
            if not isinstance(node, dict) or node.get("_target_") not in classes or len(nested) != 1:
                raise UserError(f"{name}={shown(node)}: {refusal('hydra._target_')}")
        return composed

    return checked


def _without_cycles(create: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(create)
    def checked(repo: Any, root: Any, **options: Any) -> Any:
        chain, node = [root], root.parent
        while node is not None:
            chain, node = [*chain, node], node.parent
        repo.nodes = getattr(repo, "nodes", 0) + 1
        paths = [_path(node) for node in chain]
        if paths[0] is not None and paths[0] in paths[1:]:
            cycle = paths[: paths.index(paths[0], 1) + 1]
            raise UserError(
                f"{read_files.get(str(cycle[0]), cycle[0])}: its defaults include itself: "
                f"{' <- '.join(map(str, cycle))}"
            )
        if len(chain) > DEEPEST or repo.nodes > MOST_FILES:
            raise UserError(
                f"{read_files.get(str(paths[1]), paths[1])}: its defaults include more than {DEEPEST} "
                f"files below each other, or {MOST_FILES} files in all"
            )
        if paths[0] is not None and max(map(len, paths[0].split("/"))) > LONGEST_NAME:
            raise UserError(
                f"{read_files.get(str(paths[1]), paths[1]) if len(paths) > 1 else 'the command'}: an option has "
                f"{len(paths[0]):,} characters, more than a file name has"
            )
        return create(repo=repo, root=root, **options)

    return checked


def _path(tree: Any) -> str | None:
    """`experiment/mine` of a node of the tree of defaults; None where it names no file."""
    if tree.parent is None or tree.node.is_virtual() or tree.node.get_name() is None:
        return None
    return str(tree.node.get_config_path())
