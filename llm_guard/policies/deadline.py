"""`@deadline(seconds)`: a bound on the whole call that needs no thread: what waits gives up, what runs is told."""

from __future__ import annotations

from typing import NamedTuple

from llm_guard import checks
from llm_guard.errors import ConfigError
from llm_guard.runtime.plan import Plan
from llm_guard.runtime.policy import Policy


class DeadlineStatistics(NamedTuple):
    """The bound, in seconds."""

    seconds: float


class Deadline(Policy):
    """See `deadline`."""

    name = "deadline"
    live = ("seconds",)

    def __init__(self, seconds: float) -> None:
        if callable(seconds):
            raise ConfigError("seconds", seconds, "a number of seconds: write @deadline(30), with the bound")
        self.seconds = seconds

    @property
    def seconds(self) -> float:
        """The bound; may be set at any time, for calls that begin from then on."""
        return self._seconds

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._seconds = checks.number("seconds", seconds, above=0, unit="seconds")

    def join(self, plan: Plan, *, by_call: bool) -> None:
        plan.call_deadlines += (lambda: self._seconds,)

    def statistics(self) -> DeadlineStatistics:
        return DeadlineStatistics(self._seconds)

    def __repr__(self) -> str:
        return f"deadline({self._seconds:g})"


def deadline(seconds: float) -> Deadline:
    """The call must have ended `seconds` from its beginning, wherever this stands in the stack.

    The cooperative kind, for web views: the function runs in its own thread and is not cut off. Waits end in time
    (`Saturated`, or the last attempt's error), no attempt begins after it, and guarded functions called below keep it.
    """
    return Deadline(seconds)
