"""A list that keeps nothing alive.

An object in it costs its weak reference and a place in a list, half of what it costs in a `WeakSet`.
"""

from __future__ import annotations

import weakref
from _thread import allocate_lock
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

#: Dead references are swept out when the list has grown to twice those that live, and to this at least.
SWEEP = 64


class WeakList(Generic[T]):
    """Objects in the order in which they were appended; one that is dropped is gone. Thread-safe, and nobody waits: a
    finaliser may append while this very thread is in here."""

    __slots__ = ("__weakref__", "_references", "_sweep_at", "_sweeping")

    def __init__(self) -> None:
        self._references: list[weakref.ref[T]] = []
        self._sweep_at = SWEEP
        self.after_fork()

    def after_fork(self) -> None:
        """For the child: another thread may have been sweeping."""
        self._sweeping = allocate_lock()

    def append(self, item: T) -> None:
        """Adds `item`, which must not be in it."""
        self._references.append(weakref.ref(item))
        if len(self._references) >= self._sweep_at:
            self._sweep()

    def __iter__(self) -> Iterator[T]:
        """Over those that live. What is appended meanwhile is not among them."""
        for reference in self._references[:]:
            item = reference()
            if item is not None:
                yield item

    def _sweep(self) -> None:
        if not self._sweeping.acquire(False):
            return  # somebody does it just now
        try:
            count = len(self._references)  # what comes meanwhile stands behind these
            alive = [reference for reference in self._references[:count] if reference() is not None]
            self._references[:count] = alive
            self._sweep_at = max(SWEEP, 2 * len(alive))
        finally:
            self._sweeping.release()
