"""What became of one item."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Result(NamedTuple, Generic[T, R]):
    """One item and its end: `value`, or `error` where that is not None.

    `index` counts from 0 in the order of the input. `attempts` is how many attempts guarded functions made for it (1
    where none was guarded, 0 where it was turned away before the first), `seconds` how long it took from its start on a
    worker, waits included. `repr` shows neither the input nor the value nor the error.
    """

    index: int  # type: ignore[assignment]  # not the method of tuples, which nobody needs here
    input: T
    value: R | None
    error: BaseException | None
    attempts: int
    seconds: float

    def __repr__(self) -> str:
        return f"Result(index={self.index}, attempts={self.attempts}, seconds={self.seconds})"
