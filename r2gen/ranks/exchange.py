"""What the ranks of one machine exchange values through: files, since a port would be open to others.

A torch TCPStore listens on every interface and resolves the names of its peers, even of 127.0.0.1 (torch 2.14).
"""

import os
import socket
from pathlib import Path

FOLDER = "R2GEN_RANKS"  # the environment variable with the folder, which the command makes for its ranks
VALUE_BYTES = 48


def loopback() -> str:
    """The name of the network interface that only this machine can reach."""
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in names if name.startswith("lo")), "lo")


class FolderStore:
    """Short values by key, each in a file that one rank writes. A lock is not used: its holder may be suspended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, int] = {}  # kept open, so that a cleared folder for temporary files loses no rank

    def set(self, key: str, value: str) -> None:
        if key not in self.files:
            self.files[key] = os.open(self.folder / key, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.pwrite(self.files[key], value.ljust(VALUE_BYTES).encode(), 0)  # of one size: needs no space on a full disk

    def multi_get(self, keys: list[str]) -> list[bytes]:
        for key in keys:
            if key not in self.files:
                self.files[key] = os.open(self.folder / key, os.O_RDWR | os.O_CLOEXEC)
        return [os.pread(self.files[key], VALUE_BYTES, 0) for key in keys]

    def check(self, keys: list[str]) -> bool:
        return all((self.folder / key).exists() for key in keys)
