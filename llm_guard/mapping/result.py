"""What became of one item."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Result(Generic[T, R]):
    """One item and its end: `value`, or `error` where that is not None.

    `index` counts from 0 in the order of the input. `attempts` is how many attempts guarded functions made for it (1
    where none was guarded, 0 where it was turned away before the first), `seconds` how long it took from its start on a
    worker, waits included. `repr` shows neither the input nor the value nor the error.
    """

    index: int
    input: T = field(repr=False)
    value: R | None = field(repr=False)
    error: BaseException | None = field(repr=False)
    attempts: int
    seconds: float
