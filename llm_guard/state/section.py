"""A critical section that neither a finaliser nor an interrupt can hang.

The collector runs wherever something is allocated, so also in the thread that is inside; a finaliser that then enters
again would wait for itself for ever on a plain lock, and break what is half done on a reentrant one. An interrupt may
come between any two steps of Python code; so entering and leaving are those of the lock, written in C.
"""

from __future__ import annotations

import _thread
from collections import deque
from collections.abc import Callable
from typing import Self


class InTheMidst(Exception):
    """This very thread is inside already."""


class Section(_thread.RLock):  # type: ignore[misc]  # final for the type checker only
    """A reentrant lock to hold briefly: `with section.checked():`, or bare, to look only.

    `later` is for what cannot be done in the midst; whoever was inside calls `catch_up` when it is out again.
    """

    def __init__(self) -> None:
        self.later: deque[Callable[[], None]] = deque()

    def checked(self) -> Self:
        """Itself; raises `InTheMidst` where this thread is inside already."""
        if self._is_owned():  # type: ignore[attr-defined]  # as Condition asks it
            raise InTheMidst
        return self

    def catch_up(self) -> None:
        """Does what was left for later, once this thread is out. What comes while it does stays for the next."""
        if self.later and not self._is_owned():  # type: ignore[attr-defined]  # as Condition asks it
            with self:
                for _ in range(len(self.later)):
                    self.later.popleft()()
