"""A run shown while it goes on: the panel drawn on a terminal, or a plain line now and then."""

from __future__ import annotations

import math
import sys
from _thread import allocate_lock
from types import TracebackType
from typing import Protocol, Self, TextIO

from llm_guard.cli.history import History
from llm_guard.cli.panel import Look, panel, printable
from llm_guard.mapping import progress_words as words
from llm_guard.mapping.progress import Progress
from llm_guard.mapping.progress_logs import Redirection

#: Seconds between two plain lines, and between two drawings.
LINES_EVERY, DRAWN_EVERY = 10.0, 0.2
_UP, _CLEAR_REST, _CLEAR_BELOW, _HIDE, _SHOW = "\x1b[{}A", "\x1b[K", "\x1b[J", "\x1b[?25l", "\x1b[?25h"


class Display(Protocol):
    """Shows a run. Leave its block, or call `close`, before anything else is written to the terminal."""

    def __call__(self, progress: Progress) -> None:
        """For `map_with_backpressure(progress=...)`."""

    def say(self, line: str) -> None:
        """A line of words, above what is drawn."""

    def close(self) -> None:
        """Draws no more; what was drawn last stays. Again: no effect."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None: ...


def display(title: str, history: History, file: TextIO | None = None) -> Display:
    """A panel where `file` (the standard error) is a terminal, else lines. `history` is told all there is to draw."""
    file = file or sys.stderr
    from rich.console import Console

    console = Console(file=file, highlight=False)
    if not file.isatty() or console.is_dumb_terminal or console.legacy_windows:
        return Lines(title, history, file)
    return Live(title, history, file)


class _Closing:
    def close(self) -> None:
        """Draws no more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


class Lines(_Closing):
    """One line each ten seconds, and one at the end."""

    def __init__(self, title: str, history: History, file: TextIO) -> None:
        self._history = history
        self._file = file
        self._next = LINES_EVERY
        self.say(printable(title))

    def __call__(self, progress: Progress) -> None:
        self._history(progress)
        if progress.over or progress.elapsed >= self._next:
            self._next = (progress.elapsed // LINES_EVERY + 1) * LINES_EVERY
            self.say(words.line(progress))

    def say(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()


class Live(_Closing):
    """The panel, drawn over itself: one write each time, no line cleared before it is written, so nothing flickers.
    Lines that loggers write to the terminal come above it."""

    def __init__(self, title: str, history: History, file: TextIO) -> None:
        from rich.console import Console

        self._title = title
        self._history = history
        self._file = file
        self._console = Console(file=file, highlight=False)
        self._ascii = not can_draw(getattr(file, "encoding", None))
        self._lock = allocate_lock()
        self._drawn: list[int] = []  # the width of each line that stands there
        self._last: Progress | None = None
        self._next = 0.0
        self._closed = False
        self._logs = Redirection(lambda text, stream: self._above(text))

    def __call__(self, progress: Progress) -> None:
        self._history(progress)
        with self._lock:
            self._last = progress
            if not self._closed and (progress.over or progress.elapsed >= self._next):
                self._next = progress.elapsed + DRAWN_EVERY - 0.05  # it comes by the clock, not always to the instant
                self._draw()
        if progress.over:
            self.close()

    def say(self, line: str) -> None:
        self._above(line + "\n")

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._drawn:
                self._file.write(_SHOW)
                self._file.flush()
        self._logs.end()

    def _above(self, text: str) -> None:
        with self._lock:
            if self._closed or not self._drawn:
                self._file.write(text)
                self._file.flush()
            else:
                self._draw(text if text.endswith("\n") else text + "\n")

    def _draw(self, above: str = "") -> None:
        """With `above` written where the panel stood."""
        assert self._last is not None
        size = self._console.size
        lines = self._lines(Look(size.width, size.height, self._ascii))[: max(1, size.height - 1)]
        up = sum(max(1, math.ceil(width / size.width)) for width in self._drawn)  # a narrower terminal has wrapped them
        start = (_UP.format(up) if up else _HIDE) + "\r"
        clear = _CLEAR_BELOW if any(width != size.width for width in self._drawn) else ""
        said = "".join(_over(line, size.width) for line in above.splitlines())
        self._file.write(start + clear + said + "".join(line + "\n" for line in lines) + _CLEAR_BELOW)
        self._file.flush()
        self._drawn = [size.width] * len(lines)

    def _lines(self, look: Look) -> list[str]:
        assert self._last is not None
        with self._console.capture() as captured:
            self._console.print(panel(self._title, self._last, self._history, look), width=look.width)
        return captured.get().splitlines()


def _over(line: str, width: int) -> str:
    """A line written over what stood there, whose rest is cleared: but not where it ends at the edge, for there a
    terminal would clear its last letter. All is not cleared first: some terminals keep what is cleared from the top."""
    from rich.text import Text

    return line + (_CLEAR_REST if Text.from_ansi(line).cell_len % width or not line else "") + "\n"


def can_draw(encoding: str | None) -> bool:
    """Whether frames and curves can be written so."""
    try:
        "╭█░⣿·…".encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
