"""The YAML files of Hydra's groups: each is read within bounds, and a fault is one message with file and line.

Hydra itself waits for a FIFO, writes out aliases without end, and ends with an error of PyYAML's for most faults.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader
from omegaconf.errors import GrammarParseError
from omegaconf.grammar_parser import parse

from r2gen.errors import UserError, shown

LARGEST_KIB = 256
MOST_VALUES = 10_000  # in a file, with its aliases written out
DEEPEST = 30  # groups in groups
MOST_BRACKETS = 30  # in a value with an interpolation, whose parser takes seconds for hundreds
HEADER = 512  # characters at the beginning, in which Hydra looks for @package
PREFIX = "tag:yaml.org,2002:"
TAGS = frozenset(PREFIX + kind for kind in ("str", "int", "float", "bool", "null", "seq", "map", "merge"))

read_files: dict[str, Path] = {}  # the file of each `group/option` that was read


class YamlFiles(FileConfigSource):
    """A folder of YAML files for Hydra. Raises UserError naming file and line."""

    def is_config(self, config_path: str) -> bool:
        """Whether there is anything of this name, which load_config may then refuse with a reason."""
        try:
            os.lstat(self._file(config_path))
        except PermissionError:
            return True
        except OSError:
            return False
        return True

    def list(self, config_path: str, results_filter: ObjectType | None) -> Any:
        try:
            return super().list(config_path, results_filter)
        except OSError as error:
            raise UserError(f"{Path(self.path, config_path)} cannot be read: {error.strerror}") from error

    def load_config(self, config_path: str) -> ConfigResult:
        file = self._file(config_path)
        read_files[config_path] = file
        text = read_text(file)
        try:
            header = self._get_header_dict(text[:HEADER])
        except ValueError as error:
            raise UserError(f"{file}, line 1: {error}: write `# @package _global_`, or no such line") from error
        config = OmegaConf.create(read_yaml(text, file))
        return ConfigResult(config=config, path=f"file://{self.path}", provider=self.provider, header=header)

    def _file(self, config_path: str) -> Path:
        return Path(self.path, self._normalize_file_name(config_path))


def use_yaml_files() -> None:
    """Let Hydra read YAML files by this module."""
    Plugins.instance()  # registers Hydra's own class first
    SourcesRegistry.instance().types[YamlFiles.scheme()] = YamlFiles


def read_text(file: Path) -> str:
    """The text of a small UTF-8 file. Raises UserError."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # does not wait for the writer of a FIFO
        with os.fdopen(descriptor, "rb") as opened:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UserError(f"{file} is not a regular file: give a YAML file")
            content = opened.read(LARGEST_KIB * 1024 + 1) or b""  # None of a file that would block
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    if len(content) > LARGEST_KIB * 1024:
        raise UserError(f"{file} is larger than {LARGEST_KIB} KiB, which no configuration needs")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        raise UserError(f"{file}, line {line}: byte {byte:#04x} is not UTF-8: save the file as UTF-8") from error
    if strange := yaml.reader.Reader.NON_PRINTABLE.search(text):
        line, number = text.count("\n", 0, strange.start()) + 1, ord(strange.group())
        raise UserError(f"{file}, line {line}: it holds the control character U+{number:04X}: save it as UTF-8 text")
    return text


def read_yaml(text: str, file: Path) -> dict[Any, Any]:
    """The names and values in a text, empty where it has comments only. Raises UserError naming file and line."""
    if not text.strip():
        raise UserError(f"{file}, line 1: the file is empty: write KEY: VALUE, or remove the file")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None or node.tag == PREFIX + "null":
            return {}
        _check_top(node)
        _count(node, {}, [])
        content: dict[Any, Any] = loader.construct_document(node)
        return content
    except yaml.YAMLError as error:
        raise UserError(f"{file}{_problem(error)}") from error
    finally:
        loader.dispose()


class _Loader(get_yaml_loader()):  # type: ignore[misc]  # OmegaConf's, which refuses a key that is there twice
    """Composes so many nodes at most, and says where a value cannot be read."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth, self.nodes = self.depth + 1, self.nodes + 1
        if self.depth > DEEPEST:
            raise _fault("this is nested too deep", self.peek_event())
        if self.nodes > MOST_VALUES:
            raise _fault(f"the file has more than {MOST_VALUES:,} values", self.peek_event())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ValueError, TypeError, OverflowError) as error:  # int() of 5,000 digits, for example
            raise _fault(f"{shown(node.value)[:40]} cannot be read as {node.tag.removeprefix(PREFIX)}", node) from error
        if isinstance(value, int) and abs(value) >= 2**63:
            raise _fault(f"{shown(node.value)[:40]}: the number is too large", node)
        return value


def _check_top(node: yaml.Node) -> None:
    """Refuse anything but names with values, and a defaults list that Hydra cannot read."""
    if not isinstance(node, yaml.MappingNode):
        raise _fault("the file is a list or a single value: write KEY: VALUE at its top level", node)
    advice = "defaults is a list such as [_self_, {override /lm: llama2}]"
    for value in (value for key, value in node.value if key.value == "defaults"):
        if not isinstance(value, yaml.SequenceNode):
            raise _fault(advice, value)
        for entry in value.value:
            if not (_is_text(entry) or (isinstance(entry, yaml.MappingNode) and _is_choice(entry))):
                raise _fault(advice, entry)
        if [entry.value for entry in value.value].count("_self_") > 1:
            raise _fault("_self_ is there twice", value)


def _is_choice(entry: yaml.MappingNode) -> bool:
    """Whether an entry of a defaults list is a group with its option, its options, or null."""
    if len(entry.value) != 1:
        return False
    key, option = entry.value[0]
    options = option.value if isinstance(option, yaml.SequenceNode) else [option]
    return _is_text(key) and (option.tag == PREFIX + "null" or all(map(_is_text, options)))


def _is_text(node: yaml.Node) -> bool:
    return node.tag == PREFIX + "str" and node.value not in ("", "???")


def _count(node: yaml.Node, counted: dict[int, int], inside: list[int]) -> int:
    """The number of values with every alias written out; long texts count as several.

    Raises YAMLError for an alias inside its own anchor, too many values, a tag, a key or a text that is not accepted.
    """
    if id(node) in counted:
        return counted[id(node)]
    if id(node) in inside:
        raise _fault("an alias is inside its own anchor", node)
    if node.tag not in TAGS:
        raise _fault(f"the tag {shown(node.tag.replace(PREFIX, '!!'))} is not read: write a plain value", node)
    if isinstance(node, yaml.ScalarNode):
        _check_text(node)
        number = 1 + len(node.value) // 1000
    else:
        number = 1
        for child in _children(node):
            number += _count(child, counted, [*inside, id(node)])
        if number > MOST_VALUES:
            raise _fault(f"with its aliases this is more than {MOST_VALUES:,} values", node)
    counted[id(node)] = number
    return number


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
        return
    for key, value in node.value:
        if key.tag not in (PREFIX + "str", PREFIX + "merge") or not key.value:
            raise _fault("a key is a text without a tag: write NAME: VALUE, with quotes around 1, null or yes", key)
        yield key
        yield value


def _check_text(node: yaml.ScalarNode) -> None:
    text = str(node.value)
    strange = [c for c in text if (c < " " and c not in "\n\t") or "\x7f" <= c <= "\x9f" or "\ud800" <= c <= "\udfff"]
    if strange:
        raise _fault(f"the value holds the control character U+{ord(strange[0]):04X}", node)
    if "${" in text:
        if sum(map(text.count, "{[(")) > MOST_BRACKETS:
            raise _fault("this is nested too deep", node)
        try:
            parse(text)
        except GrammarParseError as error:
            problem = f"{shown(text)} cannot be read ({error}): ${{NAME}} is the value of another option"
            raise _fault(f"{problem}; write \\${{ for the characters themselves", node) from error


def _fault(problem: str, where: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)


def _problem(error: yaml.YAMLError) -> str:
    """`, line 3: what is wrong`."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return f": {shown(error)}"
    advice = ": indent with spaces, not with tabs" if "\\t" in str(error.problem) else ""
    problem = f"{error.context}, {error.problem}" if str(error.problem).startswith("but ") else str(error.problem)
    return f", line {error.problem_mark.line + 1}: {' '.join(problem.split())}{advice}"
