"""What happened, as frozen facts without payload.

An event names the function and says when and how; never with which arguments or what came back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from llm_guard.outcome import Kind


@dataclass(frozen=True, slots=True)
class Event:
    """`at` is an instant of the clock, in seconds; `function` the qualified name of the guarded function. `call` is the
    number of the call, by which its events are known: unique in the process, growing, and 0 where there is none. Two
    events are equal whatever call they tell of."""

    at: float
    function: str
    call: int = field(default=0, compare=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class AttemptStarted(Event):
    """The door admitted an attempt: the `attempt`-th of its call (from 1), after `waited` seconds at the door.

    It is told in the thread and the context in which the call was made, right before the function runs."""

    attempt: int
    waited: float


@dataclass(frozen=True, slots=True)
class FirstItem(Event):
    """The first item of a stream came, `seconds` after its attempt had started. It is told where the call was made."""

    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class AttemptEnded(Event):
    """An attempt ended as `kind` after `seconds`; `hint` is the wait that the server asked for. Of a stream it comes at
    its end, with the seconds in which it was waited for, in whatever thread that is.

    `error` names the class of what it raised, with its module (None: it returned, or it was a success).
    `output_tokens` are those of the answer, `total_tokens` with those of the question, where they are known."""

    attempt: int
    kind: Kind
    seconds: float
    hint: float | None
    error: str | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class RetryScheduled(Event):
    """After an attempt that ended as `kind`, the call goes back to the door in `wait` seconds."""

    attempt: int
    kind: Kind
    wait: float


@dataclass(frozen=True, slots=True)
class CallRejected(Event):
    """The call, or a further attempt of it, was refused by `policy` before it started, `waited` seconds after it had
    come to the door."""

    policy: str
    retry_after: float | None
    waited: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class CallEnded(Event):
    """The whole call ended, as its last attempt did: `kind`, or None where none started. It made `attempts` and took
    `seconds` in all, its waits included. Of a stream it comes at its end."""

    attempts: int
    kind: Kind | None
    seconds: float


@dataclass(frozen=True, slots=True)
class StateChanged(Event):
    """A policy went from one state to another: closed to open, cold to ramping. `why`: in words, without payload."""

    policy: str
    before: str
    after: str
    why: str = field(default="", compare=False)
