"""Something to be done after what happens, but not more often than now and then."""

from __future__ import annotations

from collections.abc import Callable

from llm_guard import clock
from llm_guard.fork import renew_after_fork
from llm_guard.state.alarm import alarm

#: Seconds between two times at least.
EVERY = 1.0


class Refresh:
    """Does it in the alarm's thread: at once when a second has passed since the last time, else when it has.

    So the last change is followed within a second, though nothing happens any more; where nothing happens, nothing is
    done, and no thread is kept.
    """

    __slots__ = ("__weakref__", "_do", "_due_at", "_is_set")

    def __init__(self, do: Callable[[], object]) -> None:
        self._do = do
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._due_at = 0.0
        self._is_set = False

    def due(self, now: float) -> None:
        """Something happened at `now`. Two threads at once may set it twice: it is done twice."""
        if not self._is_set:
            self._is_set = True
            alarm().at(max(now, self._due_at), self._run)

    def _run(self) -> None:
        self._is_set = False  # before it is done: what happens from now on is for the next time
        self._due_at = clock.current().now() + EVERY
        self._do()
