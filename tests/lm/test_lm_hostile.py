"""A checkpoint whose files are wrong, or made to take all time or memory, is refused in one line that names a file."""

import json
import os
import random
import resource
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from prompt_ids import prompt_ids

from r2gen.errors import UserError
from r2gen.lm import Prompt, load_lm, read_tokenizer
from r2gen.runs import trial

TEMPLATED = Prompt(before="", after="", bos=False, chat_template=True)
MESSAGE = "{{ messages[0]['content'] }}"


@pytest.fixture(autouse=True)
def smaller_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SECONDS", 1)
    monkeypatch.setattr(trial, "MIB", 200)


@pytest.fixture
def folder(golden_folder: Path, tmp_path: Path) -> Path:
    """A checkpoint with tokenizer.json that may be changed."""
    return copied(golden_folder / "llama2_json", tmp_path / "lm")


def copied(source: Path, folder: Path) -> Path:
    folder.mkdir()
    for file in source.iterdir():
        if not file.name.startswith("golden."):
            shutil.copyfile(file, folder / file.name)
    return folder


def edit(file: Path, **fields: Any) -> None:
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.write_text(json.dumps(content | fields), encoding="utf-8")


@contextmanager
def refused(folder: Path, *parts: str) -> Iterator[None]:
    """The block is refused in one line that names the folder, within 20 s and 2 GiB of memory."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as error:
        yield
    assert time.monotonic() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * 2**20  # KiB
    message = str(error.value)
    assert "\n" not in message
    assert str(folder) in message
    for part in parts:
        assert part in message


FIELDS: list[tuple[str, Any, str]] = [
    ("hidden_size", -4, "negative dimension -4"),
    ("hidden_size", 0, "cannot build what"),
    ("hidden_size", 10**9, "describes a model of 8,000,001,469,000,000,000 weights"),
    ("hidden_size", 10**12, "cannot build what"),
    ("hidden_size", "x", "hidden_size"),
    ("num_hidden_layers", 1e9, "num_hidden_layers=1000000000.0: at most 1,000 are read"),
    ("num_hidden_layers", 10**9, "num_hidden_layers=1000000000: at most 1,000 are read"),
    ("num_labels", 10**9, "num_labels=1000000000: at most 100,000 are read"),
    ("num_attention_heads", -1, "cannot build what"),
    ("vocab_size", 10**12, "describes a model of"),
    ("vocab_size", -1, "negative dimension -1"),
    ("intermediate_size", 10**12, "describes a model of"),
    ("hidden_act", "nope", "cannot build what"),
    ("quantization_config", {"quant_method": "torchao", "quant_type": "x"}, "cannot build what"),
    ("torch_dtype", [1], "cannot build what"),
]


@pytest.mark.parametrize(("field", "value", "message"), FIELDS, ids=[f"{name}={value}" for name, value, _ in FIELDS])
def test_a_field_of_config_json_is_refused(folder: Path, field: str, value: Any, message: str) -> None:
    edit(folder / "config.json", **{field: value})
    with refused(folder, message):
        load_lm(folder)


CONTENTS: dict[str, bytes] = {
    "nested": b"[" * 100_000,
    "nested and closed": b'{"model_type": "llama", "x": ' + b"[" * 900 + b"]" * 900 + b"}",
    "a list": b"[]",
    "empty": b"",
    "5,000 digits": b'{"hidden_size": ' + b"9" * 5000 + b"}",
    "latin-1": b'{"a": "\xe4"}',
    "UTF-16": '{"model_type": "llama"}'.encode("utf-16"),
    "40 MiB": b'{"x": "' + b"a" * 40 * 2**20 + b'"}',
}
JSON_FILES = ("config.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")


@pytest.mark.parametrize("name", CONTENTS)
def test_a_json_file_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / "config.json").write_bytes(CONTENTS[name])
    with refused(folder / "config.json"):
        load_lm(folder)


@pytest.mark.parametrize("name", JSON_FILES)
def test_only_regular_files_with_a_dictionary_are_read(folder: Path, name: str) -> None:
    for make in (lambda file: os.mkfifo(file), lambda file: file.write_bytes(CONTENTS["nested"])):
        (folder / name).unlink(missing_ok=True)
        make(folder / name)
        with refused(folder / name):
            read_tokenizer(folder) if name != "config.json" else load_lm(folder)


TOKENS: list[tuple[str, dict[str, Any], str]] = [
    ("tokenizer_config.json", {"eos_token": 3}, "eos_token in tokenizer_config.json"),
    ("tokenizer_config.json", {"eos_token": {"content": ["a"]}}, "eos_token in tokenizer_config.json"),
    ("tokenizer_config.json", {"bos_token": [1]}, "bos_token in tokenizer_config.json"),
    ("tokenizer_config.json", {"chat_template": ["a"]}, "is not a text"),
    ("tokenizer_config.json", {"chat_template": [{"name": "default"}]}, "is not a text"),
    ("tokenizer_config.json", {"chat_template": [{"name": ["default"], "template": "x"}]}, "is not a text"),
    ("generation_config.json", {"eos_token_id": "x"}, "eos_token_id in generation_config.json"),
    ("generation_config.json", {"eos_token_id": [1, "a"]}, "eos_token_id in generation_config.json"),
    ("config.json", {"pad_token_id": {}}, "pad_token_id in generation_config.json or config.json"),
]


@pytest.mark.parametrize(("name", "fields", "message"), TOKENS)
def test_special_tokens_of_a_wrong_type_are_refused(
    folder: Path, name: str, fields: dict[str, Any], message: str
) -> None:
    edit(folder / name, **fields)
    with pytest.raises(UserError, match=r"^lm.path: [^\n]*$") as error:
        read_tokenizer(folder)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "decoder",
    [3, [1], {"a": {"content": "x"}}, {"1": 3}, {"1": {}}, {"1": {"content": 3}}, {"9" * 5000: {"content": "x"}}],
)
def test_added_tokens_of_a_wrong_type_are_refused(golden_folder: Path, tmp_path: Path, decoder: Any) -> None:
    folder = copied(golden_folder / "llama2_spm", tmp_path / "lm")
    edit(folder / "tokenizer_config.json", added_tokens_decoder=decoder)
    with refused(folder / "tokenizer_config.json"):
        read_tokenizer(folder)


TEMPLATES = {
    "division by zero": "{{ 1 / 0 }}",
    "recursion": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "a loop": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "much output": "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    "a gigabyte": "{{ 'x' * 1000000000 }}",
    "a hundred gigabytes": "{{ 'x'.center(100000000000) }}",
    "doubling": "{% set ns = namespace(a='x') %}{% for i in range(60) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}",
    "a power": "{% set x = 9 %}{{ x ** 99999999 }}",
    "a filter": "{{ lipsum(100000, min=1000000, max=10000000) }}",
    "deep": "{{ " + "[" * 500 + "]" * 500 + " }}",
    "a long prompt": "{{ 'x' * 200000 }}",
    "half a surrogate pair": "{{ '\\ud800' }}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_template_is_refused_by_its_file(folder: Path, name: str) -> None:
    (folder / "chat_template.jinja").write_text(TEMPLATES[name] + MESSAGE)
    tokenizer = read_tokenizer(folder)
    with refused(folder / "chat_template.jinja", "lm.prompt.chat_template=true"):
        prompt_ids(TEMPLATED, tokenizer)


def pattern(regex: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def growing(times: int) -> dict[str, Any]:
    step = {"type": "Replace", "pattern": {"Regex": "."}, "content": "a" * 100}
    return {"type": "Sequence", "normalizers": [step] * times}


TOKENIZERS = {
    "a pattern that backtracks": {"pre_tokenizer": pattern("([a-zA-Z ]+)*[0-9]!$")},
    "another": {"pre_tokenizer": pattern("^(([a-z ])+.)+[A-Z]([a-z])+$")},
    "a normalizer that grows a text by 10^8": {"normalizer": growing(4)},
    "by 10^12": {"normalizer": growing(6)},
    "a long prefix": {"normalizer": {"type": "Prepend", "prepend": "x" * 20_000_000}},
    "a vocabulary of one": {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "nope"}},
    "an unknown part": {"normalizer": {"type": "Nope"}},
    "a wrong pattern": {"pre_tokenizer": pattern("(")},
    "no model": {"model": None},
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_json_is_refused(folder: Path, name: str) -> None:
    edit(folder / "tokenizer.json", **TOKENIZERS[name])
    with refused(folder / "tokenizer.json"):
        read_tokenizer(folder)


def stored(header: bytes, data: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if size is None else size) + header + data


def entry(shape: Any, end: int, dtype: str = "F32") -> bytes:
    return json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}).encode()


SAFETENSORS = {
    "a long header": stored(b"{}", size=2**40),
    "beyond the file": stored(entry([4], 10**12)),
    "a shape larger than its data": stored(entry([10**9, 10**9], 16), bytes(16)),
    "a negative shape": stored(entry([-1], 4), bytes(4)),
    "nested": stored(b"[" * 1_000_000),
    "no tensor": stored(b"{}"),
    "empty": b"",
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_a_lying_header_is_refused(folder: Path, name: str) -> None:
    (folder / "model.safetensors").write_bytes(SAFETENSORS[name])
    with refused(folder):
        load_lm(folder)


@pytest.mark.parametrize("name", ["/etc/passwd", "../m.safetensors", "", ".", "a\0b", "x" * 5000])
def test_an_index_names_files_of_its_folder_only(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / "m.safetensors")
    edit(folder / "model.safetensors.index.json", metadata={}, weight_map={"a": name})
    with refused(folder, "which is no file in"):
        load_lm(folder)


@pytest.mark.parametrize("content", [{1: 2}, [1, 2], "text", 3, None, {"a": "b"}, {(1, 2): torch.ones(1)}])
def test_a_pickle_with_something_else_is_refused(folder: Path, content: Any) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")
    with refused(folder):
        load_lm(folder)


VALUES = (None, -1, 0, 1, 3, 10**9, 10**18, 1e9, 0.5, "x", "", [], [1], {}, {"a": 1}, True, [[1]])


def check_mutated(folder: Path, original: dict[str, Any], source: random.Random) -> None:
    fields = source.sample(sorted(original), source.choice([1, 1, 2]))
    (folder / "config.json").write_text(json.dumps(original | {name: source.choice(VALUES) for name in fields}))
    began = time.monotonic()
    try:
        lm = load_lm(folder, stop=())
    except UserError as error:
        message = str(error)
    else:
        message = ""
        assert lm.dim > 0
    assert time.monotonic() - began < 20
    assert "\n" not in message
    assert not message or str(folder) in message or "config.json" in message


def many(folder: Path, number: int, source: random.Random) -> None:
    original = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for _ in range(number):
        check_mutated(folder, original, source)


def test_a_config_json_changed_at_random_is_read_or_refused(folder: Path, seed: int) -> None:
    many(folder, 10, random.Random(seed))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama2_json", "llama2_spm"])
def test_many_changes_of_config_json_are_read_or_refused(
    golden_folder: Path, tmp_path: Path, name: str, seed: int
) -> None:
    many(
        copied(golden_folder / name, tmp_path / "lm"), int(os.environ.get("R2GEN_EXAMPLES", "100")), random.Random(seed)
    )


PIECES = (
    *("{% for i in range(9999) %}", "{% endfor %}", "{{ ", " }}", "{% if 1 %}", "{% endif %}", "messages", "[0]"),
    *("['content']", " * 99999999", " ** 999", " ~ ", "'x'", "|join", "|tojson", ".center(9999999999)", "range(99999)"),
    *("|list", "{% set x = ", " %}", "x", "loop", "namespace(a=1)", "raise_exception('a')", "1 / 0", "{#", MESSAGE),
)
NORMALIZERS: tuple[Callable[[random.Random], dict[str, Any]], ...] = (
    lambda source: {
        "type": "Replace",
        "pattern": {"Regex": source.choice(["(.+)+x!", ".", "(a|a)*b"])},
        "content": "aa",
    },
    lambda source: {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * source.choice([0, 2, 1000])},
    lambda source: {"type": "Prepend", "prepend": "a" * source.choice([0, 1, 10**6])},
    lambda source: {"type": source.choice(["NFC", "NFKD", "Lowercase", "Nope", "StripAccents"])},
)


def check_bomb(folder: Path, original: dict[str, Any], source: random.Random) -> None:
    steps = [source.choice(NORMALIZERS)(source) for _ in range(source.randint(0, 5))]
    edit(
        folder / "tokenizer.json", **original, normalizer={"type": "Sequence", "normalizers": steps} if steps else None
    )
    (folder / "chat_template.jinja").write_text("".join(source.choices(PIECES, k=source.randint(1, 12))))
    began = time.monotonic()
    try:
        prompt_ids(TEMPLATED, read_tokenizer(folder))
    except UserError as error:
        message = str(error)
        assert "\n" not in message
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "number", [5, pytest.param(int(os.environ.get("R2GEN_EXAMPLES", "100")), marks=pytest.mark.slow)]
)
def test_tokenizers_and_templates_made_at_random_are_read_or_refused(folder: Path, number: int, seed: int) -> None:
    source, original = random.Random(seed), json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    del original["normalizer"]
    for _ in range(number):
        check_bomb(folder, original, source)
