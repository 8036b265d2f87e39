"""What a `_target_` of the configuration accepts, read from its source with `ast`: nothing is imported, torch least.

`instantiate` imports the one module that it builds from.
"""

import ast
import importlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from r2gen.errors import UserError, shown

PACKAGE = Path(__file__).parent.parent
SCALARS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
WORDS = {"int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false"}
EXAMPLES = {"int": "1,2", "float": "0.9,0.98"}


@dataclass(frozen=True)
class Parameter:
    annotation: ast.expr | None
    default: ast.expr | None  # None: it must be given

    @property
    def required(self) -> bool:
        return self.default is None


def parameters(target: Any, option: str = "_target_") -> dict[str, Parameter]:
    """The keyword parameters of a class `r2gen.module.name`.

    Raises UserError where the name lies outside r2gen or does not exist.
    """
    return _of_class(_definition(target, option))


def members(target: Any, option: str = "_target_") -> set[str]:
    """The names of the functions and attributes that a class defines itself, or sets on `self`."""
    definition = _definition(target, option)
    found = {item.name for item in definition.body if isinstance(item, ast.FunctionDef)}
    for item in definition.body:
        if isinstance(item, ast.Assign | ast.AnnAssign):
            names = item.targets if isinstance(item, ast.Assign) else [item.target]
            found |= {name.id for name in names if isinstance(name, ast.Name)}
    stored = (item for item in ast.walk(definition) if isinstance(item, ast.Attribute))
    return found | {item.attr for item in stored if isinstance(item.ctx, ast.Store)}


def class_constant(target: Any, name: str) -> Any:
    """The plain value that a class gives to one of its attributes (`name = True`); None if it gives none."""
    for item in _definition(target, "_target_").body:
        match item:
            case ast.Assign(targets=[ast.Name(id=found)], value=ast.Constant(value=value)) if found == name:
                return value
    return None


def _definition(target: Any, option: str) -> ast.ClassDef:
    if not isinstance(target, str):
        raise UserError(f"{option}: _target_={shown(target)}: give the name of a class in r2gen")
    return _found(target, option)


@cache
def _found(target: str, option: str) -> ast.ClassDef:
    module, _, name = target.rpartition(".")
    if target.split(".")[0] != "r2gen" or not module:
        raise UserError(f"{option}: _target_={shown(target)} is not in r2gen: a configuration may build nothing else")
    parts = module.split(".")[1:]
    source = PACKAGE.joinpath(*parts).with_suffix(".py")
    if not parts or not all(part.isidentifier() for part in parts) or not source.is_file():
        raise UserError(f"{option}: _target_={shown(target)}: there is no module {shown(module)}")
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:  # no function: some write files, or start processes
            return node
    raise UserError(f"{option}: _target_={shown(target)}: {module} has no class {shown(name)}")


def instantiate(node: dict[str, Any], **supplied: Any) -> Any:
    """The object a `_target_` names, from its YAML keys and what is supplied here.

    Not Hydra's: that one imports any name at all, and wraps our one-line errors into its own.
    """
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    return class_of(node["_target_"])(**arguments, **supplied)


def class_of(target: str) -> Any:
    """The class that a `_target_` names. Raises UserError if it is not in r2gen, also from an edited config.yaml."""
    _definition(target, "_target_")
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


def with_defaults(node: dict[str, Any]) -> dict[str, Any]:
    """A node with a `_target_` and, for what it does not name, the plain values the target takes then."""
    defaults = {name: spec.default for name, spec in parameters(node["_target_"]).items()}
    return {name: value.value for name, value in defaults.items() if isinstance(value, ast.Constant)} | node


def _of_class(node: ast.ClassDef) -> dict[str, Parameter]:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _of_function(item.args)
    return {  # a dataclass
        item.target.id: Parameter(item.annotation, item.value)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }


def _of_function(args: ast.arguments) -> dict[str, Parameter]:
    positional = args.posonlyargs + args.args
    defaults = [None] * (len(positional) - len(args.defaults)) + args.defaults
    known = {
        arg.arg: Parameter(arg.annotation, default)
        for arg, default in zip(positional, defaults, strict=True)
        if arg.arg != "self"
    }
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        known[arg.arg] = Parameter(arg.annotation, default)
    return known


def accepts(value: Any, annotation: ast.expr | None) -> bool:
    """Whether a plain YAML value fits an annotation; annotations of other kinds than plain data accept anything."""
    match annotation:
        case ast.Constant(value=None):
            return value is None
        case ast.Name(id=name) if name in SCALARS:
            return isinstance(value, SCALARS[name]) and (name == "bool") == isinstance(value, bool)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return accepts(value, left) or accepts(value, right)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            return value in _literals(choices)
        case ast.Subscript(value=ast.Name(id="list" | "Sequence"), slice=item):
            return isinstance(value, list) and all(accepts(each, item) for each in value)
        case ast.Subscript(value=ast.Name(id="dict" | "Mapping")):
            return isinstance(value, dict)
    return True


def describe(annotation: ast.expr | None) -> str:
    """What `accepts` takes, in words."""
    match annotation:
        case ast.Constant(value=None):
            return "null"
        case ast.Name(id=name) if name in WORDS:
            return WORDS[name]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return f"{describe(left)} or {describe(right)}"
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            return "one of " + ", ".join(str(choice) for choice in _literals(choices))
        case ast.Subscript(value=ast.Name(id="list" | "Sequence"), slice=item):
            return f"a list such as [{EXAMPLES.get(ast.unparse(item), 'a,b')}]"
        case ast.Subscript(value=ast.Name(id="dict" | "Mapping")):
            return "names with values, such as {name: value}"
    return ast.unparse(annotation) if annotation else "another value"


def _literals(choices: ast.expr) -> list[Any]:
    items = choices.elts if isinstance(choices, ast.Tuple) else [choices]
    return [item.value for item in items if isinstance(item, ast.Constant)]
