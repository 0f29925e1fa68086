"""From how a function ended to an outcome.

The user's `classify`, where given, is asked first; then what knows the shapes of HTTP clients and LLM APIs; then the
rules of this page. An exception that nobody knows is a failure, unless it shows a bug of the caller's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from llm_guard.errors import Cancelled, GuardError
from llm_guard.outcome import FAILURE, IGNORED, SUCCESS, TIMEOUT, Kind, Outcome

#: Reads an exception or a returned value; None where it has no opinion.
Classify = Callable[[object], Outcome | Kind | None]

#: What shows a bug of the caller's.
BUGS = (TypeError, NameError, AttributeError, AssertionError, NotImplementedError, ImportError, RecursionError)
# What an LLM call most often returns: known at a glance to be no response object.
PLAIN = frozenset({str, bytes, dict, list, tuple, int, float, bool, type(None)})

# Parsed JSON, in which alone of these an answer's tokens can stand.
_PARSED = frozenset({dict, list})
# Of whose tokens nothing can be known.
COUNTED_PLAIN = PLAIN - _PARSED

# Of an outcome, what is counted with.
_NUMBERS = tuple([name for name in Outcome._fields if name not in ("kind", "answered")])
_MAY_BE_ENDLESS = ("hint", "reset", "reset_tokens")  # seconds
_MOST = 1e15  # beyond that a float counts no single ones


class Tokens(Protocol):
    """What an answer says that it took in tokens."""

    @property
    def output(self) -> int | None: ...

    @property
    def total(self) -> int | None: ...


Readers = tuple[Callable[[object], Outcome | None], Callable[[object], Tokens | None]]

_load: Callable[[], Readers] | None = None


def know_shapes(load: Callable[[], Readers]) -> None:
    """Installs what knows the shapes of responses and errors, and of the tokens in an answer: `load` imports it. It
    stands on a higher floor and is handed down here."""
    global _load
    _load = load


def bring_in() -> None:
    """Imports that, if it is not there: with the first stack, so that no end of a call waits for it, or fails by it."""
    global _load, _shapes, _tokens
    if (load := _load) is not None:
        _shapes, _tokens = load()
        _load = None


def _first_shapes(end: object) -> Outcome | None:
    bring_in()
    return None if _shapes is _first_shapes else _shapes(end)


def _first_tokens(end: object) -> Tokens | None:
    bring_in()
    return None if _tokens is _first_tokens else _tokens(end)


_shapes: Callable[[object], Outcome | None] = _first_shapes
_tokens: Callable[[object], Tokens | None] = _first_tokens


def of_value(value: object, classify: Classify | None, heard: object = None, *, count: bool = False) -> Outcome:
    """The outcome of a call that returned `value`.

    `heard` is the last response that a connection received in it: where the value itself says nothing of the server,
    what that response says of the account's limits counts. `count`: the tokens of an answer are of interest.
    """
    outcome = _of_value(value, classify, heard)
    if not count or outcome.kind is not Kind.SUCCESS or outcome.output_tokens is not None:
        return outcome
    tokens = _tokens(value) if type(value) not in PLAIN or type(value) in _PARSED else None
    if tokens is None and heard is not None:
        tokens = _tokens(heard)
    if tokens is None or (tokens.output is None and tokens.total is None):
        return outcome
    return outcome._replace(output_tokens=tokens.output, total_tokens=tokens.total)


def _of_value(value: object, classify: Classify | None, heard: object) -> Outcome:
    if classify is not None and (verdict := _asked(classify, value)) is not None:
        return verdict
    verdict = None if type(value) in PLAIN else _shapes(value)
    if verdict is None and heard is not None:
        verdict = _shapes(heard)
        return verdict if verdict is not None and verdict.kind is Kind.SUCCESS else SUCCESS
    return verdict or SUCCESS


def of_error(error: BaseException, classify: Classify | None) -> Outcome:
    """The outcome of a call that raised `error`."""
    if not isinstance(error, Exception):  # an interrupt or an exit is the caller's own
        return IGNORED
    if classify is not None and (verdict := _asked(classify, error)) is not None:
        return verdict
    if isinstance(error, Cancelled):
        return IGNORED  # whatever else it is: an error of an HTTP library too, where a connection was cut
    if isinstance(error, GuardError):
        # Of a guarded function below: running out of time is a fact, a refusal there no verdict on the server here.
        return TIMEOUT if isinstance(error, TimeoutError) else _shapes(error) or IGNORED
    verdict = _shapes(error)
    if verdict is not None:
        return verdict
    if isinstance(error, BUGS):
        return IGNORED
    return TIMEOUT if isinstance(error, TimeoutError) else FAILURE


def _asked(classify: Classify, end: object) -> Outcome | None:
    verdict = classify(end)
    if isinstance(verdict, Kind):
        return Outcome(verdict)
    if isinstance(verdict, Outcome):
        _check(verdict)
        return verdict
    if verdict is None:
        return None
    raise TypeError(f"classify returned {type(verdict).__name__}: it must be an Outcome, a Kind or None")


def _check(outcome: Outcome) -> None:
    """Refuses what the policies could not count with; always a TypeError, which no policy takes for the server's."""
    if not isinstance(outcome.kind, Kind):
        raise TypeError(f"classify returned an Outcome whose kind is {type(outcome.kind).__name__}: it must be a Kind")
    for name in _NUMBERS:
        number = getattr(outcome, name)
        if number is None or (isinstance(number, int | float) and abs(number) <= _MOST):
            continue
        if not (number == math.inf and name in _MAY_BE_ENDLESS):
            what = "out of range" if isinstance(number, int | float) else f"of type {type(number).__name__}"
            raise TypeError(f"classify returned an Outcome whose {name} is {what}: it must be a number of at most "
                            f"{_MOST:g}, or None")
