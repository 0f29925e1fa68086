"""A server that streams as it is told, for the tests of streams."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from scripted import Ended

from llm_guard import clock
from llm_guard.outcome import Kind


class Streamer:
    """Each call takes the next script; a call after the last takes `then`. A script is a list of steps: a number of
    seconds to take, text to yield, a kind to end as, an exception or a class of them to
    raise.

    It is a generator function under the name of `stream`.
    """

    def __init__(self, *scripts: list[Any], then: list[Any] | None = None) -> None:
        self._scripts = list(scripts)
        self._then = ["a", 1.0, "b", 1.0, "c"] if then is None else then
        self.starts: list[float] = []
        self.ends: list[float] = []

    @property
    def running(self) -> int:
        return len(self.starts) - len(self.ends)

    def stream(self, item: Any = None) -> Generator[str, str, str]:
        time = clock.current()
        script = self._scripts.pop(0) if self._scripts else self._then
        self.starts.append(time.now())
        try:
            for step in script:
                if isinstance(step, float):
                    time.sleep(step)
                elif isinstance(step, BaseException | type):
                    raise step
                elif isinstance(step, Kind):
                    raise Ended(step)
                else:
                    yield step
            return "all"
        finally:
            self.ends.append(time.now())
