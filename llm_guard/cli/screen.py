"""What is said while a run goes on: the panel or lines, with what the logger of this package has to tell; or nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from llm_guard.cli.history import History
from llm_guard.cli.live import display
from llm_guard.mapping.progress import Progress
from llm_guard.mapping.progress_words import time_of_day

Say = Callable[[str], None]


class Screen:
    """Takes the progress of a run, and remembers how it stood at last."""

    def __init__(self, show: Callable[[Progress], None], say: Say) -> None:
        self._show = show
        self.say = say
        self.last: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        self.last = progress
        self._show(progress)


class _Said(logging.Handler):
    """Has lines of the log said."""

    def __init__(self, say: Say) -> None:
        super().__init__(logging.INFO)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._say(f"{time_of_day(record.created)} {record.getMessage()}")
        except Exception:
            self.handleError(record)

    def __enter__(self) -> Self:
        self._logger = logging.getLogger("llm_guard")
        self._before = self._logger.level, self._logger.propagate
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False
        self._logger.addHandler(self)
        return self

    def __exit__(self, *ended: object) -> None:
        self._logger.removeHandler(self)
        self._logger.level, self._logger.propagate = self._before


@contextmanager
def screen(title: str, history: History, quiet: bool) -> Iterator[Screen]:
    """For the time of a run."""
    if quiet:
        with _Said(lambda line: None):
            yield Screen(history, lambda line: None)
        return
    with display(title, history) as shown, _Said(shown.say):
        yield Screen(shown, shown.say)
