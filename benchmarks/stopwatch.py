"""Time what a person sees of a command: to the first line, the first bar, the longest silence, the prompt.

python benchmarks/stopwatch.py [--columns 80] [--log FILE] COMMAND...

The command runs in a pseudo-terminal, as in a shell. "bar" is the first text that redraws its line. The last figure is
from the last text until the process and everything that holds its terminal have ended. --log writes each piece of text
with its second.
"""

import argparse
import errno
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

PIECE = 65536


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", type=int, default=80)
    parser.add_argument("--log", type=Path, help="a file for the text, each piece with its second")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if not options.command:
        parser.error("COMMAND is missing")
    pieces, prompt_s, status = watch(options.command, columns=options.columns)
    if options.log:
        options.log.write_text("".join(f"{second:8.2f} {text!r}\n" for second, text in pieces), encoding="utf-8")
    for name, value in figures(pieces, prompt_s).items():
        print(f"{name:<26} {value}")
    print(f"{'exit status':<26} {status}")
    return status


def watch(command: list[str], columns: int) -> tuple[list[tuple[float, str]], float, int]:
    """The text of a command with the second of each piece, the second at which it ended, and its exit status."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    started = time.monotonic()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    pieces: list[tuple[float, str]] = []
    while True:
        try:
            text = os.read(ours, PIECE)
        except OSError as error:
            if error.errno != errno.EIO:  # Linux says EIO when the last process has closed its terminal
                raise
            break
        if not text:
            break
        pieces.append((time.monotonic() - started, text.decode(errors="replace")))
    status = process.wait()
    return pieces, time.monotonic() - started, status


def figures(pieces: list[tuple[float, str]], prompt_s: float) -> dict[str, str]:
    seconds = [second for second, text in pieces if text.strip()]
    bars = [second for second, text in pieces if "\r" in text.replace("\r\n", "")]
    ends = [*seconds, prompt_s]
    silences = [(after - before, before) for before, after in zip([0.0, *seconds], ends, strict=True)]
    longest, since = max(silences)
    last = seconds[-1] if seconds else 0.0
    return {
        "first line": f"{seconds[0]:.1f} s" if seconds else "none",
        "first bar": f"{bars[0]:.1f} s" if bars else "none",
        "longest silence": f"{longest:.1f} s, after second {since:.1f}",
        "last line": f"{last:.1f} s",
        "from there to the prompt": f"{prompt_s - last:.1f} s",
    }


if __name__ == "__main__":
    sys.exit(main())
