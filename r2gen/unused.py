"""What other libraries do at their import although it is not needed here."""

import csv
import importlib.metadata
import inspect
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


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
    importlib.metadata.packages_distributions = packages_distributions
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = before


def packages_distributions() -> dict[str, list[str]]:
    """The distributions that have installed each top-level module, by the name of the module."""
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
