"""What happened, as frozen facts without payload, for those who listen."""

from __future__ import annotations

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
