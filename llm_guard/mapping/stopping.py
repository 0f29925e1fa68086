"""When a mapping is not worth going on with: too many failures, or an account that is exhausted."""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from typing import Any, Literal, NamedTuple

from llm_guard import checks
from llm_guard.errors import ConfigError, QuotaExhausted, Stopped
from llm_guard.mapping.result import Result
from llm_guard.outcome import Kind
from llm_guard.runtime import reading
from llm_guard.runtime.reading import Classify

Reason = Literal["quota", "failures", "failure_rate"]


class StopAfter(NamedTuple):
    """What `stop_after` makes: when a mapping stops."""

    failures: int | None
    failure_rate: float | None
    window: int
    min_items: int


def stop_after(failures: int | None = None, failure_rate: float | None = None, *, window: int = 100,
               min_items: int = 20) -> StopAfter:
    """Stops a mapping after `failures` items have failed in all, or when of the last `window` items that ended a share
    of `failure_rate` (above 0, at most 1) or more failed, `min_items` of them at least having ended. For
    `map_with_backpressure(..., stop_after=...)`.

    An item has failed when its call raised, after all retries. Items recorded by an earlier run count in neither.
    """
    if failures is not None:
        checks.whole("failures", failures, least=1)
    if failure_rate is not None:
        failure_rate = checks.number("failure_rate", failure_rate, above=0, most=1)
    if failures is None and failure_rate is None:
        raise ConfigError("failures", None, "a whole number of at least 1, unless failure_rate is given")
    checks.whole("window", window, least=1)
    checks.whole("min_items", min_items, least=1, most=window)
    return StopAfter(failures, failure_rate, window, min_items)


class Verdict:
    """Looks at each result as its call ends. `reason` is set once: from then on no further item is to begin."""

    def __init__(self, rule: StopAfter | None, classify: Classify | None) -> None:
        self._rule = rule
        self._classify = classify
        self._lock = allocate_lock()
        self._failures = 0
        self._last: deque[bool] = deque(maxlen=1 if rule is None else rule.window)  # whether they failed
        self._failed_of_last = 0
        self.reason: Reason | None = None
        self.cause: BaseException | None = None  # the last failure

    def says_stop(self, result: Result[Any, Any]) -> bool:
        """Whether to stop, now that `result` is there. In the worker's thread; not for what was given up."""
        error = result.error
        if error is None and self._rule is None:
            return False
        try:
            if isinstance(error, Exception) and self.is_quota(error):
                with self._lock:
                    return self._stop("quota", error)
            if self._rule is None:
                return False
            with self._lock:
                return self._stop(self._count(self._rule, error is not None), error)
        finally:
            del error, result

    def is_quota(self, error: Exception) -> bool:
        """Whether it says that the account is exhausted."""
        if isinstance(error, QuotaExhausted):
            return True
        try:
            return reading.of_error(error, self._classify).kind is Kind.QUOTA
        except Exception:  # the user's classify: where it matters, it was raised before
            return False

    def _count(self, rule: StopAfter, failed: bool) -> Reason | None:
        self._failures += failed
        last = self._last
        if len(last) == rule.window:
            self._failed_of_last -= last[0]
        last.append(failed)
        self._failed_of_last += failed
        if rule.failures is not None and self._failures >= rule.failures:
            return "failures"
        if (rule.failure_rate is not None and len(last) >= rule.min_items
                and self._failed_of_last >= rule.failure_rate * len(last)):
            return "failure_rate"
        return None

    def _stop(self, reason: Reason | None, error: BaseException | None) -> bool:
        if self.reason is None:
            if error is not None:
                self.cause = error
            self.reason = reason
        return self.reason is not None

    def error(self, succeeded: int, failed: int) -> Stopped:
        """To be raised at the end."""
        assert self.reason is not None
        retry_after = None
        if self.reason == "quota" and self.cause is not None:
            retry_after = (self.cause.retry_after if isinstance(self.cause, QuotaExhausted)
                           else reading.of_error(self.cause, self._classify).hint)
        why = {"quota": "the account's quota is exhausted", "failures": f"{self._failures} items failed",
               "failure_rate": f"{self._failed_of_last} of the last {len(self._last)} items failed"}[self.reason]
        later = "" if retry_after is None else f"; it may be worth another try in {retry_after:.3g} s"
        return Stopped(f"stopped, since {why}: {succeeded} succeeded, {failed} failed{later}", reason=self.reason,
                       succeeded=succeeded, failed=failed, retry_after=retry_after)
