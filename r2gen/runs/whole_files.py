"""Whether a file of weights is whole, by its beginning and its size: an interrupted download is found without torch."""

import zipfile
from pathlib import Path

from r2gen.errors import UserError
from r2gen.runs.untrusted import parse_json

ENCODER_FILES = ("model.safetensors", "pytorch_model.bin")  # the usual names of an encoder's weights
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
LARGEST_HEADER = 10**8  # bytes, as in safetensors
ZIP = b"PK\x03\x04"  # torch's files since 1.6; older ones are pickles, which are not checked


def refuse_truncated(file: Path, *, option: str) -> None:
    """Raise UserError that names the option where a .safetensors or .bin file ends too early."""
    size = file.stat().st_size
    if file.suffix == ".safetensors":
        described = _described_size(file, size, option)
        if described > size:
            raise _truncated(option, file, f"it has {size:,} bytes of {described:,}")
    else:
        with file.open("rb") as opened:
            is_zip = opened.read(len(ZIP)) == ZIP
        if is_zip and not zipfile.is_zipfile(file):
            raise _truncated(option, file, f"its end is missing after {size:,} bytes")


def _described_size(file: Path, size: int, option: str) -> int:
    """The size that the header of a .safetensors file describes."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8:
            raise _truncated(option, file, f"it has {size} bytes")
        if length > min(LARGEST_HEADER, size - 8):
            raise _truncated(option, file, f"it has {size:,} bytes, and its header alone would have {length:,}")
        try:
            header = parse_json(opened.read(length).decode())
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            return 8 + length + max(ends, default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise _truncated(option, file, f"its header cannot be read: {error!s:.100}") from error


def _truncated(option: str, file: Path, why: str) -> UserError:
    return UserError(
        f"{option}: the weights in {file.parent} cannot be read: a file is truncated or damaged ({file.name}: {why}); "
        "download it again"
    )
