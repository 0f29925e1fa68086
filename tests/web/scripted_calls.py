"""A function on a thread in virtual time, for the tests of the status page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llm_guard import clock


class Task:
    """Starts at once; `wait` returns what the function returned."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._time = clock.current()
        self._done = self._time.waiter()
        self.ended_at: float | None = None
        self._value: Any = None
        self._function = function
        self._time.spawn(self._run, "task")
        self._time.sleep(0)

    def _run(self) -> None:
        try:
            self._value = self._function()
        finally:
            self.ended_at = self._time.now()
            self._done.set()

    def wait(self) -> Any:
        self._done.wait()
        return self._value
