"""The classes that `_target_` names: their parameters, read from the source, and their objects.

The source is read with `ast`, so that a misspelt key is refused without importing the class, and with it torch.
"""

import ast
import importlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from r2gen.config import hints
from r2gen.config.plain import Plain
from r2gen.errors import UserError, shown

PACKAGE = Path(__file__).parent.parent


@dataclass
class Target:
    """A class in r2gen and the keyword arguments it is made with: a YAML node with a `_target_`."""

    name: str  # r2gen.module.Class
    arguments: Plain = field(default_factory=dict)

    @property
    def class_name(self) -> str:
        return self.name.rpartition(".")[2]

    def get(self, argument: str) -> Any:
        """An argument that not every class of the group has; None where it is missing."""
        return self.arguments.get(argument)

    def with_arguments(self, **changed: Any) -> "Target":
        return Target(self.name, {**self.arguments, **changed})

    def with_defaults(self) -> "Target":
        """With the plain default values of the class for the arguments that are missing."""
        syntax = {name: spec.default for name, spec in parameters(self.name).items()}
        defaults = {name: value.value for name, value in syntax.items() if isinstance(value, ast.Constant)}
        return Target(self.name, defaults | self.arguments)


@dataclass(frozen=True)
class Parameter:
    """One keyword parameter of a class."""

    hint: Any  # its type; Any where it is not plain data
    default: ast.expr | None  # None: it must be given

    @property
    def required(self) -> bool:
        return self.default is None


def instantiate(target: Target, **supplied: Any) -> Any:
    """The object of a target, from its arguments and those that are supplied here.

    Not Hydra's `instantiate`: it imports any name, and wraps one-line errors into its own.
    """
    return class_of(target)(**target.arguments, **supplied)


def class_of(target: Target) -> Any:
    """The class of a target, imported. Raises UserError where it is not in r2gen."""
    _definition(target.name, "_target_")
    module, _, name = target.name.rpartition(".")
    return getattr(importlib.import_module(module), name)


def parameters(target: Any, option: str = "_target_") -> dict[str, Parameter]:
    """The keyword parameters of a class `r2gen.module.name`.

    Raises UserError where the name is outside r2gen or does not exist.
    """
    definition = _definition(target, option)
    for item in definition.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _of_function(item.args)
    return {  # a dataclass
        item.target.id: Parameter(hints.from_source(item.annotation), _field_default(item.value))
        for item in definition.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }


def members(target: Any, option: str = "_target_") -> set[str]:
    """The names of the functions and attributes that a class defines itself, or sets on `self`."""
    definition = _definition(target, option)
    names_in_class = {item.name for item in definition.body if isinstance(item, ast.FunctionDef)}
    for item in definition.body:
        if isinstance(item, ast.Assign | ast.AnnAssign):
            names = item.targets if isinstance(item, ast.Assign) else [item.target]
            names_in_class |= {name.id for name in names if isinstance(name, ast.Name)}
    stored = (item for item in ast.walk(definition) if isinstance(item, ast.Attribute))
    return names_in_class | {item.attr for item in stored if isinstance(item.ctx, ast.Store)}


def class_constant(target: Any, name: str) -> Any:
    """The plain value that a class gives to one of its attributes (`name = True`); None if it gives none."""
    for item in _definition(target, "_target_").body:
        match item:
            case ast.Assign(targets=[ast.Name(id=attribute)], value=ast.Constant(value=value)) if attribute == name:
                return value
    return None


def _definition(target: Any, option: str) -> ast.ClassDef:
    if not isinstance(target, str):
        raise UserError(f"{option}: _target_={shown(target)}: give the name of a class in r2gen")
    module, _, name = target.rpartition(".")
    if target.split(".")[0] != "r2gen" or not module:
        raise UserError(f"{option}: _target_={shown(target)} is not in r2gen: a configuration may build nothing else")
    parts = module.split(".")[1:]
    source = PACKAGE.joinpath(*parts).with_suffix(".py")
    if not parts or not all(part.isidentifier() for part in parts) or not source.is_file():
        raise UserError(f"{option}: _target_={shown(target)}: there is no module {shown(module)}")
    classes = _classes(source)
    if name not in classes:
        raise UserError(f"{option}: _target_={shown(target)}: {module} has no class {shown(name)}")
    return classes[name]


@cache
def _classes(source: Path) -> dict[str, ast.ClassDef]:
    """The classes of a module. Its functions are left out, since they may write files or start processes."""
    body = ast.parse(source.read_text(encoding="utf-8")).body
    return {node.name: node for node in body if isinstance(node, ast.ClassDef)}


def _field_default(value: ast.expr | None) -> ast.expr | None:
    """The default of a dataclass field, which may be written as option(..., default=...)."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "option":
        return next((keyword.value for keyword in value.keywords if keyword.arg == "default"), None)
    return value


def _of_function(args: ast.arguments) -> dict[str, Parameter]:
    positional = args.posonlyargs + args.args
    defaults = [None] * (len(positional) - len(args.defaults)) + args.defaults
    collected = {
        arg.arg: Parameter(hints.from_source(arg.annotation), default)
        for arg, default in zip(positional, defaults, strict=True)
        if arg.arg != "self"
    }
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        collected[arg.arg] = Parameter(hints.from_source(arg.annotation), default)
    return collected
