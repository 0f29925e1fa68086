"""The observer of a mapping that tells its progress, by the clock, on a thread of its own."""

from __future__ import annotations

import logging
from _thread import allocate_lock, get_ident
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from llm_guard import call, clock, events
from llm_guard.events import AttemptEnded, AttemptStarted, Event
from llm_guard.mapping.progress import Progress
from llm_guard.mapping.progress_counts import Counts
from llm_guard.mapping.progress_standing import standing, with_state
from llm_guard.mapping.result import Result
from llm_guard.mapping.seams import Why
from llm_guard.outcome import Kind
from llm_guard.runtime import switch
from llm_guard.runtime.guarded import Guarded
from llm_guard.runtime.policy import Policy

_log = logging.getLogger("llm_guard")


class Output(Protocol):
    """Where progress is shown, each `every` seconds; all in one thread."""

    every: float

    def show(self, progress: Progress) -> None:
        """How far it is. The last is `over`, and comes once."""

    def close(self) -> None:
        """Nothing more is shown. Comes also where `show` raised."""


class Watch:
    """See `llm_guard.mapping.seams.Observer`. It knows nothing of the mapping, which may be dropped.

    Attempts are those of guarded functions called by the mapped one, or it itself, and not of what these call in turn.
    They are known by the worker's thread in which they are told. With every event of theirs comes the sight of their
    guards, so that a lambda around a guarded function has a state too.
    """

    def __init__(self, function: Callable[..., Any], output: Output, total: int | None = None) -> None:
        self._function = function
        self._output = output
        self._lock = allocate_lock()
        self._counts = Counts(clock.current().now(), total=total)
        self._guards: dict[int, Policy] = {}
        self._looked_at: Iterable[object] = ()
        self._items: dict[int, Kind | None] = {}  # by thread: how its item's last attempt ended; None: it had none
        self._stop = clock.current().waiter()
        self._stopped = clock.current().waiter()
        self._teller: int | None = None  # the thread that tells
        self._started = False
        self._unlisten: Callable[[], None] = lambda: None

    def total(self, items: int | None) -> None:
        with self._lock:
            if items is not None:
                self._counts.total = items
        if not self._started:
            self._started = True
            self._unlisten = self._listen()
            clock.current().spawn(self._tell, "llm_guard progress")

    def began(self, index: int) -> None:
        thread = get_ident()
        with self._lock:
            self._counts.took()
            self._items[thread] = None

    def ended(self, result: Result[Any, Any], recorded: bool) -> None:
        error = None if result.error is None else type(result.error).__name__
        if recorded:
            with self._lock:
                self._counts.recalled(error)
            return
        thread = get_ident()
        with self._lock:
            kind = self._items.pop(thread, None)
            if kind is None and result.attempts:
                self._counts.unguarded(error is None, result.seconds)
            self._counts.ended(_reason(error, kind))

    def yielded(self) -> None:
        pass

    def closed(self, why: Why) -> None:
        self._stop.set()
        if why != "dropped" and self._started and get_ident() != self._teller:
            self._stopped.wait()

    def _heard(self, event: Event) -> None:
        thread = get_ident()
        if thread not in self._items:
            return
        tally = call.in_progress()
        if tally is None:
            return
        if tally.guards:
            self._look_at(tally.guards)
        if tally.owner is not None:  # it is called by a guarded function that this mapping calls
            return
        if isinstance(event, AttemptStarted):
            with self._lock:
                self._items[thread] = Kind.IGNORED  # until it ends
                self._counts.attempt_started(event.attempt)
        elif isinstance(event, AttemptEnded):
            with self._lock:
                self._items[thread] = event.kind
                self._counts.attempt_ended(event.kind, event.seconds)

    def _look_at(self, policies: Iterable[object]) -> None:
        if policies is not self._looked_at:
            self._looked_at = policies
            for policy in with_state(policies):
                self._guards.setdefault(id(policy), policy)

    def _listen(self) -> Callable[[], None]:
        """Returns what ends it."""
        function = self._function
        if isinstance(function, Guarded):
            self._counts.guarded = not switch.is_off
            self._look_at(function.guards)
            if self._guards:
                return function.on_event(self._heard)
        return events.everywhere.add(self._heard)

    def _tell(self) -> None:
        """The loop of the thread that tells."""
        self._teller = get_ident()
        try:
            self._show_until_the_end()
        except Exception as error:
            # Its type only: a message might quote what it was working on.
            _log.error("what shows the progress raised %s and is dropped", type(error).__name__)
        finally:
            self._unlisten()
            try:
                self._output.close()
            except Exception as error:
                _log.error("what shows the progress raised %s at its end", type(error).__name__)
            finally:
                self._stopped.set()

    def _show_until_the_end(self) -> None:
        while not self._stop.wait(self._output.every):
            self._output.show(self._now())
        self._output.show(self._now(over=True))

    def _now(self, *, over: bool = False) -> Progress:
        time = clock.current()
        found = standing(list(self._guards.values()))
        with self._lock:
            return self._counts.at(time.now(), time.wall(), found, over=over)


def _reason(error: str | None, kind: Kind | None) -> str | None:
    """Why an item failed, whose last attempt ended as `kind`."""
    if error is None or kind in (None, Kind.SUCCESS, Kind.IGNORED):
        return error
    return f"{kind.value}: {error}"
