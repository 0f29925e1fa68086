"""Where the items of a stream are made: in the thread of the consumer, as those of any generator, or elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from llm_guard import call
from llm_guard.call import Call
from llm_guard.outcome import Outcome
from llm_guard.runtime.attempt import close_quietly
from llm_guard.runtime.items import Items
from llm_guard.state.gate import Ending
from llm_guard.state.stream_time import UNLIMITED, Limit, StreamTime


class Late(Exception):
    """The limit was reached; what was asked runs on by itself."""


class OtherProcess(RuntimeError):
    """The thread that makes the items is in another process."""


class Attempt(Protocol):
    """The attempt that a stream carries on, to be told of its end, once."""

    def read(self, error: BaseException) -> Outcome:
        """The outcome of a stream that raised."""

    def read_end(self, returned: object, heard: object) -> Outcome:
        """That of one that came to its end: `returned` by a generator function, `heard` by a connection."""

    def ending(self, outcome: Outcome, error: BaseException | None, time: StreamTime) -> Ending:
        """The end in the words of the gates. Takes no lock."""

    def end(self, ending: Ending) -> None:
        """Gives all back that is held for it."""

    def end_later(self, ending: Ending) -> None:
        """`end`, for a finaliser: takes no lock."""


class Source(Protocol):
    """What makes the items, asked for one thing at a time."""

    def ask(self, step: Callable[[], Any], limit: Limit) -> Any:
        """What `step()` gives there, or raises what it raises; `Late` where the limit is reached first. Then, and after
        any other error, nothing more is asked."""

    def quit(self, attempt: Attempt, ending: Ending) -> None:
        """Closes the items and ends `attempt`; what another thread has to do for it is not waited for."""

    def drop(self, attempt: Attempt, ending: Ending) -> None:
        """`quit`, for a finaliser: takes no lock."""

    def over(self) -> None:
        """The attempt has ended. Again: no effect."""


class InThisThread:
    """The items are made in the thread that asks for them; nothing bounds the time for it."""

    __slots__ = ("_call", "_items")

    def __init__(self, items: Items, mine: Call) -> None:
        self._items = items
        self._call = mine

    def ask(self, step: Callable[[], Any], limit: Limit) -> Any:
        token = call.begin(self._call)
        try:
            return step()
        finally:
            call.end(token)

    def quit(self, attempt: Attempt, ending: Ending) -> None:
        try:
            self.ask(lambda: close_quietly(self._items), UNLIMITED)
        finally:
            attempt.end(ending)
            self.over()

    def drop(self, attempt: Attempt, ending: Ending) -> None:
        try:
            self.ask(self._items.release, UNLIMITED)
        finally:
            attempt.end_later(ending)
            self._call.active = False

    def over(self) -> None:
        self._items.release()
        self._call.active = False
