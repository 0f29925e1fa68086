"""What happened, as frozen facts without payload, for those who listen."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from llm_guard.events.listeners import (
    NOBODY,
    Audience,
    Listener,
    Listeners,
    Taker,
    Takers,
    audience_of,
    everywhere,
    log,
    next_call,
)

if TYPE_CHECKING:
    from llm_guard.events.facts import (
        AttemptEnded,
        AttemptStarted,
        CallEnded,
        CallRejected,
        Event,
        FirstItem,
        RetryScheduled,
        StateChanged,
    )

__all__ = [
    "NOBODY",
    "AttemptEnded",
    "AttemptStarted",
    "Audience",
    "CallEnded",
    "CallRejected",
    "Event",
    "FirstItem",
    "Listener",
    "Listeners",
    "RetryScheduled",
    "StateChanged",
    "Taker",
    "Takers",
    "audience_of",
    "everywhere",
    "log",
    "next_call",
]


def __getattr__(name: str) -> Any:
    """A kind of event: they are made when somebody first asks for one, for not everybody listens."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module("llm_guard.events.facts"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
