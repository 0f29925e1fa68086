"""`@retry`: failures are tried again with backoff, refusals are waited out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar, overload

from llm_guard import checks
from llm_guard.errors import ConfigError
from llm_guard.runtime.guarded import Guarded
from llm_guard.runtime.plan import Plan
from llm_guard.runtime.policy import Policy, check_bare, check_classify
from llm_guard.runtime.reading import Classify
from llm_guard.state.schedule import FULL_JITTER, Schedule
from llm_guard.state.tries import Budget, Rule

P = ParamSpec("P")
R = TypeVar("R")

#: Which errors are worth another attempt: classes, or a function of the error.
RetryOn = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]


class RetryStatistics(NamedTuple):
    """Its settings: attempts in all, and seconds that refusals are waited out for."""

    attempts: int
    max_refusal_wait: float


class Retry(Policy):
    """See `retry`."""

    name = "retry"
    repeatable = False

    def __init__(self, attempts: int, schedule: Schedule, retry_on: RetryOn | None, max_refusal_wait: float,
                 budget: float | None, classify: Classify | None) -> None:
        share = checks.optional_number("budget", budget, above=0, most=1)
        self._classify = check_classify(classify)
        self._rule = Rule(checks.whole("attempts", attempts, least=1), schedule,
                          checks.number("max_refusal_wait", max_refusal_wait, least=0, unit="seconds"),
                          _worth(retry_on), None if share is None else Budget(share))

    def join(self, plan: Plan, *, by_call: bool) -> None:
        if plan.rule is not None:
            raise ConfigError("retry", self, "one @retry in a stack, for two would multiply their attempts")
        plan.rule = self._rule
        plan.read_with(self._classify)

    def statistics(self) -> RetryStatistics:
        return RetryStatistics(self._rule.attempts, self._rule.max_refusal_wait)

    def __repr__(self) -> str:
        return f"retry(attempts={self._rule.attempts})"


def _any(error: BaseException | None) -> bool:
    return True


def _worth(retry_on: RetryOn | None) -> Callable[[BaseException | None], bool]:
    if retry_on is None:
        return _any
    kinds = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    if kinds and all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        classes: Any = kinds
        return lambda error: error is None or isinstance(error, classes)
    if callable(retry_on) and not isinstance(retry_on, type):
        checks.function("retry_on", retry_on)
        asked: Any = retry_on
        return lambda error: error is None or bool(asked(error))
    raise ConfigError("retry_on", retry_on, "an exception class, a tuple of them, or a function of the exception")


@overload
def retry(function: Callable[P, R], /) -> Guarded[P, R]: ...


@overload
def retry(*, attempts: int = ..., wait: Any = ..., jitter: Any = ..., retry_on: RetryOn | None = ...,
          max_refusal_wait: float = ..., budget: float | None = ..., classify: Classify | None = ...) -> Retry: ...


def retry(function: Any = None, /, *, attempts: int = 8, wait: Any = None, jitter: Any = FULL_JITTER,
          retry_on: RetryOn | None = None, max_refusal_wait: float = 600.0, budget: float | None = None,
          classify: Classify | None = None) -> Any:
    """Makes further attempts until one succeeds, `attempts` in all have failed, or none is worth making.

    `wait`: any of backoff's wait generators, a number of seconds, or a generator function of your own (default:
    `backoff.expo` from 0.1 s to 8 s); `jitter`: any of backoff's jitters, a function of the wait, or None
    (default: full).
    `retry_on`: which failures are worth another attempt (default: all but bugs such as TypeError).

    What the server refuses (it loads, a rate limit, overload) is not an attempt that failed: it is waited out,
    `max_refusal_wait` seconds at most in one call and never past a deadline. The server's hint is a floor, with jitter
    on top; a hint longer than what is left is raised at once. `budget`: retries as a share of calls at most (0.2: one
    in five), off by default, for it costs answers. `classify` replaces the reading of errors and returned values.

    When retries end, the last error is raised as it was, with a note; a returned refusal is returned as it came.
    """
    check_bare(function, "attempts", "retry(attempts=8)")
    policy = Retry(attempts, Schedule(wait, jitter), retry_on, max_refusal_wait, budget, classify)
    return policy if function is None else policy.bare(function)
