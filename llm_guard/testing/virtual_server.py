"""A server that starts cold, as a function to call.

`VirtualServer("A").call("hello")` blocks as a call to an API would, on the clock in force: under a `VirtualClock`
an hour of traffic takes seconds, and the same seed gives the same answers.
"""

from __future__ import annotations

import math
from _thread import allocate_lock
from dataclasses import dataclass

from llm_guard import checks
from llm_guard import clock as seam
from llm_guard.testing.ends import Answer, ServerFailed, ServerRefused, ServerTimeout, answer_to, outcome_of
from llm_guard.testing.server.limits import Left
from llm_guard.testing.server.model import REFUSAL_SECONDS, Refusal, ServerModel
from llm_guard.testing.server.scenarios import scenario as scenario_named
from llm_guard.testing.server.scenarios import server_random
from llm_guard.testing.server.settings import Scenario
from llm_guard.testing.server.stats import Reason

__all__ = ["Answer", "ServerFailed", "ServerRefused", "ServerTimeout", "Snapshot", "VirtualServer", "answer_to",
           "outcome_of"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the server saw so far. `seconds` since its first call; a refusal counts under its reason.

    `timeline` has a sample for each bucket: (its start in seconds, most in flight, answered, refused).
    """

    calls: int
    in_flight: int
    peak_in_flight: int
    successes: int
    failures: int
    refusals: dict[str, int]
    seconds: float
    timeline: tuple[tuple[float, int, int, int], ...]


class _Caller:
    """A thread whose call was accepted, and how that call ended."""

    __slots__ = ("left", "ok", "waiter")

    def __init__(self) -> None:
        self.ok: bool | None = None
        self.left: Left | None = None  # what its answer tells
        self.waiter: seam.Waiter | None = None


class VirtualServer:
    """Runs a `ServerModel` in the threads that call it; its time begins with the first call.

    No thread of its own: of the callers that wait, one leads. It sleeps until the model's next event, lets the model
    go on, wakes those whose calls ended, and hands the lead on when its own has.

    `speed` divides all times and hints, as if the server were simply faster. `clock` is the one in force by default.
    """

    def __init__(self, scenario: str | Scenario, seed: int = 0, *, speed: float = 1.0,
                 clock: seam.Clock | None = None) -> None:
        self.scenario = scenario if isinstance(scenario, Scenario) else scenario_named(scenario)
        self._speed = checks.number("speed", speed, above=0)
        self._clock = seam.current() if clock is None else clock
        self._model = ServerModel(self.scenario, server_random(seed))
        self._lock = allocate_lock()
        self._began: float | None = None
        self._latest = 0.0  # the model's time, in its own seconds
        self._calls = 0
        self._callers: dict[int, _Caller] = {}
        self._leader: _Caller | None = None
        self._leader_wakes = 0.0

    def call(self, prompt: object, timeout: float | None = None) -> str:
        """The answer, after the time that the server takes; ServerRefused or ServerFailed where there is none.

        After `timeout` seconds, of the clock and not the server's, the caller leaves with ServerTimeout: its call stays
        inside, and is worked on all the same. Where the server tells what the account has left, the answer is an
        `Answer`, and errors have the same members; it is told as it stands when the answer leaves.
        """
        if timeout is not None:
            checks.number("timeout", timeout, above=0, unit="seconds")
        deadline = math.inf if timeout is None else self._clock.now() + timeout
        caller = _Caller()
        left: Left | None = None
        with self._lock:
            self._advance()
            self._calls += 1
            call = self._calls
            refusal = self._model.arrive(self._latest, call)
            if refusal is None:
                self._callers[call] = caller
            elif refusal.reason is not Reason.CONNECTION:
                left = self._left()
        if refusal is not None:
            raise self._refused(refusal, left, deadline)
        try:
            self._await_end(caller, deadline)
        finally:
            with self._lock:
                self._callers.pop(call, None)  # still there where the wait was interrupted
                self._hand_lead_on(caller)
        if not caller.ok:
            raise ServerFailed(left=caller.left)
        return answer_to(prompt) if caller.left is None else Answer(answer_to(prompt), *caller.left)

    def stats(self) -> Snapshot:
        """What it saw until now."""
        with self._lock:
            if self._began is not None:
                self._advance()
            stats = self._model.stats
            timeline = tuple((start / self._speed, most, answered, refused)
                             for start, most, answered, refused in stats.timeline.samples)
            return Snapshot(stats.calls, stats.in_flight, stats.peak_in_flight, stats.successes, stats.failures,
                            {reason.value: count for reason, count in stats.refusals.items()},
                            self._latest / self._speed, timeline)

    def _refused(self, refusal: Refusal, left: Left | None, deadline: float) -> Exception:
        """The error for a refused caller, after the time that a refusal takes."""
        patience = deadline - self._clock.now()
        takes = REFUSAL_SECONDS / self._speed
        self._clock.sleep(min(takes, patience))
        if patience < takes:
            return ServerTimeout("the time ran out before the refusal came")
        growth = self.scenario.growth
        return ServerRefused(refusal.reason, None if refusal.hint is None else refusal.hint / self._speed,
                             tells_growth=growth is not None and growth.told, left=left)

    def _left(self) -> Left | None:
        left = self._model.left(self._latest)
        return None if left is None else Left(left.calls, left.seconds / self._speed)

    def _await_end(self, caller: _Caller, deadline: float) -> None:
        reached = 0.0
        while True:
            with self._lock:
                self._advance(reached)
                if caller.ok is not None:
                    return
                patience = deadline - self._clock.now()
                if patience <= 0:
                    raise ServerTimeout("the time ran out before the answer came")
                caller.waiter = waiter = self._clock.waiter()
                wakes = self._lead(caller)
                pause = None if wakes is None else (wakes - self._latest) / self._speed
                if patience < (math.inf if pause is None else pause):
                    pause, wakes = patience, None
            woken = waiter.wait(pause)
            # A sleep may end a rounding error before the event that it was meant for.
            reached = 0.0 if woken or wakes is None else wakes

    def _lead(self, caller: _Caller) -> float | None:
        """Until when the caller leads before it looks again; None: another one does, which will wake it."""
        next_event = self._model.next_event()
        assert next_event is not None  # this call is inside
        if self._leader not in (None, caller) and next_event >= self._leader_wakes:
            return None
        self._leader, self._leader_wakes = caller, next_event
        return next_event

    def _hand_lead_on(self, caller: _Caller) -> None:
        # Where nobody leads, the caller may be the one that was woken to.
        if self._leader in (caller, None):
            self._leader = None
            for other in self._callers.values():
                if other.waiter is not None:
                    other.waiter.set()
                    break

    def _advance(self, reached: float = 0.0) -> None:
        now = self._clock.now()
        if self._began is None:
            self._began = now
        self._latest = max(self._latest, reached, (now - self._began) * self._speed)
        ended = self._model.advance(self._latest)
        left = self._left() if ended else None
        for call, ok, _ in ended:
            caller = self._callers.pop(call, None)
            if caller is not None:
                caller.ok, caller.left = ok, left
                if caller.waiter is not None:
                    caller.waiter.set()
