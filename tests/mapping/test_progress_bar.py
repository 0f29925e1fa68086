"""`progress=True` in a terminal: a bar of tqdm that log lines do not tear. The terminal is one that is played."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from llm_guard import clock, map_with_backpressure
from llm_guard.clock.virtual import VirtualClock
from llm_guard.mapping import progress_output
from llm_guard.mapping.progress_bar import Bar
from llm_guard.mapping.progress_lines import Lines


class Terminal(io.StringIO):
    """Keeps what is written, and shows what would stand on the screen."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def rows(self) -> list[str]:
        """Of a terminal of endless width that knows carriage return, line feed and one line up."""
        screen, row = [""], 0
        column = 0
        text = self.getvalue()
        place = 0
        while place < len(text):
            if text.startswith("\x1b[A", place):
                row, place = max(0, row - 1), place + 3
                continue
            letter = text[place]
            place += 1
            if letter == "\r":
                column = 0
            elif letter == "\n":
                row, column = row + 1, 0
                screen += [""] * (row + 1 - len(screen))
            else:
                line = screen[row].ljust(column)
                screen[row] = line[:column] + letter + line[column + 1:]
                column += 1
        return [line.rstrip() for line in screen if line.strip()]


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Puts a terminal in the place of the standard error: in the test itself, for pytest puts its own there before."""
    def put() -> Terminal:
        played = Terminal()
        monkeypatch.setattr(sys, "stderr", played)
        return played

    return put


@pytest.fixture
def time() -> Iterator[VirtualClock]:
    with VirtualClock() as virtual:
        yield virtual


@contextmanager
def log(terminal: Terminal) -> Iterator[logging.Logger]:
    """A logger that writes to the terminal, as the user has set it up."""
    logger = logging.getLogger("llm_guard_test_bar")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    yield logger
    assert handler.stream is terminal, "the user's handler was not put back"
    logger.removeHandler(handler)


def sleeps(item: int) -> int:
    clock.current().sleep(1.0)
    return item


def test_the_bar_ends_with_all_that_was_done(plug: Callable[[], Terminal], time: VirtualClock) -> None:
    terminal = plug()
    assert list(map_with_backpressure(sleeps, range(20), workers=4, progress=True)) == list(range(20))
    rows = terminal.rows()
    assert len(rows) == 1
    assert rows[0].startswith("100%|")
    assert rows[0].endswith("| 20/20 [0:05]")
    assert "TMonitor" not in [type(thread).__name__ for thread in threading.enumerate()]


def test_the_bar_tells_rate_state_and_what_is_in_flight(plug: Callable[[], Terminal], time: VirtualClock) -> None:
    terminal = plug()
    list(map_with_backpressure(sleeps, range(40), workers=4, progress=True))
    assert "20/40 [0:05<0:04, 4.0/s, 4 in flight]" in terminal.getvalue()


@pytest.mark.parametrize("end", ["close", "error", "interrupt"])
def test_the_bar_stays_where_the_mapping_ended_early(plug: Callable[[], Terminal], time: VirtualClock,
                                                     end: str) -> None:
    terminal = plug()
    def call(item: int) -> int:
        sleeps(item)
        if item == 8 and end != "close":
            raise (ValueError if end == "error" else KeyboardInterrupt)
        return item

    mapping = map_with_backpressure(call, range(40), workers=4, progress=True, buffer=0)
    if end == "close":
        for _ in range(8):
            next(mapping)
        mapping.close()
    else:
        with pytest.raises((ValueError, KeyboardInterrupt)):
            list(mapping)
    rows = terminal.rows()
    assert len(rows) == 1
    assert 8 <= int(rows[0].split("| ")[-1].split("/")[0]) <= 12
    assert "/40 [0:0" in rows[0]


def test_an_input_without_a_length_has_a_count(plug: Callable[[], Terminal], time: VirtualClock) -> None:
    terminal = plug()
    list(map_with_backpressure(sleeps, iter(range(8)), workers=2, buffer=0, progress=True))
    assert "\r4 [0:03<?, " in terminal.getvalue()
    assert terminal.rows() == ["100%|" + terminal.rows()[0].split("|")[1] + "| 8/8 [0:04]"]


def test_log_lines_stand_above_the_bar_and_whole(plug: Callable[[], Terminal], time: VirtualClock) -> None:
    terminal = plug()
    def call(item: int) -> int:
        if item % 10 == 3:
            logger.warning("item %d is odd", item)
        return sleeps(item)

    with log(terminal) as logger:
        list(map_with_backpressure(call, range(40), workers=4, progress=True))
    rows = terminal.rows()
    assert rows[:-1] == [f"WARNING item {item} is odd" for item in (3, 13, 23, 33)]
    assert rows[-1].startswith("100%|")


def test_warnings_of_a_program_without_logging_do_not_tear_it_either(
        plug: Callable[[], Terminal], time: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = plug()
    before = logging.lastResort
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    def call(item: int) -> int:
        if item == 5:
            logging.getLogger("llm_guard_test_bare").warning("five")
        return sleeps(item)

    list(map_with_backpressure(call, range(20), workers=4, progress=True))
    assert terminal.rows()[0] == "five"
    assert len(terminal.rows()) == 2
    assert logging.lastResort is before


def test_without_tqdm_there_are_lines(plug: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch) -> None:
    plug()
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert progress_output._bar() is None


@pytest.mark.parametrize("stderr", [None, io.StringIO()], ids=["none", "no terminal"])
def test_without_a_terminal_there_are_lines(monkeypatch: pytest.MonkeyPatch, stderr: Any) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    assert progress_output._bar() is None


def test_a_notebook_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shell:
        config = {"IPKernelApp": {}}  # noqa: RUF012 - as IPython has it

    class IPython:
        get_ipython = staticmethod(Shell)

    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setitem(sys.modules, "IPython", IPython)
    assert progress_output._is_notebook()
    bar = progress_output._bar()
    assert isinstance(bar, Bar)
    bar.close()


def test_lines_go_to_the_standard_error_where_nobody_set_up_logging(
        time: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    list(map_with_backpressure(sleeps, range(60), workers=4, progress=True))
    assert written.getvalue().splitlines() == ["sleeps: 36 of 60 (60%) done, 3.9/s, 4 in flight, about 0:06 left",
                                               "sleeps: ended, 60 of 60 (100%) done, 0:15"]
    assert Lines.every == 1.0
