"""A critical section that a finaliser cannot hang.

The collector runs wherever something is allocated, so also in the thread that is inside; a finaliser that then enters
again would wait for itself for ever on a plain lock, and break what is half done on a reentrant one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import RLock


class InTheMidst(Exception):
    """This very thread is inside already."""


class Section:
    """A lock to hold briefly, in a `with` block. To enter it again from inside raises `InTheMidst`.

    What is put on `later` is called when the block ends, inside still.
    """

    __slots__ = ("_inside", "_lock", "later")

    def __init__(self) -> None:
        self._lock = RLock()
        self._inside = False
        self.later: deque[Callable[[], None]] = deque()

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._inside:
            self._lock.release()
            raise InTheMidst
        self._inside = True

    def __exit__(self, *exc: object) -> None:
        try:
            while self.later:
                self.later.popleft()()
        finally:
            self._inside = False
            self._lock.release()
