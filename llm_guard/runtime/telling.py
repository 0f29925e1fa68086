"""What is told of a call while it is made: events to those who listen, lines to the log."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from llm_guard import events
from llm_guard.outcome import Kind
from llm_guard.runtime.plan import Plan
from llm_guard.state.gate import Ending


class Telling:
    """Tells those who listen of one call. `since`: the instant at which it came."""

    __slots__ = ("_listening", "_name", "_number", "_since")

    def __init__(self, listening: tuple[events.Listeners, ...], name: str, since: float) -> None:
        self._listening = listening
        self._name = name
        self._number = events.next_call()
        self._since = since

    def tell(self, kind: type[events.Event], at: float, *facts: Any) -> None:
        """An event of this call."""
        for listeners in self._listening:
            listeners.tell_of(kind, self._number, at, self._name, *facts)

    def attempt_ended(self, now: float, attempt: int, ending: Ending, plan: Plan,
                      keys: Mapping[Any, Hashable]) -> None:
        """An attempt, and what changed by it."""
        outcome = ending.outcome
        self.tell(events.AttemptEnded, now, attempt, outcome.kind, ending.seconds, outcome.hint,
                  None if ending.error is None or outcome.kind is Kind.SUCCESS else _named(ending.error),
                  outcome.output_tokens, outcome.total_tokens)
        for policy in plan.changing:
            change = policy.change(now, keys)
            if change is not None:
                self.tell(events.StateChanged, now, policy.name, *change)

    def call_ended(self, now: float, attempts: int, ending: Ending) -> None:
        """The whole call, whose last attempt ended so."""
        self.tell(events.CallEnded, now, attempts, ending.outcome.kind if attempts else None, now - self._since)


def tell_news(plan: Plan, name: str, now: float, keys: Mapping[Any, Hashable]) -> None:
    """What changed by an attempt that ended at `now`, in the log."""
    for policy in plan.tellers:
        news = policy.news(now, keys)
        if news is not None:
            events.log(news[0], name, news[1])


def _named(error: type[BaseException]) -> str:
    return error.__qualname__ if error.__module__ == "builtins" else f"{error.__module__}.{error.__qualname__}"
