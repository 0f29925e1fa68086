"""Progress as plain lines in the log, for where there is no terminal."""

from __future__ import annotations

import logging
import sys

from llm_guard.mapping import progress_words as words
from llm_guard.mapping.progress import Progress

_log = logging.getLogger("llm_guard")

#: Seconds between two lines.
EVERY = 10.0


class Lines:
    """One line each ten seconds and one at the end: at INFO in the logger `llm_guard`, or, in a program that has set up
    no logging, on the standard error."""

    every = 1.0  # it looks more often than it tells, which makes for better estimates

    def __init__(self, name: str) -> None:
        self._name = name
        self._next = EVERY

    def show(self, progress: Progress) -> None:
        if not progress.over and progress.elapsed < self._next - self.every / 2:
            return
        self._next = progress.elapsed + EVERY
        line = f"{self._name}: {'ended, ' if progress.over else ''}{words.line(progress)}"
        if _log.hasHandlers():
            _log.info("%s", line)
        elif sys.stderr is not None:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    def close(self) -> None:
        pass
