"""What the policies of a run say of themselves: their lines for the log, at the instants of virtual time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from llm_guard.clock.virtual import VirtualClock

_log = logging.getLogger("llm_guard")


class Line(NamedTuple):
    """One line: when, in seconds from the beginning of the run, its level (of `logging`), and its words."""

    at: float
    level: int
    words: str

    def __str__(self) -> str:
        return f"{self.at:8.1f} s  {self.words}"


@contextmanager
def overheard(time: VirtualClock) -> Iterator[list[Line]]:
    """The lines of the threads under that clock, from INFO on. They do not go on to the log, for to whoever reads it
    they are no news; errors, such as those of a listener, do."""
    lines: list[Line] = []
    level, least = _log.level, _log.getEffectiveLevel()

    def hear(record: logging.LogRecord) -> bool:
        if not time.has_this_thread():
            return record.levelno >= least
        lines.append(Line(time.now(), record.levelno, record.getMessage()))
        return record.levelno >= max(least, logging.ERROR)

    _log.setLevel(min(least, logging.INFO))
    _log.addFilter(hear)
    try:
        yield lines
    finally:
        _log.removeFilter(hear)
        _log.setLevel(level)
