"""What happened, as frozen facts without payload, for those who listen.

An event names the function and says when and how; never with which arguments or what came back. A listener that raises
is logged and dropped; the call it watched goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from itertools import count
from typing import Any

from llm_guard.outcome import Kind

_log = logging.getLogger("llm_guard")


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


def log(level: int, function: str, words: str) -> None:
    """Says of a function what changed, in the log. A handler that raises does not hurt the call it was told of."""
    with suppress(Exception):
        _log.log(level, "%s: %s", function, words)


#: Draws the number of a call.
next_call: Callable[[], int] = count(1).__next__

Listener = Callable[[Event], object]
#: For kinds of events, what takes one as it is told: `taker(call, at, function, ...)`, with its fields in their order.
Takers = Mapping[type[Event], Callable[..., object]]
#: One who is told of a kind of events: its key, what is called, and whether that is a taker.
_Told = tuple[object, Callable[..., object], bool]


class Listeners:
    """Those who are told. Telling costs nothing while there are none.

    There is no lock: a finaliser may take its listener off while this very thread is in here, so each step is a single
    operation of a dict. `heard` has who listens, by a key of each; it is looked at, and changed in here alone.
    """

    __slots__ = ("_by_kind", "heard")

    def __init__(self) -> None:
        self.heard: dict[object, Listener | Takers] = {}
        # Found out when first needed, and anew after each change: whoever reads takes the dict before it looks who
        # listens, so what it puts into one that was replaced meanwhile harms nobody.
        self._by_kind: dict[type[Event], list[_Told]] = {}

    def __bool__(self) -> bool:
        return bool(self.heard)

    def add(self, listener: Listener) -> Callable[[], None]:
        """Tells `listener` from now on; returns what takes it off again."""
        return self._add(listener)

    def add_takers(self, takers: Takers) -> Callable[[], None]:
        """Tells of these kinds only, and without making events: for those who cannot spend a microsecond a call."""
        return self._add(dict(takers))

    def _add(self, listener: Listener | Takers) -> Callable[[], None]:
        key = object()
        self.heard[key] = listener
        self._by_kind = {}

        def drop() -> None:
            self._drop(key)

        return drop

    def _drop(self, key: object) -> None:
        self.heard.pop(key, None)
        self._by_kind = {}

    def tell(self, event: Event) -> None:
        """Tells each in turn, in this thread; never call it under a lock."""
        self.tell_of(type(event), event.call, *(getattr(event, each.name) for each in fields(event)
                                                if each.name != "call"))

    def tell_of(self, kind: type[Event], call: int, *facts: Any) -> None:
        """As `tell`, of an event that is made only where somebody wants it: of that kind, with its fields in order."""
        by_kind = self._by_kind
        listening = by_kind.get(kind)
        if listening is None:
            listening = by_kind[kind] = list(_who_wants(kind, list(self.heard.items())))
        event: Event | None = None
        for key, listener, takes in listening:
            try:
                if takes:
                    listener(call, *facts)
                    continue
                if event is None:
                    event = kind(*facts, call=call)
                listener(event)
            except Exception as error:
                # Its type only: a message might quote what it was working on.
                _log.error("a listener raised %s and is dropped", type(error).__name__)
                self._drop(key)


def _who_wants(kind: type[Event], all_of: Iterable[tuple[object, Listener | Takers]]) -> Iterator[_Told]:
    for key, listener in all_of:
        if not isinstance(listener, dict):
            yield key, listener, False  # type: ignore[misc]  # then it is a Listener
        elif kind in listener:
            yield key, listener[kind], True


#: Told of every guarded function.
everywhere = Listeners()


def to_be_told(listeners: Listeners) -> tuple[Listeners, ...]:
    """Of those of a function and those of all functions, the ones where somebody listens."""
    if listeners.heard:
        return (listeners, everywhere) if everywhere.heard else (listeners,)
    return (everywhere,) if everywhere.heard else ()
