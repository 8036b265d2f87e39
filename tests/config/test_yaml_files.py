"""A YAML file of the user's that cannot be meant is refused in one line with file and line, and starts nothing."""

import os
import random
import time
from pathlib import Path

import pytest
from mutated_yaml import check_mutated, mutated
from run_in_process import run_in_process
from smallest_run import ROOT

from r2gen.config.yaml_files import read_text, read_yaml
from r2gen.errors import UserError

GLOBAL = "# @package _global_\n"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)
MERGES = "b0: &b0 {k: v}\n" + "".join(f"b{i}: &b{i}\n  <<: [{', '.join([f'*b{i - 1}'] * 50)}]\n" for i in range(1, 7))
FAULTY = {  # after the header: the content, the line that is named, a part of the message
    "tab": ("trainer:\n\tepochs: 3\n", 3, "indent with spaces"),
    "duplicate key": ("trainer:\n  epochs: 3\n  epochs: 4\n", 4, "duplicate key epochs"),
    "latin-1": ("run_dir: ä\n".encode("latin-1"), 2, "is not UTF-8"),
    "latin-1 far below": (("#" * 600 + "\nrun_dir: ä\n").encode("latin-1"), 3, "is not UTF-8"),
    "NUL": ("run_dir: a\0\n", 2, "control character U+0000"),
    "escape": ("run_dir: a\x1b[2J\n", 2, "control character U+001B"),
    "NUL, escaped": ('run_dir: "a\\0b"\n', 2, "control character U+0000"),
    "half a surrogate pair": ('run_dir: "\\ud800"\n', 2, "control character U+D800"),
    "code": ("run_dir: !!python/object/apply:os.system [ls]\n", 2, "tag !!python/object/apply:os.system is not read"),
    "path": ("run_dir: !!python/object/apply:pathlib.Path [a]\n", 2, "is not read"),
    "other tag": ("run_dir: !mine a\n", 2, "the tag !mine is not read"),
    "set": ("images: !!set {a, b}\n", 2, "is not read"),
    "recursive alias": ("images: &a [*a]\n", 2, "inside its own anchor"),
    "recursive merge": ("trainer: &a\n  <<: *a\n", 2, "inside its own anchor"),
    "no such anchor": ("trainer: *a\n", 2, "undefined alias"),
    "alias bomb": (BOMB, 5, "more than 10,000 values"),
    "merge bomb": (MERGES, 8, "more than 10,000 values"),
    "many values": ("images: [" + "a, " * 20_000 + "]\n", 2, "more than 10,000 values"),
    "deep list": ("images: " + "[" * 20_000 + "\n", 2, "nested too deep"),
    "deep block": ("".join(" " * i + "a:\n" for i in range(600)), 31, "nested too deep"),
    "deep interpolation": ("run_dir: " + "${" * 3000 + "\n", 2, "nested too deep"),
    "torn interpolation": ("run_dir: ${a\n", 2, "cannot be read"),
    "5,000 digits": ("seed: " + "9" * 5000 + "\n", 2, "cannot be read as int"),
    "5,000 hexadecimal digits": ("seed: 0x" + "f" * 5000 + "\n", 2, "the number is too large"),
    "base 60": ("seed: " + ":".join(["59"] * 9000) + "\n", 2, "the number is too large"),
    "list": ("- a\n", 2, "a list or a single value"),
    "text": ("a\n", 2, "a list or a single value"),
    "two documents": ("seed: 1\n---\nseed: 2\n", 3, "another document"),
    "number as a key": ("1: a\n", 2, "a key is a text"),
    "list as a key": ("? [a]\n: 1\n", 2, "a key is a text"),
    "open bracket": ("images: [a\n", 3, "expected"),
    "defaults: a text": ("defaults: a\n", 2, "defaults is a list"),
    "defaults: a number": ("defaults: [3]\n", 2, "defaults is a list"),
    "defaults: two groups": ("defaults:\n  - {a: b, c: d}\n", 3, "defaults is a list"),
    "defaults: no option": ("defaults:\n  - override /lm: 3\n", 3, "defaults is a list"),
    "defaults: _self_ twice": ("defaults: [_self_, _self_]\n", 2, "_self_ is there twice"),
}


def refused(folder: Path, *words: str) -> str:
    """The one line with which a command is refused; it is answered soon and leaves no file."""
    cwd = folder / "cwd"
    cwd.mkdir()
    began = time.monotonic()
    status, output = run_in_process("--config-dir", str(folder), "task=compose", *(words or ("experiment=x",)), cwd=cwd)
    assert status == 2, output
    assert time.monotonic() - began < 20
    assert output.startswith("error: ")
    assert output.count("\n") == 1, output
    assert not list(cwd.iterdir())
    return output


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "experiment").mkdir()
    return tmp_path / "experiment" / "x.yaml"


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_file_is_refused_with_its_line(name: str, file: Path) -> None:
    content, line, message = FAULTY[name]
    content = content.encode("utf-8") if isinstance(content, str) else content
    file.write_bytes(GLOBAL.encode() + content)
    with pytest.raises(UserError) as refusal:
        read_yaml(read_text(file), file)
    assert str(refusal.value).startswith(f"{file}, line {line}: ")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["tab", "code", "alias bomb", "latin-1", "base 60", "defaults: a number"])
def test_a_command_with_a_faulty_file_is_refused(name: str, file: Path) -> None:
    content, line, message = FAULTY[name]
    file.write_bytes(GLOBAL.encode() + (content.encode() if isinstance(content, str) else content))
    output = refused(file.parents[1])
    assert f"{file}, line {line}: " in output
    assert message in output


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_another_encoding_is_refused(encoding: str, file: Path) -> None:
    file.write_text(GLOBAL + "seed: 3\n", encoding=encoding)
    assert f"{file}, line 1: " in refused(file.parents[1])


def test_a_byte_order_mark_is_no_part_of_the_file(file: Path) -> None:
    file.write_text(GLOBAL + "seed: 3\n", encoding="utf-8-sig")
    status, output = run_in_process("--config-dir", str(file.parents[1]), "task=compose", "experiment=x", cwd=ROOT)
    assert status == 0, output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: the file is empty"),
        ("seed: 3\n", "its first line is not `# @package _global_`"),
        ("# @package\nseed: 3\n", "line 1: Expected header format"),
        (GLOBAL + "trainer: {epoch: 3}\n", "unknown option trainer.epoch: did you mean trainer.epochs?"),
        (GLOBAL + "trainer: {epochs: many}\n", "trainer.epochs: give a number"),
        (GLOBAL + "trainer: 3\n", "a group of options is set to a single value"),
        (GLOBAL + "# " + "x" * 300_000, "is larger than 256 KiB"),
        (GLOBAL + "defaults: [x]\n", "its defaults include itself: experiment/x <- experiment/x"),
        (GLOBAL + "defaults: [y]\n", "its defaults include itself: experiment/x <- experiment/y <- experiment/x"),
        (GLOBAL + "defaults: [/g0/a]\n", "more than 20 files below each other, or 200 files in all"),
    ],
)
def test_the_file_is_named(content: str, message: str, file: Path) -> None:
    file.write_text(content)
    file.with_name("y.yaml").write_text(GLOBAL + "defaults: [x]\n")
    for i in range(12):  # 2^12 files, if each is read where it is named
        (file.parents[1] / f"g{i}").mkdir()
        below = f"defaults: [/g{i + 1}/a@p, /g{i + 1}/a@q]\n" if i < 11 else "a: b\n"
        (file.parents[1] / f"g{i}" / "a.yaml").write_text(GLOBAL + below)
    output = refused(file.parents[1])
    assert message in output
    assert str(file) in output or "/g" in output


def test_only_regular_files_are_read(file: Path) -> None:
    kinds = {
        "a folder": file.mkdir,
        "a FIFO": lambda: os.mkfifo(file),
        "a device": lambda: file.symlink_to("/dev/zero"),
    }
    kinds["a link to nothing"] = lambda: file.symlink_to("nowhere")
    for kind, make in kinds.items():
        make()
        with pytest.raises(UserError, match=r"cannot be read|is not a regular file") as refusal:
            read_text(file)
        assert str(file) in str(refusal.value), kind
        file.rmdir() if kind == "a folder" else file.unlink()
    os.mkfifo(file)
    assert f"{file} is not a regular file" in refused(file.parents[1])


OPTIONS = [  # of Hydra's own, as words and as a file
    ("hydra.run.dir=evil", "hydra: {run: {dir: evil}}\n"),
    ("hydra.output_subdir=evil", "hydra: {output_subdir: evil}\n"),
    ("hydra.job.chdir=true", "hydra: {job: {chdir: true}}\n"),
    ("hydra.sweep.subdir=evil", "hydra: {sweep: {subdir: evil}}\n"),
    ("hydra/job_logging=default", "defaults:\n  - override /hydra/job_logging: default\n"),
    ("hydra/hydra_logging=default", "defaults:\n  - override /hydra/hydra_logging: default\n"),
    (
        "hydra.job_logging={root: {handlers: [f]}}",
        "hydra: {job_logging: {handlers: {f: {class: logging.FileHandler, filename: evil}}, root: {handlers: [f]}}}\n",
    ),
    ("+hydra.callbacks.a._target_=os.system", "hydra: {callbacks: {a: {_target_: os.system}}}\n"),
    ("hydra.searchpath=[/]", "hydra: {searchpath: [/]}\n"),
    ("hydra.sweeper._target_=os.system", "hydra: {sweeper: {_target_: os.system}}\n"),
    ("hydra.launcher._target_=os.system", "hydra: {launcher: {_target_: os.system}}\n"),
    ("+hydra.sweeper.params.a._target_=os.system", "hydra: {sweeper: {params: {a: {_target_: os.system}}}}\n"),
    ("hydra.job.env_copy=[NONE]", "hydra: {job: {env_copy: [NONE]}}\n"),
    ("+hydra.job.env_set.A=b", "hydra: {job: {env_set: {A: b}}}\n"),
    ("hydra.verbose=true", "hydra: {verbose: true}\n"),
    ("hydra.overrides.task=[a]", "hydra: {overrides: {task: [a]}}\n"),
]


@pytest.mark.parametrize(("word", "content"), OPTIONS, ids=[word for word, _ in OPTIONS])
def test_an_option_of_hydra_is_refused_in_a_file_as_on_the_command_line(word: str, content: str, file: Path) -> None:
    file.write_text(GLOBAL + content)
    _, _, why = refused(file.parents[1], word).rpartition(": ")
    (file.parents[1] / "cwd").rmdir()
    output = refused(file.parents[1])
    assert output.endswith(why)
    assert str(file) in output


@pytest.mark.parametrize("header", ["# @package hydra.run\ndir: evil\n", GLOBAL + "defaults:\n  - /sub@hydra.run: d\n"])
def test_an_option_of_hydra_is_refused_under_another_package(header: str, file: Path) -> None:
    file.write_text(header)
    (file.parents[1] / "sub").mkdir()
    (file.parents[1] / "sub" / "d.yaml").write_text("dir: evil\n")
    assert "hydra.run.dir=evil: Hydra's own folders are not used" in refused(file.parents[1])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("[1]", "hydra.sweeper.params=[1]: write KEY: VALUE"),
        ("{seed: {a: 1}}", "hydra.sweeper.params="),
        ("{seed: '[1'}", "seed=[1: this cannot be read"),
        ("{hydra.run.dir: evil}", "hydra.run.dir=evil: Hydra's own folders are not used"),
    ],
)
def test_parameters_of_a_sweep_are_checked_as_words(params: str, message: str, file: Path) -> None:
    file.write_text(f"{GLOBAL}hydra: {{mode: MULTIRUN, sweeper: {{params: {params}}}}}\n")
    assert message in refused(file.parents[1])


def test_a_flag_between_options_is_read(file: Path) -> None:
    file.write_text(GLOBAL + "seed: 3\n")
    words = ("task=compose", "--config-dir", str(file.parents[1]), "experiment=x")
    status, output = run_in_process(*words, cwd=ROOT)
    assert status == 0, output


def test_files_changed_at_random_are_read_or_refused(file: Path, seed: int) -> None:
    source = random.Random(seed)
    for _ in range(100):
        check_mutated(file, source)


@pytest.mark.slow
def test_many_commands_with_files_changed_at_random_are_accepted_or_refused(file: Path, seed: int) -> None:
    source = random.Random(seed)
    for _ in range(int(os.environ.get("R2GEN_EXAMPLES", "100"))):
        original = source.choice(sorted((ROOT / "conf" / "experiment").glob("*.yaml")))
        content = mutated(original.read_bytes(), source)
        file.write_bytes(content)
        words = ("--config-dir", str(file.parents[1]), "task=compose", "experiment=x", "data.root=/none")
        status, output = run_in_process(*words, cwd=file.parent)
        assert status in (0, 2), (content, output)
        assert status == 0 or output.startswith("error: "), (content, output)
        assert "Traceback" not in output, (content, output)
        assert [path.name for path in file.parent.iterdir()] == ["x.yaml"], content
