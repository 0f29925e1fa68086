"""`@stream`: says of a function that the iterator which it returns is its answer, item by item."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar, overload

from llm_guard.errors import ConfigError
from llm_guard.runtime.guarded import Guarded, check_function
from llm_guard.runtime.stack import Stack
from llm_guard.runtime.streams import Stream

P = ParamSpec("P")
T = TypeVar("T")


@overload
def stream(function: Callable[P, Iterable[T]], /) -> Guarded[P, Stream[T]]: ...


@overload
def stream() -> Callable[[Callable[P, Iterable[T]]], Guarded[P, Stream[T]]]: ...


def stream(function: Any = None, /) -> Any:
    """Marks a function that returns an iterator, such as `client.chat.completions.create` with `stream=True`, as one
    that streams: the guards above it hold their permits until the iterator is exhausted, closed or dropped.

    It stands right on the function, beneath all policies. A generator function needs no mark. A function without it
    has answered when it returns, whatever it returns: files and cursors are left alone.
    """
    if function is None:
        return stream
    if isinstance(function, Guarded):
        if function.streams:
            return function
        raise ConfigError("function", function, "a function without policies yet: put @stream beneath them, right on "
                                                "the function")
    check_function(function)
    return Guarded(function, Stack(()), streams=True)
