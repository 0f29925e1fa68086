"""The runner: carries one call through its plan, in the caller's thread.

For each attempt: the door admits it, the bare function runs, its end becomes an outcome, the outcome goes to the gates,
and the retry's rule says what follows. Nothing is held while the call waits at the door or between two attempts, but
what is meant to be held for the whole call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from llm_guard import call, clock, events
from llm_guard.call import FOREVER, Call
from llm_guard.errors import Cancelled, Rejected, Saturated
from llm_guard.outcome import FAILURES, IGNORED, SUCCESS, Outcome
from llm_guard.runtime import reading
from llm_guard.runtime.attempt import Permits, close_quietly, run_in_time
from llm_guard.runtime.door import door
from llm_guard.runtime.keys import Asks
from llm_guard.runtime.options import NONE, Options
from llm_guard.runtime.plan import Plan
from llm_guard.runtime.telling import Telling, tell_news
from llm_guard.state.gate import Ending, Request
from llm_guard.state.tries import Tries

#: Of an attempt, or a call, that was interrupted.
NO_VERDICT = Ending(IGNORED, 0.0)


class Run:
    """One guarded call."""

    __slots__ = ("_above", "_args", "_attempt_limit", "_attempts", "_call_permits", "_came", "_cut_off", "_deadline",
                 "_ended", "_function", "_heard", "_held", "_keys", "_kwargs", "_max_wait", "_name", "_nested",
                 "_owner", "_patience", "_plan", "_ran_for", "_rule", "_telling", "_time", "_timeout", "_tries")

    def __init__(self, plan: Plan, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
                 name: str, options: Options, listeners: events.Listeners, keys: dict[Asks, Hashable] | None = None,
                 telling: Telling | None = None, came: float | None = None) -> None:
        self._plan = plan
        self._keys = keys
        self._function, self._args, self._kwargs = function, args, kwargs
        self._name = name
        self._time = clock.current()
        above = self._above = call.in_progress()
        self._nested = above is not None and above.owner is not None
        self._owner = above.owner if above is not None and above.owner is not None else object()
        self._held = plan.policies if above is None or not above.active else (*above.held, *plan.policies)
        self._cut_off = None if above is None else above.cut_off
        self._bound_in_time(FOREVER if above is None else above.deadline, options, came)
        self._max_wait = plan.max_wait if options.max_wait is None else options.max_wait
        self._rule = options.rule(plan)
        self._tries: Tries | None = None  # from the first attempt on
        self._patience = None if self._rule is None else self._rule.max_refusal_wait  # at first
        self._attempts = 0  # that started
        self._ended = 0.0  # when the last one did
        self._ran_for = 0.0  # seconds, without waits
        self._call_permits: Permits | None = None  # what is held for the whole call
        self._heard: object = None  # the last response that a connection received in the last attempt
        if telling is None and (audience := events.audience_of(listeners)) is not None:
            telling = Telling(audience, name)
        self._telling = telling

    def _bound_in_time(self, deadline: float, options: Options, came: float | None) -> None:
        """The instants by which the call must end, and the seconds that an attempt may take. `came`: the instant at
        which the call came (None: now)."""
        if not self._plan.bounds_time and options is NONE:
            self._attempt_limit, self._timeout, self._deadline = FOREVER, None, deadline
            return
        now = self._time.now() if came is None else came
        by_call, by_attempt, cooperative = options.bounds(self._plan)
        self._attempt_limit = min(by_attempt, default=FOREVER)
        self._timeout = min([*by_call, *by_attempt], default=None)
        self._deadline = min(deadline, now + min([*by_call, *cooperative], default=FOREVER))

    def _begin_tries(self) -> None:
        if self._rule is not None:
            self._tries = Tries(self._rule, self._time.random, paced=self._plan.is_paced)

    def go_on(self, permits: Permits, started: float, value: Any, error: BaseException | None, heard: object) -> Any:
        """Takes over a call whose first attempt was made elsewhere, and is not ended yet."""
        self._attempts = 1
        self._begin_tries()
        self._came, self._heard, heard = started, heard, None
        try:
            return self.go((permits, started, value, error))
        finally:
            error = None  # its traceback holds this frame

    def go(self, made: tuple[Permits, float, Any, BaseException | None] | None = None) -> Any:
        """Makes the call: returns what the function returned, or raises what ended it. `made` is its first attempt,
        where that was made elsewhere."""
        ending = NO_VERDICT
        value: Any = None
        error: BaseException | None = None
        permits: Permits | None = None
        try:
            while True:
                permits = self._admit() if made is None else made[0]
                if permits is None:
                    break
                value, error, ending = self._make(permits, before=value) if made is None else self._end(*made)
                made = None
                wait = self._wait_after(ending.outcome, error, permits)
                if wait is None:
                    break
                if wait > 0:
                    self._sleep(wait)
        except BaseException:  # given up, or interrupted
            ending = NO_VERDICT
            if permits is not None:
                permits.end(ending)  # no effect where they had ended
            close_quietly(value)
            self._ended = self._time.now()
            raise
        finally:
            if self._call_permits is not None:
                self._call_permits.end(ending.lasting(self._ran_for))
            self._tell_call(ending)
        if error is None:
            return value
        if self._attempts > 1:
            refused = self._tries.refused if self._tries else 0
            error.add_note(f"llm_guard: given up after {self._attempts} attempts"
                           + (f", {refused} of them refused or made to see if the server is back" if refused else ""))
        try:
            raise error
        finally:
            del error  # its traceback holds this frame

    def _admit(self) -> Permits | None:
        """Waits at the door. None: a further attempt was not let in; a first one that is not let in raises."""
        again = self._attempts > 0
        now = self._came = self._time.now()
        if not again and self._telling is not None:
            self._telling.since = now
        give_up_at = min(self._deadline, now + self._max_wait)
        if self._tries is not None and self._tries.was_refused:
            give_up_at = min(give_up_at, self._ended + self._tries.patience())
        by_call = 0 if again else len(self._plan.call_gates)
        gates = self._plan.all_gates if by_call else self._plan.attempt_gates
        request = Request(gates, self._patience, self._keys, urgent=again)
        request.by_call, request.deadline = by_call, self._deadline
        request.owner, request.nested = self._owner, self._nested
        cut_off = None if self._cut_off is None else self._cut_off.waits
        if cut_off is not None and cut_off.is_cut:
            raise Cancelled("the call was given up before it could start")
        try:
            if now >= self._deadline:
                raise Saturated("the deadline had passed before the call could start", policy="deadline")
            if request.gates:
                door.enter(request, give_up_at=give_up_at, cut_off=cut_off)
        except Rejected as rejected:
            if self._telling is not None:
                self._ended = self._time.now()
                self._telling.call_rejected(self._ended, rejected, self._ended - now)
            if again:
                return None
            raise
        permits = list(zip(request.gates, request.permits, strict=True))
        if by_call:
            self._call_permits = Permits(request, permits[:by_call])
            permits = permits[by_call:]
        if not again:
            self._begin_tries()
        self._attempts += 1
        if self._above is not None:
            self._above.attempts += 1
            self._above.guards = self._plan.policies
        return Permits(request, permits)

    def _make(self, permits: Permits, before: Any) -> tuple[Any, BaseException | None, Ending]:
        """Runs the bare function once. What is no Exception (an interrupt, an exit) is raised.

        `before`: what the attempt before returned, if anything, which nobody will see.
        """
        started = self._time.now()
        value: Any = None
        error: BaseException | None = None
        try:
            close_quietly(before)
            if self._telling is not None:
                self._telling.attempt_started(started, self._attempts, started - self._came)
            value = self._run_function(started, permits)
        except BaseException as raised:
            error = raised
        try:
            return self._end(permits, started, value, error)
        finally:
            error = None  # its traceback holds this frame

    def _end(self, permits: Permits, started: float, value: Any,
             error: BaseException | None) -> tuple[Any, BaseException | None, Ending]:
        """The function has returned or raised: reads the outcome, and tells all who are concerned."""
        outcome = IGNORED
        try:
            outcome, error = self._outcome(value, error)
            if error is not None and not isinstance(error, Exception):
                raise error
        finally:
            self._heard = None  # an error's traceback would keep the response, and its connection
            self._ended = self._time.now()
            seconds = self._ended - started
            self._ran_for += seconds
            ending = Ending(outcome, seconds, self._timeout, None if error is None else type(error),
                            self._plan.is_paced)
            permits.end(ending)
            if self._telling is not None or self._plan.tellers:
                self._tell_end(ending, self._ended)
        try:
            return value, error, ending
        finally:
            del error  # its traceback holds this frame

    def _outcome(self, value: Any, error: BaseException | None) -> tuple[Outcome, BaseException | None]:
        """Of an attempt that returned `value`, or raised `error`; with the error that it ended in."""
        if error is None:
            try:
                return reading.of_value(value, self._plan.classify, self._heard, count=self._counts()), None
            except Exception as raised:  # of the user's own `classify`
                error = raised
        try:
            outcome = reading.of_error(error, self._plan.classify)
            if outcome.kind in FAILURES and self._is_given_up():
                outcome = IGNORED  # its connection was cut, under whatever library: that says nothing of the server
            return outcome, error
        finally:
            del error  # its traceback holds this frame

    def _counts(self) -> bool:
        """Whether the tokens of an answer are of interest."""
        return self._plan.is_paced or self._telling is not None

    def _run_function(self, started: float, permits: Permits) -> Any:
        """In this thread, or, where a timeout bounds it, on a worker."""
        limit = FOREVER if self._timeout is None else min(self._attempt_limit, self._deadline - started)
        mine = Call(min(self._deadline, started + limit), self._cut_off, self._held, self._owner)
        mine.active = False  # until it is sure to end: it could stay the one in progress after an interrupt
        token = call.begin(mine)
        try:
            mine.active = True
            if limit < FOREVER:
                return run_in_time(self._bare(), mine, limit, started + limit, self._held_for(permits),
                                   self._plan.timeouts)
            try:
                return self._function(*self._args, **self._kwargs)
            finally:
                mine.active = False  # its context may outlive it
        finally:
            call.end(token)
            self._heard, mine.heard = mine.heard, None

    def _bare(self) -> Callable[[], Any]:
        return partial(self._function, *self._args, **self._kwargs)

    def _held_for(self, permits: Permits) -> tuple[Permits, ...]:
        """All that an attempt runs under."""
        return (permits,) if self._call_permits is None else (permits, self._call_permits)

    def _is_given_up(self) -> bool:
        """Whether the call was given up from above before its time was up."""
        return self._cut_off is not None and self._cut_off.is_cut and self._time.now() < self._deadline

    def _wait_after(self, outcome: Outcome, error: BaseException | None, permits: Permits) -> float | None:
        """Seconds until the next attempt; None: there is none."""
        if self._tries is None or self._patience is None or outcome is SUCCESS:
            return None
        now = self._time.now()
        wait = self._tries.wait_after(outcome, error, now, probe=permits.is_probe)
        if wait is None or (outcome.hint or 0.0) > self._patience:
            return None
        if self._tries.was_refused:
            wait = min(wait, self._tries.patience())
        if now + wait >= self._deadline:
            return None
        if self._telling is not None:
            self._telling.retry_scheduled(now, self._attempts, outcome.kind, wait)
        return wait

    def _sleep(self, seconds: float) -> None:
        """Between two attempts. A call that is given up meanwhile is `Cancelled`."""
        if self._cut_off is None:
            self._time.sleep(seconds)
            return
        cut_off = self._cut_off.waits
        waiter = self._time.waiter()
        cut_off.watch(waiter.set)
        try:
            waiter.wait(seconds)
        finally:
            cut_off.unwatch(waiter.set)
        if cut_off.is_cut:
            raise Cancelled("the call was given up while it waited between two attempts")

    def _tell_end(self, ending: Ending, now: float) -> None:
        """Of an attempt that ended: to those who listen, and what changed by it, in the log too."""
        keys = self._keys or {}
        if self._telling is not None:
            self._telling.attempt_ended(now, self._attempts, ending, self._plan, keys)
        tell_news(self._plan, self._name, now, keys)

    def _tell_call(self, ending: Ending) -> None:
        """Of the whole call, whose last attempt ended so."""
        if self._telling is not None:
            self._telling.call_ended(self._ended, self._attempts, ending)
