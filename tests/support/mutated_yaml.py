"""YAML files of conf/ with random changes: each is read, or refused with its name."""

import random
from pathlib import Path

from smallest_run import ROOT

from r2gen.config.yaml_files import read_text, read_yaml
from r2gen.errors import UserError


def mutated(text: bytes, source: random.Random) -> bytes:
    """A file in which a few places are exchanged, repeated, removed or replaced by what YAML treats specially."""
    special = [
        b"\t",
        b"\0",
        b"\xff",
        b"&a ",
        b"*a",
        b"!!",
        b"<<: ",
        b"${",
        b"[",
        b"{",
        b"? ",
        b"---\n",
        b"%",
        b"'",
        b": ",
    ]
    for _ in range(source.randint(1, 4)):
        at, end = sorted(source.sample(range(len(text) + 1), 2)) if len(text) > 1 else (0, len(text))
        end = min(end, at + 20)
        new = source.choice(
            [b"", text[at:end] * 2, source.choice(special), source.randbytes(2), b"9" * 5000, b"[" * 60]
        )
        text = text[:at] + new + text[end:]
    return text


def check_mutated(file: Path, source: random.Random) -> str:
    """Write a file of conf/ with random changes, and read it: `accepted`, or `refused` with one line that names it."""
    original = source.choice(sorted((ROOT / "conf").rglob("*.yaml")))
    file.write_bytes(mutated(original.read_bytes(), source))
    try:
        read, message = read_yaml(read_text(file), file), ""
    except UserError as error:
        read, message = {}, str(error)
    assert isinstance(read, dict)
    assert not message or message.startswith(str(file))
    assert "\n" not in message
    return "refused" if message else "accepted"
