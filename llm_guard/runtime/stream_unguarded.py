"""A stream that nothing guards, but like any other: where guards are off, or passed through, or a fallback's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llm_guard import clock
from llm_guard.call import FOREVER, Call
from llm_guard.outcome import IGNORED, SUCCESS, Outcome
from llm_guard.runtime.attempt import close_quietly
from llm_guard.runtime.items import Items
from llm_guard.runtime.stream_source import Attempt
from llm_guard.runtime.streams import Stream
from llm_guard.state.gate import Ending
from llm_guard.state.stream_time import Bounds, Limit, StreamTime

_UNBOUND = Bounds()
_OVER = Ending(IGNORED, 0.0)


def unguarded(function: Callable[[], Any]) -> Stream[Any]:
    """The items of `function()`, which is called here and now, as far as the first."""
    items = Items(function, lambda value: SUCCESS)
    now = clock.current().now
    time = StreamTime(now(), now(), _UNBOUND, _UNBOUND)
    stream: Stream[Any] = Stream(items, _Plain(items), Call(), _NOBODY, time, now, FOREVER, ())
    stream.begin()
    return stream


class _Plain:
    """Makes the items in the thread that asks, and in the call that this one is in."""

    __slots__ = ("_items",)

    def __init__(self, items: Items) -> None:
        self._items = items

    def ask(self, step: Callable[[], Any], limit: Limit) -> Any:
        return step()

    def quit(self, attempt: Attempt, ending: Ending) -> None:
        close_quietly(self._items)

    def drop(self, attempt: Attempt, ending: Ending) -> None:
        self._items.release()

    def over(self) -> None:
        self._items.release()


class _Nobody:
    """There is nothing to give back."""

    def read(self, error: BaseException) -> Outcome:
        return IGNORED

    def read_end(self, returned: object, heard: object) -> Outcome:
        return SUCCESS

    def ending(self, outcome: Outcome, error: BaseException | None, time: StreamTime) -> Ending:
        return _OVER

    def end(self, ending: Ending) -> None: ...

    def end_later(self, ending: Ending) -> None: ...


_NOBODY = _Nobody()
