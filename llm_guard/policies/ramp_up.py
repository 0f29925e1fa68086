"""`@ramp_up`: the pace. Raises the use of the server step by step, and holds back what it cannot take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, overload

from llm_guard import checks, clock
from llm_guard.errors import ConfigError, QuotaExhausted, Saturated
from llm_guard.fork import renew_after_fork
from llm_guard.runtime.door import door
from llm_guard.runtime.guarded import Guarded
from llm_guard.runtime.plan import Plan
from llm_guard.runtime.policy import Policy
from llm_guard.runtime.reading import Classify
from llm_guard.state.gate import Ending, Request
from llm_guard.state.pace import Pace, PaceSnapshot, Start

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RampUpStatistics:
    """The pace at this instant, and how many wait at the door for it, perhaps among other things."""

    pace: PaceSnapshot
    waiting: int


class PaceGate:
    """The pace as a gate at the door."""

    outlives = False

    def __init__(self, pace: Pace, name: str) -> None:
        self.name = name
        self.pace = pace
        renew_after_fork(self)

    def after_fork(self) -> None:
        self.pace.reset()

    def ready_at(self, now: float, request: Request) -> float | QuotaExhausted | Saturated:
        exhausted = self.pace.exhausted_for(now)
        if exhausted is not None:
            return QuotaExhausted("the account's quota is exhausted", policy=self.name, retry_after=exhausted)
        # Only who has waited: else one slow answer would refuse all whose whole time is short.
        if now > (request.since + request.deadline) / 2 and self.pace.hopeless(now, request.deadline):
            return Saturated("the call could not end within its deadline", policy=self.name)
        at = self.pace.ready_at(now)
        if at > now and request.patience is not None and (shut_since := self.pace.shut_since) is not None:
            gives_up = shut_since + request.patience
            if now >= gives_up:
                return Saturated("the server has been refusing calls for too long", policy=self.name,
                                 retry_after=max(0.0, at - now) if at < float("inf") else None)
            at = min(at, gives_up)
        return at

    def start(self, now: float, request: Request) -> Start:
        return self.pace.start(now, request.since)

    def end(self, now: float, permit: Start, ending: Ending) -> None:
        self.pace.end(permit, now, ending.outcome, ending.seconds, ending.timeout)

    def is_probe(self, permit: Start) -> bool:
        return permit.probing


class RampUp(Policy):
    """See `ramp_up`."""

    name = "ramp_up"

    def __init__(self, start: float | None, ceiling: float | None, max_wait: float | None,
                 classify: Classify | None) -> None:
        self._gate = PaceGate(Pace(clock.chance, ceiling=ceiling, start=start), self.name)
        if start is not None and ceiling is not None and start > ceiling:
            raise ConfigError("start", start, f"at most the ceiling, {ceiling!r}")
        self._max_wait = checks.optional_number("max_wait", max_wait, least=0, unit="seconds")
        if classify is not None:
            checks.function("classify", classify)
        self._classify = classify
        self._told = "cold"

    def join(self, plan: Plan, *, by_call: bool) -> None:
        plan.paces.append(self._gate)
        plan.wait_at_most(self._max_wait)
        plan.read_with(self._classify)

    @property
    def ceiling(self) -> float | None:
        """The most calls a second that it lets start, or None. May be set at any time."""
        return self._gate.pace.ceiling

    @ceiling.setter
    def ceiling(self, ceiling: float | None) -> None:
        with door.locked():
            self._gate.pace.ceiling = ceiling
        door.changed(self._gate)

    def pause(self, seconds: float) -> None:
        """Lets nobody start for so many seconds."""
        checks.number("seconds", seconds, least=0, unit="seconds")
        with door.locked():
            self._gate.pace.pause(clock.current().now(), seconds)

    def resume(self) -> None:
        """Ends a pause, and opens a gate that the server's refusals have shut."""
        with door.locked():
            self._gate.pace.resume(clock.current().now())
        door.changed(self._gate)

    def change(self, now: float) -> tuple[str, str] | None:
        with door.locked():
            state = self._gate.pace.snapshot(now).state
            told, self._told = self._told, state
        return None if told == state else (told, state)

    def statistics(self) -> RampUpStatistics:
        with door.locked():
            snapshot = self._gate.pace.snapshot(clock.current().now())
        return RampUpStatistics(snapshot, door.waiting(self._gate))

    def __repr__(self) -> str:
        return "ramp_up()" if self.ceiling is None else f"ramp_up(ceiling={self.ceiling:g})"


@overload
def ramp_up(function: Callable[P, R], /) -> Guarded[P, R]: ...


@overload
def ramp_up(*, start: float | None = ..., ceiling: float | None = ..., max_wait: float | None = ...,
            classify: Classify | None = ...) -> RampUp: ...


def ramp_up(function: Any = None, /, *, start: float | None = None, ceiling: float | None = None,
            max_wait: float | None = None, classify: Classify | None = None) -> Any:
    """Finds out how much the server takes, from how the calls end, and never asks for much more.

    Begins with a few calls in flight, grows while they succeed, steps back when answers slow down or are refused, and
    waits, with one probe at a time, while the server loads or is gone. `start` and `ceiling` are rates in calls a
    second: the first, and the most there may be (None: the server's word alone). In any window of w seconds at most
    rate * (w + 0.010) + 1 attempts start. `max_wait`: seconds that a call waits before it is `Saturated`. `classify`
    replaces the reading of errors and returned values.
    """
    if function is not None and not callable(function) and not isinstance(function, classmethod):
        raise ConfigError("start", function, "given by name: ramp_up(start=1)")
    policy = RampUp(start, ceiling, max_wait, classify)
    return policy if function is None else policy(function)
