"""A stream as server-sent events, in the words of the WHATWG's standard."""

from __future__ import annotations

import contextvars
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, Self

from llm_guard.errors import GuardError
from llm_guard.runtime.attempt import close_quietly
from llm_guard.web.problem import Problem, problem_of
from llm_guard.web.settings import Settings

#: Nothing on the way may keep events back, or keep them at all.
HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

_END = b"event: end\ndata: end\n\n"
_ENDED = object()
_log = logging.getLogger("llm_guard")


def event(data: str, name: str | None = None) -> bytes:
    """One event. Line ends within `data` make further rows of it, as the standard has them."""
    rows = [] if name is None else [f"event: {name}"]
    rows += [f"data: {row}" for row in data.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    return ("\n".join(rows) + "\n\n").encode()


def encoded(item: Any) -> str:
    """A str as it is, anything else as JSON."""
    return item if isinstance(item, str) else json.dumps(item)


class Events:
    """The events of a stream's items, for a server to iterate over; closing it closes the stream.

    The first item is asked for at once: what it raises is raised here, before a byte went out. An error after that ends
    the events with one of the name "error", whose data are problem details; after the last item comes one of the name
    "end", for a browser would connect again to what merely stops. All items are asked for in one copy of the context
    in which this was made, as the view was called in. `encode` makes a str of an item, the data of its event, or bytes:
    the rows themselves, as `event` makes them.
    """

    def __init__(self, stream: Iterable[Any], settings: Settings,
                 encode: Callable[[Any], str | bytes] = encoded) -> None:
        self._stream = stream
        self._settings = settings
        self._encode = encode
        self._items: Iterator[Any] = iter(stream)
        self._context = contextvars.copy_context()
        self._closed = False
        try:
            self._first: bytes | None = self._context.run(self._row)
        except BaseException:
            close_quietly(self)
            raise

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        first, self._first = self._first, None
        if first is not None:
            return first
        if self._closed:
            raise StopIteration
        try:
            return self._context.run(self._row)
        except Exception as error:
            if not isinstance(error, GuardError):  # those are told in the guards' own lines
                _log.warning("a stream that was being sent ended with %s", type(error).__name__)
            close_quietly(self)
            return self._of_error(error)

    def close(self) -> None:
        """Closes the stream, with all that it holds. Again: no effect."""
        if self._closed:
            return
        self._closed = True
        with ExitStack() as closing:
            for each in (self._stream, self._items):
                close = getattr(each, "close", None)
                if callable(close):
                    closing.callback(self._context.run, close)

    def _row(self) -> bytes:
        item = next(self._items, _ENDED)
        if item is _ENDED:
            self._closed = True
            return _END
        data = self._encode(item)
        return data if isinstance(data, bytes) else event(data)

    def _of_error(self, error: Exception) -> bytes:
        problem = problem_of(error, self._settings) or Problem(500, "failed", "The answer could not be completed.")
        return event(json.dumps(problem.members()), "error")
