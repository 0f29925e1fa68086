"""A server that starts cold, as a function to call.

`VirtualServer("A").call("hello")` blocks as a call to an API would, on the clock in force: under a `VirtualClock`
an hour of traffic takes seconds, and the same seed gives the same answers. `stream("hello")` yields the answer piece by
piece, as it comes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from random import Random

from llm_guard import checks
from llm_guard import clock as seam
from llm_guard.state.section import InTheMidst, Section
from llm_guard.testing.callers import Caller, Callers
from llm_guard.testing.ends import (
    Answer,
    CallerGone,
    ServerFailed,
    ServerRefused,
    ServerTimeout,
    answer_to,
    outcome_of,
)
from llm_guard.testing.server.limits import Left
from llm_guard.testing.server.model import REFUSAL_SECONDS, Refusal, ServerModel, Started
from llm_guard.testing.server.scenarios import scenario as scenario_named
from llm_guard.testing.server.scenarios import server_random
from llm_guard.testing.server.settings import Scenario
from llm_guard.testing.server.stats import Reason, Snapshot
from llm_guard.testing.tokens import instants, tokens_of

__all__ = ["Answer", "CallerGone", "ServerFailed", "ServerRefused", "ServerTimeout", "Snapshot", "VirtualServer",
           "answer_to", "outcome_of"]

# How often a caller's absence is looked for, in seconds of the clock.
_LOOKS_EVERY = 0.05


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
        self._breaks_off = Random(f"streams {seed}")
        self._lock = Section()  # a stream that is dropped may end in the midst
        self._began: float | None = None
        self._latest = 0.0  # the model's time, in its own seconds
        self._calls = 0
        self._callers = Callers()

    def call(self, prompt: object, timeout: float | None = None, *, gone: Callable[[], bool] | None = None) -> str:
        """The answer, after the time that the server takes; ServerRefused or ServerFailed where there is none.

        After `timeout` seconds, of the clock and not the server's, the caller leaves with ServerTimeout: its call stays
        inside, and is worked on all the same. Where the server tells what the account has left, the answer is an
        `Answer`, and errors have the same members; it is told as it stands when the answer leaves.

        `gone` tells whether the caller has gone away; it is asked now and then while the call is inside. Then the call
        is dropped, which frees its slot or its place in the queue, and CallerGone raised.
        """
        if timeout is not None:
            checks.number("timeout", timeout, above=0, unit="seconds")
        deadline = math.inf if timeout is None else self._clock.now() + timeout
        caller = Caller(streams=False)
        call = self._enter(caller, deadline)
        stays = True
        try:
            self._await_end(caller, deadline, gone)
        except CallerGone:
            stays = False
            raise
        finally:
            self._depart(call, caller, stays=stays)
        if not caller.ok:
            raise ServerFailed(left=caller.left)
        if caller.left is None and caller.tokens is None:
            return answer_to(prompt)
        left, seconds = caller.left or (None, None)
        return Answer(answer_to(prompt), left, seconds, caller.tokens)

    def stream(self, prompt: object, *, most: int | None = None,
               gone: Callable[[], bool] | None = None) -> Generator[str, None, None]:
        """Yields the answer token by token while the server works on it, at most the first `most` of them.

        A refusal is raised before the first one. Half of the calls that fail do so before it too, the others in the
        midst. Where the server tells what the account has left, the first token is an `Answer`. A stream that is closed
        before its end is dropped by the server. `gone` is asked while it waits for the next token: see `call`.
        """
        caller = Caller(streams=True)
        call = self._enter(caller, math.inf)
        stays = False
        try:
            work = self._await_work(caller, gone)
            tokens = tokens_of(answer_to(prompt))[:most]
            if not work.ok:
                tokens = tokens[:len(tokens) // 2 if self._breaks_off.random() < 0.5 else 0]
            for place, at in enumerate(instants(work.at, work.ends, len(tokens) + (not work.ok))):
                self._sleep_until(at, gone)
                yield tokens[place] if place else self._telling(tokens[0])
            self._await_end(caller, math.inf, gone)
            stays = True
        finally:
            self._depart(call, caller, stays=stays)
        if not work.ok:
            raise ServerFailed(left=caller.left)
        yield tokens[-1] if len(tokens) > 1 else self._telling(tokens[-1])

    def stats(self) -> Snapshot:
        """What it saw until now."""
        with self._lock:
            if self._began is not None:
                self._advance()
            return self._model.stats.snapshot(self._latest, self._speed)

    def _enter(self, caller: Caller, deadline: float) -> int:
        """The number of the call, where it is accepted; else the error for it is raised."""
        left: Left | None = None
        with self._lock:
            self._advance()
            self._calls += 1
            call = self._calls
            refusal = self._model.arrive(self._latest, call)
            if refusal is None:
                self._callers.enter(call, caller)
                return call
            if refusal.reason is not Reason.CONNECTION:
                left = self._left()
        raise self._refused(refusal, left, deadline)

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

    def _telling(self, token: str) -> str:
        """The first token of an answer, with what is left as it leaves."""
        with self._lock:
            left = self._left()
        return token if left is None else Answer(token, *left)

    def _sleep_until(self, at: float, gone: Callable[[], bool] | None) -> None:
        """Until the model's time `at`."""
        assert self._began is not None  # a call is inside
        while (left := self._began + at / self._speed - self._clock.now()) > 0:
            if gone is not None and gone():
                raise CallerGone
            self._clock.sleep(left if gone is None else min(left, _LOOKS_EVERY))

    def _await_end(self, caller: Caller, deadline: float, gone: Callable[[], bool] | None) -> None:
        self._await(caller, lambda: caller.ok is not None, deadline, gone)

    def _await_work(self, caller: Caller, gone: Callable[[], bool] | None) -> Started:
        """When work on the call begins: what it is. Whoever led until then hands the lead on."""
        self._await(caller, lambda: caller.work is not None, math.inf, gone)
        with self._lock:
            caller.waiter = None  # it cannot lead while it delivers
            self._callers.hand_lead_on(caller)
        assert caller.work is not None
        return caller.work

    def _await(self, caller: Caller, over: Callable[[], bool], deadline: float,
               gone: Callable[[], bool] | None) -> None:
        reached = 0.0
        while True:
            if gone is not None and gone():
                raise CallerGone
            with self._lock:
                self._advance(reached)
                if over():
                    return
                patience = deadline - self._clock.now()
                if patience <= 0:
                    raise ServerTimeout("the time ran out before the answer came")
                caller.waiter = waiter = self._clock.waiter()
                next_event = self._model.next_event()
                assert next_event is not None  # this call is inside
                wakes = self._callers.lead(caller, next_event)
                pause = None if wakes is None else (wakes - self._latest) / self._speed
                looks = patience if gone is None else min(patience, _LOOKS_EVERY)
                if looks < (math.inf if pause is None else pause):
                    pause, wakes = looks, None
            woken = waiter.wait(pause)
            # A sleep may end a rounding error before the event that it was meant for.
            reached = 0.0 if woken or wakes is None else wakes

    def _depart(self, call: int, caller: Caller, *, stays: bool) -> None:
        """The caller leaves; unless the call stays, it is dropped where it has not ended."""
        try:
            with self._lock.checked():
                self._leave(call, caller, stays)
        except InTheMidst:  # a finaliser in the thread that is inside: the next who looks at the time does it
            self._lock.put_off(lambda: self._leave(call, caller, stays))

    def _leave(self, call: int, caller: Caller, stays: bool) -> None:
        if not stays:
            self._advance()
        if self._callers.leave(call) is not None and not stays:
            self._model.leave(self._latest, call)
            self._callers.look_again()
        self._callers.hand_lead_on(caller)

    def _advance(self, reached: float = 0.0) -> None:
        while self._lock.later:
            self._lock.later.popleft()()
        now = self._clock.now()
        if self._began is None:
            self._began = now
        self._latest = max(self._latest, reached, (now - self._began) * self._speed)
        ended = self._model.advance(self._latest)
        for work in self._model.started():
            self._callers.begin(work)
        left = self._left() if ended else None
        usual = self.scenario.usual_tokens
        for call, ok, _, length in ended:
            caller = self._callers.leave(call)
            if caller is not None:
                caller.ok, caller.left = ok, left
                caller.tokens = None if usual is None else round(usual * length)
                caller.wake()
