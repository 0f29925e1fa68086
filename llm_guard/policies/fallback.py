"""`@fallback(other)`: what to answer when the call has failed for good."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from llm_guard import checks
from llm_guard.errors import ConfigError
from llm_guard.runtime.plan import Plan
from llm_guard.runtime.policy import Policy


class FallbackStatistics(NamedTuple):
    """How many calls it has answered."""

    answered: int


class Fallback(Policy):
    """See `fallback`."""

    name = "fallback"

    def __init__(self, instead: Any, on: type[Exception] | tuple[type[Exception], ...]) -> None:
        kinds = on if isinstance(on, tuple) else (on,)
        if not kinds or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            raise ConfigError("on", on, "an exception class or a tuple of them")
        if callable(instead):
            checks.function("instead", instead)
        self._instead = instead
        self._on = kinds
        self._answered = 0

    def check(self, *, streams: bool) -> None:
        instead = self._instead
        items = callable(instead) or (isinstance(instead, Iterable) and not isinstance(instead, str | bytes))
        if streams and not items:
            raise ConfigError("instead", type(instead).__name__, "a function that streams, or an iterable of items, "
                                                                 "where the guarded function streams")

    def join(self, plan: Plan, *, by_call: bool) -> None:
        if plan.joined > 1:
            raise ConfigError("fallback", self, "only as the outermost policy, above all others")
        plan.fallback = self._answer

    def _answer(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not isinstance(error, self._on):
            raise error
        self._answered += 1
        return self._instead(*args, **kwargs) if callable(self._instead) else self._instead

    def statistics(self) -> FallbackStatistics:
        return FallbackStatistics(self._answered)

    def __repr__(self) -> str:
        return "fallback(...)"


def fallback(instead: Any, *, on: type[Exception] | tuple[type[Exception], ...] = Exception) -> Fallback:
    """Answers with `instead` when the call ends with an error of a class in `on`.

    A function is called with the arguments of the call (another model, say); anything else is returned as it is.
    Belongs outermost in its stack; elsewhere it is a `ConfigError`.

    For a function that streams, `instead` is another one, or an iterable of items. It answers where no first item came;
    what breaks later is raised, for a part of the answer has been read.
    """
    return Fallback(instead, on)
