"""Reads JSON, YAML and XML files that may come from elsewhere, be edited or torn, within one bound of size and depth.

Raises OSError, or ValueError with a reason on one line; the caller names the file and the fix.
"""

import json
import math
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints, is_typeddict

import yaml

from r2gen.config.hints import SCALARS, accepts
from r2gen.config.plain import Plain
from r2gen.errors import UserError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_BYTES, MAX_YAML_BYTES, MAX_XML_BYTES = 2**30, 2**20, 2**20
DEEPEST, MOST_GROUPS = 64, 10_000_000
MOST_YAML_GROUPS = 100_000  # a YAML file may name a group many times
MOST_DIGITS = 19  # of a whole number, as in 64 bits


def read_json(file: Path) -> Any:
    return parse_json(read_text(file))


def parse_json(
    text: str,
    *,
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
    any_text: bool = False,
    most_digits: int = MOST_DIGITS,
) -> Any:
    """The value of a JSON text; `pairs` makes an object from its keys and values.

    A whole number has at most `most_digits`. With `any_text` a string may hold half of a surrogate pair, which cannot
    be written to a file or a terminal.
    """
    try:
        decoder = json.JSONDecoder(object_pairs_hook=pairs, parse_int=partial(whole_number, most=most_digits))
        value = decoder.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    refuse_deep(value, most=MOST_GROUPS)
    if not any_text and ("\\ud" in text or "\\uD" in text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half of a surrogate pair, which is not a character") from None
    return value


def read_jsonl(path: Path) -> list[Plain]:
    """The objects of a .jsonl file; a last line torn by a kill is left out, any other broken line is a UserError."""
    try:
        lines = [line for line in enumerate(read_text(path).split("\n"), start=1) if line[1].strip()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {reason(error)}. Remove the file") from None
    rows: list[Plain] = []
    for number, line in lines:
        try:
            row = parse_json(line)
            if not isinstance(row, dict):
                raise ValueError("not an object")
        except ValueError as error:
            if number == lines[-1][0]:
                break
            raise UserError(f"{path}, line {number} is broken ({error}): remove that line") from None
        rows.append(row)
    return rows


def read_yaml(file: Path) -> Any:
    """The value of a YAML file, as plain data."""
    text = read_text(file, most=MAX_YAML_BYTES)
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        position = error.problem_mark
        where = f"line {position.line + 1}, column {position.column + 1}: " if position is not None else ""
        raise ValueError(f"{where}{error.problem}") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (ValueError, TypeError, AttributeError, OverflowError, LookupError) as error:
        raise ValueError(f"a value cannot be read ({' '.join(str(error).split())[:80]})") from None
    refuse_deep(value, most=MOST_YAML_GROUPS)
    return value


def read_xml(file: Path) -> "Element":
    """The root element of an XML file. A document type, which may define entities, is refused."""
    from xml.etree.ElementTree import TreeBuilder  # of all commands, task=prepare alone reads XML
    from xml.parsers import expat

    text, builder, depth = read_text(file, most=MAX_XML_BYTES), TreeBuilder(), 0
    parser = expat.ParserCreate()

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise ValueError("nested too deeply")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    def refuse_doctype(*_: object) -> None:
        raise ValueError("it has a document type (<!DOCTYPE>), which is not read")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = builder.data, refuse_doctype
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise ValueError(f"not XML: {error}") from None
    return builder.close()


def read_text(file: Path, *, most: int = MAX_BYTES) -> str:
    """The text of a regular file in UTF-8, without its byte order mark."""
    # Not blocking, since opening a pipe would otherwise wait for its writer.
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a file")
        if status.st_size > most:
            raise ValueError(f"it has {status.st_size / 2**20:,.0f} MiB, and at most {most / 2**20:,.0f} are read")
        raw = opened.read()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        hint = " (it looks like UTF-16)" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise ValueError(f"byte {error.start + 1}, 0x{raw[error.start]:02x}, is not UTF-8{hint}") from None


def refuse_compressed(file: Path) -> None:
    """Raise ValueError for a file of torch's that is compressed, as torch writes none: it may take any memory."""
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(file) as members:  # torch says why another file is none of its
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.infolist()):
            raise ValueError("it is compressed, and may take any amount of memory")


def reason(error: Exception) -> str:
    """Why a file cannot be read, on one line."""
    return (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split()) or type(error).__name__


def misfits(value: Any, hint: Any, name: str = "", *, finite: bool = True) -> Iterator[str]:
    """The dotted names of what does not fit a type hint, which may contain a TypedDict, a list or a dictionary.

    With `finite`, NaN and infinity do not fit.
    """
    if hint in SCALARS:  # most values of a large file: decided before its type hint is taken apart
        if not accepts(value, hint) or (finite and _is_infinite(value)):
            yield name or "its content"
        return
    prefix = f"{name}." if name else ""
    if is_typeddict(hint) and isinstance(value, dict):
        for key, inner in _hints_of(hint).items():
            if key in value:
                yield from misfits(value[key], inner, prefix + key, finite=finite)
            elif key in hint.__required_keys__:
                yield prefix + key
    elif get_origin(hint) is dict and isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                yield name
            else:
                yield from misfits(item, get_args(hint)[1], f"{prefix}{key:.40}", finite=finite)
    elif get_origin(hint) is list and isinstance(value, list):
        for number, item in enumerate(value):
            yield from misfits(item, get_args(hint)[0], f"{name}[{number}]", finite=finite)
    elif get_origin(hint) in (Union, UnionType):
        if all(next(misfits(value, option, name, finite=finite), None) is not None for option in get_args(hint)):
            yield name
    elif is_typeddict(hint) or not accepts(value, hint) or (finite and _is_infinite(value)):
        yield name or "its content"


@cache
def _hints_of(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def whole_number(digits: str, *, most: int) -> int:
    if len(digits) > most:
        raise ValueError(f"a whole number has {len(digits):,} digits, and at most {most} are read")
    return int(digits)


def refuse_deep(value: Any, *, most: int) -> None:
    groups = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        if not groups:
            return
        groups = [
            inner
            for group in groups
            for inner in (group.values() if isinstance(group, dict) else group)
            if isinstance(inner, dict | list)
        ]
        if len(groups) > most:
            raise ValueError(f"it holds more than {most:,} groups")
    raise ValueError("nested too deeply")


class _Loader(yaml.SafeLoader):
    """yaml.SafeLoader, which refuses a key that is given twice, and ends where groups are nested too deeply."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError("nested too deeply")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None and twice != "<<":
            raise yaml.constructor.ConstructorError(problem=f"{twice:.40} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep=deep)
