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
    """One line each `every` seconds and one at the end: at INFO in the logger `llm_guard`, or, in a program that has
    set up no logging, on the standard error."""

    def __init__(self, name: str, every: float = EVERY) -> None:
        self._name = name
        self.every = every

    def show(self, progress: Progress) -> None:
        line = f"{self._name}: {'ended, ' if progress.over else ''}{words.line(progress)}"
        if _log.hasHandlers():
            _log.info("%s", line)
        elif sys.stderr is not None:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    def close(self) -> None:
        pass
