"""`@timeout(seconds)`: control returns in time, whatever the function does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, overload

from llm_guard import checks
from llm_guard.errors import Saturated
from llm_guard.fork import renew_after_fork
from llm_guard.runtime.guarded import Guarded
from llm_guard.runtime.plan import Plan
from llm_guard.runtime.policy import Policy
from llm_guard.state.gate import Ending, Request

P = ParamSpec("P")
R = TypeVar("R")

#: What a bare `@timeout` means, in seconds.
DEFAULT = 20.0


@dataclass(frozen=True, slots=True)
class TimeoutStatistics:
    """The bound in seconds, and how many functions run on that were left to themselves."""

    seconds: float
    still_running: int


class Timeout(Policy):
    """See `timeout`. It is a gate too: it lets nobody in while too many of its calls still run."""

    name = "timeout"
    live = ("seconds",)
    outlives = False

    def __init__(self, seconds: float, max_still_running: int) -> None:
        self.seconds = seconds
        self._max_still_running = checks.whole("max_still_running", max_still_running, least=1)
        self.still_running = 0
        renew_after_fork(self)

    def after_fork(self) -> None:
        self.still_running = 0

    @property
    def seconds(self) -> float:
        """The bound; may be set at any time, for calls that begin from then on."""
        return self._seconds

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._seconds = checks.number("seconds", seconds, above=0, unit="seconds")

    def join(self, plan: Plan, *, by_call: bool) -> None:
        (plan.call_timeouts if by_call else plan.attempt_timeouts).append(self)
        plan.attempt_gates.append(self)

    def statistics(self) -> TimeoutStatistics:
        return TimeoutStatistics(self._seconds, self.still_running)

    # As a gate.

    def ready_at(self, now: float, request: Request) -> float | Saturated:
        if self.still_running < self._max_still_running:
            return now
        return Saturated(f"{self.still_running} calls that ran out of time still run", policy=self.name)

    def start(self, now: float, request: Request) -> None:
        """It counts only those that it had to leave."""

    def end(self, now: float, permit: None, ending: Ending) -> None:
        """Nothing was taken."""

    def is_probe(self, permit: None) -> bool:
        return False

    def __repr__(self) -> str:
        return f"timeout({self._seconds:g})"


@overload
def timeout(seconds: Callable[P, R], /) -> Guarded[P, R]: ...


@overload
def timeout(seconds: float = ..., *, max_still_running: int = ...) -> Timeout: ...


def timeout(seconds: Any = DEFAULT, *, max_still_running: int = 256) -> Any:
    """Bounds each attempt where it stands below `@retry`, else the whole call, to `seconds` (bare: 20).

    The function runs on a worker thread. When time is up, `CallTimeout` is raised; a function that cannot be stopped
    runs on, its result is dropped, and it keeps its place in `@bounded` until it ends. While `max_still_running` such
    functions run, further calls are `Saturated`. A call whose time runs out before it started is `Saturated` too.
    """
    if callable(seconds):
        return Timeout(DEFAULT, max_still_running)(seconds)
    return Timeout(seconds, max_still_running)
