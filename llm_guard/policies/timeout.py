"""`@timeout(seconds)`: control returns in time, whatever the function does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar, overload

from llm_guard import checks
from llm_guard.call import FOREVER
from llm_guard.errors import ConfigError, Saturated
from llm_guard.fork import renew_after_fork
from llm_guard.runtime.guarded import Guarded
from llm_guard.runtime.plan import Plan
from llm_guard.runtime.policy import Policy
from llm_guard.state.gate import Ending, Request
from llm_guard.state.stream_time import Bounds

P = ParamSpec("P")
R = TypeVar("R")

#: What a bare `@timeout` means, in seconds.
DEFAULT = 20.0
_UNSET: Any = object()


class TimeoutStatistics(NamedTuple):
    """The bounds in seconds (None: not set), and how many functions run on that were left to themselves."""

    seconds: float | None
    still_running: int
    first_item: float | None = None
    idle: float | None = None


class Timeout(Policy):
    """See `timeout`. It is a gate too: it lets nobody in while too many of its calls still run."""

    name = "timeout"
    live = ("seconds",)
    outlives = False

    def __init__(self, seconds: float | None, max_still_running: int, first_item: float | None = None,
                 idle: float | None = None) -> None:
        if seconds is None and first_item is None and idle is None:
            raise ConfigError("seconds", seconds, "a number of seconds, where neither first_item nor idle is given")
        self.bounds = Bounds()
        self.seconds, self.first_item, self.idle = seconds, first_item, idle
        for name, value in (("first_item", first_item), ("idle", idle)):
            if value is not None and value > self.bounds.total:
                raise ConfigError(name, value, f"at most the bound on the whole, {seconds!r} seconds")
        self._max_still_running = checks.whole("max_still_running", max_still_running, least=1)
        self.still_running = 0
        renew_after_fork(self)

    def after_fork(self) -> None:
        self.still_running = 0

    @property
    def seconds(self) -> float | None:
        """The bound on the whole; may be set at any time, as the others, for calls that begin from then on."""
        return _set(self.bounds.total)

    @seconds.setter
    def seconds(self, seconds: float | None) -> None:
        self.bounds = self.bounds._replace(total=_bound("seconds", seconds))

    @property
    def first_item(self) -> float | None:
        """The bound on the way to a stream's first item."""
        return _set(self.bounds.first_item)

    @first_item.setter
    def first_item(self, seconds: float | None) -> None:
        self.bounds = self.bounds._replace(first_item=_bound("first_item", seconds))

    @property
    def idle(self) -> float | None:
        """The bound between two items of a stream."""
        return _set(self.bounds.idle)

    @idle.setter
    def idle(self, seconds: float | None) -> None:
        self.bounds = self.bounds._replace(idle=_bound("idle", seconds))

    def check(self, *, streams: bool) -> None:
        for name, value in (("first_item", self.first_item), ("idle", self.idle)):
            if value is not None and not streams:
                raise ConfigError(name, value, "only for a function that streams: a generator function, or one that is "
                                               "marked with @stream right on it")

    def join(self, plan: Plan, *, by_call: bool) -> None:
        if by_call:
            plan.call_timeouts += (self,)
        else:
            plan.attempt_timeouts += (self,)
        plan.attempt_gates += (self,)

    def statistics(self) -> TimeoutStatistics:
        return TimeoutStatistics(self.seconds, self.still_running, self.first_item, self.idle)

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
        named = [f"{name}={value:g}" for name, value in (("first_item", self.first_item), ("idle", self.idle))
                 if value is not None]
        return f"timeout({', '.join([f'{self.seconds:g}' if self.seconds is not None else 'None', *named])})"


def _bound(name: str, seconds: float | None) -> float:
    found = checks.optional_number(name, seconds, above=0, unit="seconds")
    return FOREVER if found is None else found


def _set(bound: float) -> float | None:
    return None if bound == FOREVER else bound


@overload
def timeout(seconds: Callable[P, R], /) -> Guarded[P, R]: ...


@overload
def timeout(seconds: float | None = ..., *, first_item: float | None = ..., idle: float | None = ...,
            max_still_running: int = ...) -> Timeout: ...


def timeout(seconds: Any = _UNSET, *, first_item: float | None = None, idle: float | None = None,
            max_still_running: int = 256) -> Any:
    """Bounds each attempt where it stands below `@retry`, else the whole call, to `seconds` (bare: 20).

    The function runs on a worker thread. When time is up, `CallTimeout` is raised; a function that cannot be stopped
    runs on, its result is dropped, and it keeps its place in `@bounded` until it ends. While `max_still_running` such
    functions run, further calls are `Saturated`. A call whose time runs out before it started is `Saturated` too.

    Of a function that streams, `seconds` bounds the whole stream, `first_item` the way to its first item, `idle` the
    wait for each further one; with one of these, `seconds` may be left out: then the whole has no bound. What the
    consumer does between two items counts for none of them. All items come from one worker thread, which is taken for
    as long as the stream is open. A stream that is late on its first item is tried again by a `@retry` above.
    """
    if callable(seconds):
        return Timeout(DEFAULT, max_still_running).bare(seconds)
    if seconds is _UNSET:
        seconds = DEFAULT if first_item is None and idle is None else None
    return Timeout(seconds, max_still_running, first_item, idle)
