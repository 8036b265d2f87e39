"""Reading a checkpoint's weights to the GPU while a rank still imports the packages that will compute with them.

It runs in a thread next to those imports, so torch is the only large package that it imports. It never fails: where it
cannot read, or anything is unusual, there are no early weights, and transformers reads the files and says what is wrong
with them.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from r2gen.runs.special_files import refuse_special
from r2gen.runs.untrusted import parse_json, read_text

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}  # of safetensors
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
# Fields of config.json of which transformers reads other files, or reads the tensors in another way.
UNUSUAL_FIELDS = ("quantization_config", "text_config", "vision_config", "transformers_weights")
HEADER_BYTES = 8  # of the length of a safetensors header
LARGEST_HEADER = 10**8  # bytes, the limit of safetensors itself
MOST_DIGITS = 40  # of a number in config.json
CHUNK = 2**24  # bytes that a thread reads at once
THREADS = 8
FREE_MEMORY = 3  # times the size of the files: transformers allocates their size once more before it looks at them


@dataclass(frozen=True)
class _Chunk:
    file: int
    at: int
    target_N: torch.Tensor  # of bytes


class EarlyWeights:
    """The tensors of the safetensors files in a folder, read by threads until `take`."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder = folder
        self.device = device
        self._tensors: dict[str, torch.Tensor] | None = None
        self._thread = threading.Thread(target=self._read, name="early weights", daemon=True)
        self._thread.start()

    def take(self) -> dict[str, torch.Tensor] | None:
        """The tensors by name, once; None if they were not read."""
        self._thread.join()
        tensors, self._tensors = self._tensors, None
        return tensors

    def _read(self) -> None:
        with suppress(Exception):  # of any type: transformers reads the files again, and says what is wrong
            self._tensors = _read(self.folder, self.device)
        if self._tensors is None:  # only here: an exception refers to the tensors until it is handled
            with suppress(RuntimeError):
                torch.cuda.empty_cache()


_started: EarlyWeights | None = None


def start(folder: Path, device: torch.device) -> None:
    """Begin to read the weights in `folder` to a device. A later call replaces an earlier one."""
    global _started
    _started = EarlyWeights(folder, device)


def take(folder: Path, device: str) -> dict[str, torch.Tensor] | None:
    """The tensors of this folder by name on this device, if `start` was called and all were read; then None again."""
    global _started
    started, _started = _started, None
    if started is None:
        return None
    tensors = started.take()
    return tensors if (started.folder, started.device) == (folder, torch.device(device)) else None


def forget_peak() -> None:
    """Give back what transformers has allocated once more, so that it counts in no figure of the memory."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _read(folder: Path, device: torch.device) -> dict[str, torch.Tensor] | None:
    refuse_special(folder / "config.json")
    config = parse_json(read_text(folder / "config.json"), most_digits=MOST_DIGITS)
    if any(config.get(field) for field in UNUSUAL_FIELDS):
        return None
    single, index = folder / SINGLE, folder / INDEX
    files = [single] if single.is_file() else [folder / name for name in _shards(index)]
    for file in files:
        refuse_special(file)
    size = sum(file.stat().st_size for file in files)
    on_gpu = device.type == "cuda"
    if on_gpu and torch.cuda.mem_get_info(device)[0] < FREE_MEMORY * size:
        return None
    tensors: dict[str, torch.Tensor] = {}
    opened = []
    try:
        chunks: list[_Chunk] = []
        for file in files:
            opened.append(os.open(file, os.O_RDONLY | os.O_CLOEXEC))
            for name, tensor, at in _allocated(opened[-1], device):
                if name in tensors:
                    return None
                tensors[name] = tensor
                bytes_N = tensor.view(-1).view(torch.uint8)
                chunks += [_Chunk(opened[-1], at + i, bytes_N[i : i + CHUNK]) for i in range(0, len(bytes_N), CHUNK)]
        _fill_all(chunks, device)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return tensors


def _shards(index: Path) -> list[str]:
    refuse_special(index)
    content = parse_json(read_text(index))
    names = sorted(set(content["weight_map"].values()))
    if not isinstance(content["metadata"], dict):
        raise TypeError("transformers needs the metadata of an index")
    if any(Path(name).name != name for name in names):
        raise ValueError(f"{index} names a file of another folder")
    return names


def _allocated(file: int, device: torch.device) -> Iterator[tuple[str, torch.Tensor, int]]:
    """Each tensor of a safetensors file by name, without its values, and where these are in the file."""
    length, size = int.from_bytes(os.pread(file, HEADER_BYTES, 0), "little"), os.fstat(file).st_size
    if not 0 < length < LARGEST_HEADER:
        raise ValueError("no header of a safetensors file")
    header = parse_json(os.pread(file, length, HEADER_BYTES).decode())
    header.pop("__metadata__", None)
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= size - HEADER_BYTES - length:
            raise ValueError(f"{name}: its place is outside of the file")
        tensor = torch.empty(entry["shape"], dtype=DTYPES[entry["dtype"]], device=device)
        if end - begin != tensor.nbytes:
            raise ValueError(f"{name}: its shape and its place in the file differ")
        yield name, tensor, HEADER_BYTES + length + begin


def _fill_all(chunks: list[_Chunk], device: torch.device) -> None:
    """Read all chunks. The threads are daemons: a process that ends would wait for those of a ThreadPoolExecutor."""
    errors: list[Exception] = []

    def fill(own: list[_Chunk]) -> None:
        try:
            _fill(own, device)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=fill, args=(chunks[i::THREADS],), daemon=True) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _fill(chunks: list[_Chunk], device: torch.device) -> None:
    """Read each chunk into one of two buffers in pinned memory, from which the GPU copies it meanwhile."""
    on_gpu = device.type == "cuda"
    stream = torch.cuda.Stream(device) if on_gpu else None
    buffers = [torch.empty(CHUNK, dtype=torch.uint8, pin_memory=on_gpu) for _ in range(2)]
    copied: list[torch.cuda.Event | None] = [None, None]
    if stream is not None:  # memory that is allocated again may still be in use on the stream that freed it
        stream.wait_stream(torch.cuda.default_stream(device))
    with torch.cuda.stream(stream):  # nothing if it is None
        for number, chunk in enumerate(chunks):
            buffer, before = buffers[number % 2], copied[number % 2]
            if before is not None:
                before.synchronize()
            size = len(chunk.target_N)
            if os.preadv(chunk.file, [buffer.numpy()[:size].data], chunk.at) != size:
                raise ValueError("a file ends before its last tensor")
            chunk.target_N.copy_(buffer[:size], non_blocking=True)
            if stream is not None:
                copied[number % 2] = stream.record_event()
    if stream is not None:
        stream.synchronize()
