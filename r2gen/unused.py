"""What other libraries do at their import although it is not needed here."""

import csv
import functools
import importlib.metadata
import inspect
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """Let what is imported in the block take these packages for not installed, unless they are imported already."""
    hidden = [package for package in packages if package not in sys.modules]
    sys.modules |= dict.fromkeys(hidden)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]


@contextmanager
def without_looking_for_files() -> Iterator[None]:
    """Let importlib.metadata.packages_distributions, in the block, not look whether each installed file exists.

    transformers 5.17 calls it at its import: .6 to 1 s on a GPU machine.
    """
    before = importlib.metadata.packages_distributions
    importlib.metadata.packages_distributions = Distributions
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = before


class Distributions(Mapping[str, list[str]]):
    """A distribution that has installed a top-level module, by the name of the module.

    One that is named as the module is found without reading the others, as transformers' own search does from 5.23 on.
    """

    def __getitem__(self, module: str) -> list[str]:
        try:
            importlib.metadata.version(module)
            return [module]
        except importlib.metadata.PackageNotFoundError:
            return self._all[module]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @functools.cached_property
    def _all(self) -> dict[str, list[str]]:
        distributions = defaultdict(list)
        for distribution in importlib.metadata.distributions():
            for module in _modules(distribution):
                distributions[module].append(distribution.metadata["Name"])
        return dict(distributions)


def _modules(distribution: importlib.metadata.Distribution) -> set[str]:
    declared = (distribution.read_text("top_level.txt") or "").split()
    if declared:
        return set(declared)
    record = distribution.read_text("RECORD")
    if record is None:
        paths = list(map(str, distribution.files or []))
    else:
        paths = [row[0] for row in csv.reader(record.splitlines()) if row]
    names = {path.partition("/")[0] if "/" in path else inspect.getmodulename(path) or path for path in paths}
    return {name for name in names if "." not in name}


SCANNING = "transformers.utils.import_utils"


@contextmanager
def with_models_scanned_once() -> Iterator[None]:
    """Let transformers, if it is imported in the block, make its table of models in a fifth of the time.

    It reads the 2,500 files of its models twice, and splits each into lines to find `__all__`: .5 to .8 s.
    """
    finder = _ScanningFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _ScanningFinder(MetaPathFinder):
    """Finds the module that scans files, and changes it once it is executed."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == SCANNING else None
        if spec is not None and spec.loader is not None:
            execute: Callable[[Any], None] = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                execute(module)
                _scan_once(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _scan_once(module: Any) -> None:
    """Let the module keep what it has read of all folders, and search for `__all__` from its last line on."""
    scan: Any = getattr(module, "create_import_structure_from_path", None)
    find: Any = getattr(module, "fetch__all__", None)
    if hasattr(scan, "cache_info"):  # its cache has room for 128 of 500 folders
        module.create_import_structure_from_path = functools.cache(scan.__wrapped__)
    if find is not None:
        module.fetch__all__ = lambda text: find(text[text.rfind("\n__all__") + 1 :])
