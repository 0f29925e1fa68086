"""A request as a call in progress: it hands its deadline down to all that is guarded beneath, to its very last byte."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, Self, TypeVar

from llm_guard import call, checks, clock
from llm_guard.call import Call
from llm_guard.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")

#: Where a view, or what decorates one, has the seconds that its requests have.
_MARK = "llm_guard_request_deadline"


class RequestCall(Call):
    """A request that has `seconds` from now on. It holds nothing."""

    __slots__ = ("began",)

    def __init__(self, seconds: float) -> None:
        self.began = clock.current().now()
        super().__init__(self.began + seconds)

    def give(self, seconds: float | None) -> None:
        """Has it end so many seconds after its beginning; None: leaves it."""
        if seconds is not None:
            self.deadline = self.began + seconds

    def run(self, function: Callable[[], R]) -> R:
        """`function()`, while this is the innermost call."""
        token = call.begin(self)
        try:
            return function()
        finally:
            call.end(token)


class Body:
    """What a WSGI server iterates over, and closes at the end, or when the client is gone."""

    def __init__(self, body: Any, carried: RequestCall) -> None:
        self._body = body
        self._items = iter(body)
        self._carried = carried

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return self._carried.run(lambda: next(self._items))

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                self._carried.run(close)
        finally:
            self._carried.active = False


def request_deadline(seconds: float) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Gives the requests of a view so many seconds from their beginning, more or less than the app's `DEADLINE`.

    It goes on a view, anywhere among its decorators, on a method of a class of views, or on a function that a view
    calls. Where no request is in progress it bounds the call.
    """
    if callable(seconds):
        raise ConfigError("seconds", seconds, "a number of seconds: write @request_deadline(60), with the bound")
    checks.number("seconds", seconds, above=0, unit="seconds")

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        checks.function("function", function)

        @wraps(function)
        def view(*args: P.args, **kwargs: P.kwargs) -> R:
            above = call.in_progress()
            if isinstance(above, RequestCall) and above.active:
                above.give(seconds)
                return function(*args, **kwargs)
            return _bounded(above, seconds, lambda: function(*args, **kwargs))

        setattr(view, _MARK, seconds)
        return view

    return decorate


def _bounded(above: Call | None, seconds: float, function: Callable[[], R]) -> R:
    """Below a call it can only take time away."""
    deadline = clock.current().now() + seconds
    if above is None:
        mine = Call(deadline)
    else:
        mine = Call(min(deadline, above.deadline), above.cut_off, above.held if above.active else (),
                    above.owner)
    token = call.begin(mine)
    try:
        return function()
    finally:
        mine.active = False
        call.end(token)


def deadline_of(view: object, method: str | None) -> float | None:
    """The seconds that `request_deadline` gave a view, or the method of its class that answers; None: it gave none."""
    of_class = getattr(view, "view_class", None)
    name = (method or "").lower()
    for each in (getattr(of_class, name, None), getattr(of_class, "get", None) if name == "head" else None, view):
        seconds: float | None = getattr(each, _MARK, None)
        if seconds is not None:
            return seconds
    return None
