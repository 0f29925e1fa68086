"""What may stand beside a mapping: one who records its results, one who watches it. Both are None by default."""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeVar

from llm_guard.mapping.result import Result

T = TypeVar("T")
R = TypeVar("R")

#: How a mapping ended: its input was exhausted and all results taken; `stop()`; `close()` or the end of a `with` block;
#: an error was raised; Ctrl-C; the iterator was dropped.
Why = Literal["done", "stopped", "closed", "error", "interrupted", "dropped"]


class Then(Protocol):
    """To be called once, from any thread, at any time until `close` returns; it never blocks and never raises."""

    def __call__(self, error: BaseException | None = None, /) -> None:
        """None: the result is safe, and is given to the consumer now. Else: it could not be recorded, is never given to
        the consumer, and the mapping ends with `error`."""


class Recorder(Protocol[T, R]):
    """Keeps results, and gives back those that it has."""

    def recall(self, index: int, item: T) -> Result[T, R] | None:
        """The recorded result of the item at `index` of the input, counted from 0: yielded at its place without a call.
        None: it is to be called.

        Asked once for each item, in order, in the consumer's thread. What it raises ends the mapping at that place, as
        an error of the input does: after the results of what lay before.
        """

    def record(self, result: Result[T, R], then: Then) -> None:
        """Records `result`, and has `then` called when it is safe. On a worker's thread, after the call's end.

        It may block: so what is not yet recorded is bounded. What it raises is the same as `then(error)`. Failures come
        too, where `result.error` is an `Exception`; what was given up before its end (`Cancelled` by the mapping), an
        interrupt or an exit does not come.
        """

    def input_ended(self, total: int) -> None:
        """The input is exhausted: it had `total` items. In the consumer's thread, once at most."""

    def close(self, why: Why) -> None:
        """No further result comes: writes what is there and calls each `then` that is left. Once; not after `drop`.

        What it raises is raised by the mapping, where that was about to end well.
        """

    def drop(self) -> None:
        """The iterator was dropped without an end. Called by a finaliser, so it takes no lock and does not wait. The
        calls that are in flight then may still come to `record`."""


class Observer(Protocol):
    """Is told how far a mapping is. No method may raise or block: the first and the last two are called in the
    consumer's thread, the others by workers, many at once."""

    def total(self, items: int | None) -> None:
        """How many items there are: None where the input does not tell (`len`); again when its end is reached."""

    def began(self, index: int) -> None:
        """The call of an item begins."""

    def ended(self, result: Result[Any, Any], recorded: bool) -> None:
        """It ended, if it was not given up; or, `recorded`, its result was there from an earlier run: then it never
        began, and this comes in the consumer's thread. It is not yet yielded, nor recorded anew."""

    def yielded(self) -> None:
        """A result was given to the consumer (or, being an error, raised)."""

    def closed(self, why: Why) -> None:
        """The end, once; "dropped" comes from a finaliser, which takes no lock."""
