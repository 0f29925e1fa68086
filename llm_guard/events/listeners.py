"""Those who listen to events. A listener that raises is logged and dropped; the call it watched goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_guard.events.facts import Event

_log = logging.getLogger("llm_guard")


def log(level: int, function: str, words: str) -> None:
    """Says of a function what changed, in the log. A handler that raises does not hurt the call it was told of."""
    with suppress(Exception):
        _log.log(level, "%s: %s", function, words)


#: Draws the number of a call.
next_call: Callable[[], int] = count(1).__next__

Listener = Callable[["Event"], object]
#: What takes the facts of an event as they are: `taker(call, at, function, ...)`, with its fields in their order.
Taker = Callable[..., object]
Takers = Mapping[type["Event"], Taker]


class Listeners:
    """Those who are told. Telling costs nothing while there are none.

    There is no lock: a finaliser may take its listener off while this very thread is in here, so each step is a single
    operation of a dict. `registered` has who listens, and `version` is another object after each change: both are for
    `audience_of`.
    """

    __slots__ = ("audience", "registered", "version")

    def __init__(self) -> None:
        self.registered: dict[object, Listener | Takers] = {}
        self.version = object()
        self.audience: Audience | None = None  # the last that was made

    def __bool__(self) -> bool:
        return bool(self.registered)

    def add(self, listener: Listener) -> Callable[[], None]:
        """Tells `listener` from now on; returns what takes it off again."""
        return self._add(listener)

    def add_takers(self, takers: Takers) -> Callable[[], None]:
        """Tells of these kinds only, and without making events: for those who cannot spend a microsecond a call. They
        hear of each call all or nothing, so of one that was under way when they were taken off its end, too. They must
        raise nothing: that would end the call."""
        return self._add(dict(takers))

    def _add(self, listener: Listener | Takers) -> Callable[[], None]:
        key = object()
        self.registered[key] = listener
        self.version = object()

        def drop() -> None:
            self._drop(key)

        return drop

    def _drop(self, key: object) -> None:
        self.registered.pop(key, None)
        self.version = object()

    def tell(self, event: Event) -> None:
        """Tells each in turn, in this thread; never call it under a lock."""
        from dataclasses import fields

        facts = [getattr(event, each.name) for each in fields(event) if each.name != "call"]
        for taker in self.takers_of(type(event)):
            taker(event.call, *facts)

    def takers_of(self, kind: type[Event]) -> Iterator[Taker]:
        """Who listens now to events of that kind."""
        for key, listener in list(self.registered.items()):
            if not isinstance(listener, dict):
                yield self._makes_events(kind, key, listener)  # type: ignore[arg-type]  # then it is a Listener
            elif kind in listener:
                yield listener[kind]

    def _makes_events(self, kind: type[Event], key: object, listener: Listener) -> Taker:
        def tell(call: int, *facts: Any) -> None:
            if key not in self.registered:
                return
            try:
                listener(kind(*facts, call=call))
            except Exception as error:
                # Its type only: a message might quote what it was working on.
                _log.error("a listener raised %s and is dropped", type(error).__name__)
                self._drop(key)

        return tell


#: Told of every guarded function.
everywhere = Listeners()
#: To a function to which nobody listened yet; none is ever added.
NOBODY = Listeners()


class Audience:
    """Who is told of a call, by the kind of event: those of its function and those of all. Never call one under a lock.
    """

    __slots__ = ("attempt_ended", "attempt_started", "call_ended", "call_rejected", "first_item", "retry_scheduled",
                 "state_changed", "version", "version_everywhere")

    def __init__(self, listeners: Listeners) -> None:
        from llm_guard.events import facts  # with the first who listens: not everybody has one

        self.version, self.version_everywhere = listeners.version, everywhere.version  # before it looks who listens

        def takers_of(kind: type[Event]) -> tuple[Taker, ...]:
            return *listeners.takers_of(kind), *everywhere.takers_of(kind)

        self.attempt_started = takers_of(facts.AttemptStarted)
        self.first_item = takers_of(facts.FirstItem)
        self.attempt_ended = takers_of(facts.AttemptEnded)
        self.retry_scheduled = takers_of(facts.RetryScheduled)
        self.call_rejected = takers_of(facts.CallRejected)
        self.call_ended = takers_of(facts.CallEnded)
        self.state_changed = takers_of(facts.StateChanged)


def audience_of(listeners: Listeners) -> Audience | None:
    """Who is told of a call that begins now, of a function with these listeners. None: nobody listens."""
    if not listeners.registered and not everywhere.registered:
        return None
    audience = listeners.audience
    if (audience is not None and audience.version is listeners.version
            and audience.version_everywhere is everywhere.version):
        return audience
    audience = listeners.audience = Audience(listeners)
    return audience
