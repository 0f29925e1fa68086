"""What is told of a call while it is made: events to those who listen, lines to the log."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from llm_guard import events
from llm_guard.errors import Rejected
from llm_guard.outcome import Kind
from llm_guard.runtime.plan import Plan
from llm_guard.state.gate import Ending


class Telling:
    """Tells those who listen of one call. `since`: the instant at which it came to the door."""

    __slots__ = ("_audience", "_name", "_number", "since")

    def __init__(self, audience: events.Audience, name: str, since: float = 0.0) -> None:
        self._audience = audience
        self._name = name
        self._number = events.next_call()
        self.since = since

    def attempt_started(self, at: float, attempt: int, waited: float) -> None:
        for told in self._audience.attempt_started:
            told(self._number, at, self._name, attempt, waited)

    def first_item(self, at: float, attempt: int, seconds: float | None) -> None:
        for told in self._audience.first_item:
            told(self._number, at, self._name, attempt, seconds)

    def attempt_ended(self, at: float, attempt: int, ending: Ending, plan: Plan, keys: Mapping[Any, Hashable]) -> None:
        """An attempt, and what changed by it."""
        outcome, audience = ending.outcome, self._audience
        error = None if ending.error is None or outcome.kind is Kind.SUCCESS else _named(ending.error)
        for told in audience.attempt_ended:
            told(self._number, at, self._name, attempt, outcome.kind, ending.seconds, outcome.hint, error,
                 outcome.output_tokens, outcome.total_tokens)
        if audience.state_changed:
            for policy in plan.policies:
                if policy.changes and (change := policy.change(at, keys)) is not None:
                    for told in audience.state_changed:
                        told(self._number, at, self._name, policy.name, *change)

    def retry_scheduled(self, at: float, attempt: int, kind: Kind, wait: float) -> None:
        for told in self._audience.retry_scheduled:
            told(self._number, at, self._name, attempt, kind, wait)

    def call_rejected(self, at: float, rejected: Rejected, waited: float) -> None:
        for told in self._audience.call_rejected:
            told(self._number, at, self._name, rejected.policy, rejected.retry_after, waited)

    def call_ended(self, at: float, attempts: int, ending: Ending) -> None:
        """The whole call, whose last attempt ended so."""
        for told in self._audience.call_ended:
            told(self._number, at, self._name, attempts, ending.outcome.kind if attempts else None, at - self.since)


def tell_news(plan: Plan, name: str, now: float, keys: Mapping[Any, Hashable]) -> None:
    """What changed by an attempt that ended at `now`, in the log."""
    for policy in plan.tellers:
        news = policy.news(now, keys)
        if news is not None:
            events.log(news[0], name, news[1])


def _named(error: type[BaseException]) -> str:
    return error.__qualname__ if error.__module__ == "builtins" else f"{error.__module__}.{error.__qualname__}"
