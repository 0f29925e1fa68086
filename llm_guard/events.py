"""What happened, as frozen facts without payload, for those who listen.

An event names the function and says when and how; never with which arguments or what came back. A listener that raises
is logged and dropped; the call it watched goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from llm_guard.outcome import Kind

_log = logging.getLogger("llm_guard")


@dataclass(frozen=True, slots=True)
class Event:
    """`at` is an instant of the clock, in seconds; `function` the qualified name of the guarded function."""

    at: float
    function: str


@dataclass(frozen=True, slots=True)
class AttemptStarted(Event):
    """The door admitted an attempt: the `attempt`-th of its call (from 1), after `waited` seconds at the door."""

    attempt: int
    waited: float


@dataclass(frozen=True, slots=True)
class FirstItem(Event):
    """The first item of a stream came, `seconds` after its attempt had started."""

    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class AttemptEnded(Event):
    """An attempt ended as `kind` after `seconds`; `hint` is the wait that the server asked for. Of a stream it comes at
    its end, with the seconds in which it was waited for."""

    attempt: int
    kind: Kind
    seconds: float
    hint: float | None


@dataclass(frozen=True, slots=True)
class RetryScheduled(Event):
    """After an attempt that ended as `kind`, the call goes back to the door in `wait` seconds."""

    attempt: int
    kind: Kind
    wait: float


@dataclass(frozen=True, slots=True)
class CallRejected(Event):
    """The call, or a further attempt of it, was refused by `policy` before it started."""

    policy: str
    retry_after: float | None


@dataclass(frozen=True, slots=True)
class StateChanged(Event):
    """A policy went from one state to another: closed to open, cold to ramping."""

    policy: str
    before: str
    after: str


def log(level: int, function: str, words: str) -> None:
    """Says of a function what changed, in the log. A handler that raises does not hurt the call it was told of."""
    with suppress(Exception):
        _log.log(level, "%s: %s", function, words)


Listener = Callable[[Event], object]


class Listeners:
    """Those who are told. Telling costs nothing while there are none.

    There is no lock: a finaliser may take its listener off while this very thread is in here, so each step is a single
    operation of a dict.
    """

    __slots__ = ("told",)

    def __init__(self) -> None:
        #: Empty where nobody listens; to be looked at, not changed.
        self.told: dict[object, Listener] = {}

    def __bool__(self) -> bool:
        return bool(self.told)

    def add(self, listener: Listener) -> Callable[[], None]:
        """Tells `listener` from now on; returns what takes it off again."""
        key = object()
        self.told[key] = listener

        def drop() -> None:
            self.told.pop(key, None)

        return drop

    def tell(self, event: Event) -> None:
        """Tells each in turn, in this thread; never call it under a lock."""
        for key, listener in list(self.told.items()):
            try:
                listener(event)
            except Exception as error:
                # Its type only: a message might quote what it was working on.
                _log.error("a listener raised %s and is dropped", type(error).__name__)
                self.told.pop(key, None)


#: Told of every guarded function.
everywhere = Listeners()
