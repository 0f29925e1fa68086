"""What a request over httpx raises when its call is over: errors of either library, and of this package.

As every error of httpx they know their request; a pickled one does not, for it would hold a prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from llm_guard.errors import CallTimeout, Cancelled, rebuild
from llm_guard.llm.exchange import Errors


@cache
def errors_of(library: str) -> Errors:
    """Those for `httpx` or `httpx2`."""
    found = import_module(library)

    class RequestTimeout(_Pickled, CallTimeout, found.TimeoutException):  # type: ignore[name-defined, misc]
        """The deadline of the call that made the request has come; `seconds` after the request began."""

        source = library, "timeout"

    class RequestCancelled(_Pickled, Cancelled, found.NetworkError):  # type: ignore[name-defined, misc]
        """The call that made the request was given up."""

        source = library, "cancelled"

    return Errors(RequestTimeout, RequestCancelled)


class _Pickled:
    """Pickles by the name of the library: the classes are made when they are first needed."""

    source: tuple[str, str]
    args: tuple[Any, ...]
    _request: Any = None

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        state = {name: value for name, value in vars(self).items() if name != "_request"}
        return _again, (*self.source, self.args, state)


def _again(library: str, which: str, args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    return rebuild(getattr(errors_of(library), which), args, state)
