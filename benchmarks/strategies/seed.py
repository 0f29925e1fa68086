"""The design that this project began with: a throttle in two steps, a bulkhead, a short timeout, a fixed retry.

One item starts each 0.5 s for the first 10 s, then each 0.1 s; 4 at once; 2 s for an attempt; 2 more after 0.3 s each.
An item that fails does not end the run. No library; its arithmetic is here.

The patient form lets throttle and bulkhead bound each attempt, and takes the server's timeout.
"""

from __future__ import annotations

from llm_guard.clock import current
from llm_guard.testing.simulation import Call, Client, ServerCall, Setting, Strategy
from strategies.tries import Attempt, Retry, client, kind_of, patient
from strategies.waiting import Condition, sleep, time_left

AT_ONCE = 4
TIMEOUT = 2.0
RETRIES = 2
RETRY_AFTER = 0.3


class Throttle:
    """Starts at least `first` seconds apart until `until` seconds after the first one, then `later` seconds."""

    def __init__(self, first: float = 0.5, later: float = 0.1, until: float = 10.0) -> None:
        self._first, self._later, self._until = first, later, until
        self._began: float | None = None
        self._next = 0.0

    def reserve(self, now: float) -> float:
        """Takes the next start; seconds until then."""
        if self._began is None:
            self._began = self._next = now
        start = max(now, self._next)
        self._next = start + (self._first if start - self._began < self._until else self._later)
        return start - now


def bounded(attempt: Attempt, throttle: Throttle) -> Attempt:
    """`attempt` with 4 at once, each started by the throttle."""
    condition = Condition()
    inside = 0

    def wrap(call: ServerCall) -> Call:
        once = attempt(call)

        def start(item: object) -> str:
            nonlocal inside
            with condition:
                while inside >= AT_ONCE:
                    condition.wait()
                inside += 1
                pause = throttle.reserve(current().now())
            try:
                sleep(pause)
                return once(item)
            finally:
                with condition:
                    inside -= 1
                    condition.notify()

        return start

    return wrap


def three_tries(attempt: Call) -> Call:
    """2 retries, 0.3 s after each failure."""
    def call(item: object) -> str:
        for _ in range(RETRIES):
            try:
                return attempt(item)
            except Exception as error:
                if kind_of(error) is None or time_left() <= 0:
                    raise
                sleep(RETRY_AFTER)
        return attempt(item)

    return call


def once(attempt: Call) -> Call:
    """No further try."""
    return attempt


def strategy(retry: Retry = three_tries) -> Strategy:
    """The design as it was, or, with `patient`, its throttle and bulkhead under that patience."""
    @Strategy
    def made(setting: Setting) -> Client:
        if retry is patient:
            return client(setting, bounded(_calls(setting.timeout), Throttle()), patient)

        def tried(call: ServerCall) -> Call:
            return retry(_calls(TIMEOUT)(call))

        return client(setting, bounded(tried, Throttle()), once)

    return made


def _calls(timeout: float) -> Attempt:
    return lambda call: lambda item: call(item, timeout=timeout)
