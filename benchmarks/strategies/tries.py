"""How often a strategy tries: as people configure it, or with as much patience as `llm_guard.retry` has.

tenacity runs the loop and computes the exponential bound. Not tenacity's: the sleep (on the clock in force), the dice
(the clock's, so that a run can be repeated), the end of the item's deadline, and the rule of the patient form.
"""

from __future__ import annotations

from collections.abc import Callable

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_exponential

from llm_guard.clock import chance, current
from llm_guard.outcome import FAILURES, REFUSALS, Kind
from llm_guard.testing.simulation import Call, Client, ServerCall, Setting
from llm_guard.testing.virtual_server import ServerFailed, ServerRefused, ServerTimeout
from strategies.waiting import sleep, time_left, within

#: Makes one attempt, which may raise, into a call that tries again.
Retry = Callable[[Call], Call]
#: Makes the server's call into one attempt of a strategy: whatever it waits for, the call, what it learns of its end.
Attempt = Callable[[ServerCall], Call]


class RejectedHere(Exception):
    """The strategy itself let no attempt go to the server."""


def kind_of(error: BaseException) -> Kind | None:
    """How the attempt ended; None for an error that is no end of an attempt. A rejection of its own: an overload."""
    match error:
        case ServerRefused(kind=kind):
            return kind
        case ServerFailed():
            return Kind.FAILURE
        case ServerTimeout():
            return Kind.TIMEOUT
        case RejectedHere():
            return Kind.OVERLOAD
    return None


def hint_of(error: BaseException) -> float:
    """Seconds that the server asked to wait; 0 where it did not."""
    return (error.hint or 0.0) if isinstance(error, ServerRefused) else 0.0


class FullJitter(wait_exponential):
    """tenacity's `wait_random_exponential`, with the clock's dice: U(0, min(max, multiplier x 2^n)) seconds."""

    def __call__(self, retry_state: RetryCallState) -> float:
        return chance.uniform(self.min, super().__call__(retry_state))


def five_tries(attempt: Call) -> Call:
    """As people use tenacity: 5 attempts, full jitter over 1, 2, 4, 8 s, whatever the error was.

    Its documentation's first example of a growing wait, with the number of attempts that is most often seen.
    """
    def call(item: object) -> str:
        tries = Retrying(stop=lambda state: stop_after_attempt(5)(state) or time_left() <= 0, wait=FullJitter(),
                         retry=retry_if_exception(lambda error: kind_of(error) is not None), sleep=sleep, reraise=True)
        return tries(attempt, item)

    return call


class Patience:
    """What one call may still wait for, after the rule of `llm_guard.retry` without a pace.

    Refusals are waited out for `refusal_seconds` in all, failures and timeouts are tried up to `attempts` times. Before
    the next attempt: the server's hint, and on top U(0, min(8, 0.5 x 2^n)) seconds, which are the bounds of the openai
    and anthropic clients; n counts refusals and failures apart.
    """

    def __init__(self, refusal_seconds: float = 600.0, attempts: int = 8) -> None:
        self._seconds_left = refusal_seconds
        self._attempts = attempts
        self._failures = 0
        self._refusals = 0
        self._refused_at: float | None = None
        self._wait = 0.0

    def is_over(self, error: BaseException) -> bool:
        """Hears of an attempt's end; whether it was the last one."""
        kind = kind_of(error)
        if kind in FAILURES:
            self._failures += 1
            self._refused_at = None
            self._wait = _backoff(self._failures)
            return self._failures >= self._attempts
        if kind not in REFUSALS:
            return True
        now = current().now()
        if self._refused_at is not None:
            self._seconds_left -= now - self._refused_at
        self._refused_at = now
        self._refusals += 1
        hint = hint_of(error)
        self._wait = hint + _backoff(self._refusals)
        return self._seconds_left <= 0 or hint > self._seconds_left

    def wait(self, state: RetryCallState) -> float:
        """Seconds before the next attempt."""
        return self._wait


def patient(attempt: Call) -> Call:
    """With the patience of `llm_guard.retry`: what differs then is the law, not the number of tries."""
    def call(item: object) -> str:
        patience = Patience()
        # tenacity asks first whether to try again, then how long to wait: one question, asked once an attempt.
        tries = Retrying(retry=retry_if_exception(lambda error: not patience.is_over(error) and time_left() > 0),
                         wait=patience.wait, sleep=sleep, reraise=True)
        return tries(attempt, item)

    return call


def client(setting: Setting, attempt: Attempt, retry: Retry) -> Client:
    """A client that makes each item's attempts by `attempt`, and tries again by `retry`, within its deadline."""
    def wrap(call: ServerCall) -> Call:
        tried = retry(attempt(call))

        def answer(item: object) -> str:
            with within(setting.deadline):
                return tried(item)

        return answer

    return wrap


def _backoff(n: int) -> float:
    return chance.uniform(0.0, min(8.0, 0.5 * 2.0 ** (n - 1)))
