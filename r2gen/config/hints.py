"""Whether a plain YAML value fits a type annotation, and the annotation in words.

Annotations come from the dataclasses of schema.py, or from the source of a `_target_` class (targets.py).
"""

import ast
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

SCALARS: dict[type, tuple[type, ...]] = {int: (int,), float: (int, float), str: (str,), bool: (bool,)}
WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", NoneType: "null"}
EXAMPLES = {int: "1,2", float: "0.9,0.98"}
NAMES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}


def accepts(value: Any, hint: Any) -> bool:
    """Whether a plain value fits; hints of other kinds than plain data accept anything."""
    if hint is None or hint is NoneType:
        return value is None
    if hint in SCALARS:
        return isinstance(value, SCALARS[hint]) and (hint is bool) == isinstance(value, bool)
    match get_origin(hint):
        case origin if origin in (Union, UnionType):
            return any(accepts(value, option) for option in get_args(hint))
        case origin if origin is Literal:
            return value in get_args(hint)
        case origin if origin is list:
            return isinstance(value, list) and all(accepts(item, get_args(hint)[0]) for item in value)
        case origin if origin is dict:
            return isinstance(value, dict)
    return True


def describe(hint: Any) -> str:
    """What `accepts` takes, in words."""
    if hint in WORDS:
        return WORDS[hint]
    match get_origin(hint):
        case origin if origin in (Union, UnionType):
            return " or ".join(describe(option) for option in get_args(hint))
        case origin if origin is Literal:
            return "one of " + ", ".join(str(choice) for choice in get_args(hint))
        case origin if origin is list:
            return f"a list such as [{EXAMPLES.get(get_args(hint)[0], 'a,b')}]"
    return "names with values, such as {name: value}"


def from_source(annotation: ast.expr | None) -> Any:
    """The annotation as a type, read from its syntax tree; Any for one that is not plain data."""
    match annotation:
        case ast.Constant(value=None):
            return NoneType
        case ast.Name(id=name) if name in NAMES:
            return NAMES[name]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return Union[from_source(left), from_source(right)]  # noqa: UP007 - built at run time
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            items = choices.elts if isinstance(choices, ast.Tuple) else [choices]
            return Literal[tuple(item.value for item in items if isinstance(item, ast.Constant))]
        case ast.Subscript(value=ast.Name(id="list" | "Sequence"), slice=item):
            return list[from_source(item)]  # type: ignore[misc]
        case ast.Subscript(value=ast.Name(id="dict" | "Mapping")):
            return dict[str, Any]
    return Any
