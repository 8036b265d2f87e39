"""What a command shows while it works: tqdm's bars on a terminal, plain lines elsewhere."""

import shutil
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from textwrap import fill
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
WIDTH = 118  # characters of a line where there is no terminal, and the most on a terminal
PLAIN_EVERY_S = 10.0  # between two lines where there is no terminal
_LINE = "{desc}: {n_fmt}/{total_fmt} {unit}, {rate_fmt}, {remaining} left"
_COUNT = "{desc}: {n_fmt} {unit}, {rate_fmt}"


def terminal_width() -> int:
    """The characters of a line."""
    return max(40, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))


def wrapped(line: str, *, width: int | None = None, indent: str = "  ") -> str:
    """A line broken between words, by default to the width of the terminal. What follows is indented."""
    width = width or terminal_width()
    return fill(line, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


class _Lines:
    """The file of a bar where there is no terminal: each text that tqdm draws becomes a line of standard output."""

    def write(self, text: str) -> None:
        if line := text.strip():
            print(line, flush=True)

    def flush(self) -> None:
        pass


def bar(
    *,
    total: int | None,
    title: str,
    unit: str,
    shown: bool = True,
    initial: int = 0,
    leave: bool = False,
    delay_s: float = 0,
) -> "tqdm[None]":
    """A bar of `total` steps (None: unknown), not shown during the first `delay_s`; `shown` is false on other ranks."""
    if sys.stderr.isatty():
        return tqdm(
            total=total,
            desc=title or None,
            unit=unit,
            initial=initial,
            disable=not shown,
            leave=leave,
            delay=delay_s,
            dynamic_ncols=True,
        )
    return tqdm(
        total=total,
        desc=title,
        unit=unit,
        initial=initial,
        disable=not shown,
        leave=False,
        delay=PLAIN_EVERY_S,
        mininterval=PLAIN_EVERY_S,
        bar_format=_LINE if total is not None else _COUNT,
        file=_Lines(),
    )


def over(items: Collection[Item], *, title: str, unit: str, delay_s: float = 1) -> Iterator[Item]:
    """The items, with a bar if they take longer than `delay_s`."""
    with bar(total=len(items), title=title, unit=unit, delay_s=delay_s) as shown:
        for item in items:
            yield item
            shown.update()


@contextmanager
def working(what: str, *, shown: bool = True, after_s: float = 1.0) -> Iterator[None]:
    """Show `what` with its duration while a block without steps runs, if it takes longer than `after_s`.

    A thread draws it, so the block must not fork.
    """
    with _thread(lambda ended: wait_for(what, ended, after_s=after_s, leave=True), needed=shown):
        yield


@contextmanager
def ticking(shown: "tqdm[None]") -> Iterator[None]:
    """Draw a bar again every second, since its steps may be long. The block must not fork."""

    def draw(ended: Callable[[float], bool]) -> None:
        while not ended(_period_s()):
            shown.refresh()

    with _thread(draw, needed=not shown.disable):
        yield


def wait_for(what: str, ended: Callable[[float], bool], *, after_s: float = 1.0, leave: bool = False) -> None:
    """Show `what` with its duration until `ended(seconds)`, which waits at most so long, is true.

    With `leave` the duration stays on the terminal.
    """
    if ended(after_s):
        return
    on_terminal = sys.stderr.isatty()
    if not on_terminal:
        print(f"{what} ...", flush=True)
    clock = tqdm(
        desc=f"{what} ...",
        bar_format="{desc} {elapsed}",
        leave=on_terminal and leave,
        dynamic_ncols=on_terminal,
        delay=0 if on_terminal else PLAIN_EVERY_S,
        file=None if on_terminal else _Lines(),
    )
    clock.start_t -= after_s
    while not ended(_period_s()):
        clock.refresh()
    clock.close()


@contextmanager
def _thread(draw: Callable[[Callable[[float], bool]], None], *, needed: bool) -> Iterator[None]:
    """Run `draw` in a thread during the block; its argument waits for the end of the block."""
    if not needed:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=draw, args=(ended.wait,), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _period_s() -> float:
    return 1.0 if sys.stderr.isatty() else PLAIN_EVERY_S
