"""What a command shows while it works: bars on a terminal, plain lines elsewhere."""

import io
import time
from contextlib import redirect_stderr

import pytest

from r2gen.runs import progress
from r2gen.runs.progress import bar, ticking, wait_for, working, wrapped


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.01)


def test_a_bar_is_drawn_on_a_terminal_and_goes_with_its_work() -> None:
    with redirect_stderr(Terminal()) as terminal, bar(total=2, title="test", unit="report") as shown:
        shown.update()
        shown.refresh()
    assert "test:  50%" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r")


@pytest.mark.usefixtures("quick")
def test_elsewhere_a_bar_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with bar(total=2, title="test", unit="report") as shown:
        shown.update()
        shown.refresh()
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(line.startswith("test: ") and line.endswith("left") for line in lines)


def test_other_ranks_show_nothing() -> None:
    with redirect_stderr(Terminal()) as terminal:
        with bar(total=1, title="test", unit="report", shown=False) as shown, ticking(shown):
            shown.update()
        with working("loading torch", shown=False, after_s=0):
            pass
    assert terminal.getvalue() == ""


def test_a_block_without_steps_shows_its_name_at_once() -> None:
    deadline = time.monotonic() + 60
    with redirect_stderr(Terminal()) as terminal, working("loading torch", after_s=0):
        while "loading torch ..." not in terminal.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert terminal.getvalue().endswith("\n")


def test_a_short_block_shows_nothing() -> None:
    with redirect_stderr(Terminal()) as terminal, working("reading the data", after_s=60):
        pass
    assert terminal.getvalue() == ""


@pytest.mark.usefixtures("quick")
def test_a_wait_is_a_line_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    answers = iter([False, False, True])
    wait_for("preparing the baselines", lambda seconds: next(answers), after_s=0)
    assert capsys.readouterr().out.splitlines()[0] == "preparing the baselines ..."


def test_lines_are_broken_between_words() -> None:
    text = wrapped("error in /a/long/path/that-is-not-broken and more words", width=20)
    assert text.split("\n") == ["error in", "  /a/long/path/that-is-not-broken", "  and more words"]
