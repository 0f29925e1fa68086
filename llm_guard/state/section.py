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

from llm_guard import clock


class InTheMidst(Exception):
    """This very thread is inside already."""


class Section(_thread.RLock):  # type: ignore[misc]  # final for the type checker only
    """A reentrant lock to hold briefly: `with section.checked():`, or bare, to look only.

    `later` is for what cannot be done in the midst; whoever was inside calls `catch_up` when it is out again. What a
    change returns, where that is not None, is for `follow_up`: to be called by one who has nothing in hand.
    """

    def __init__(self) -> None:
        self.later: deque[Callable[[], Callable[[], object] | None]] = deque()
        self.afterwards: deque[Callable[[], object]] = deque()
        self._parked: dict[clock.Waiter, None] = {}  # of those who wait outside

    #: Whether this very thread is inside, as Condition asks it.
    is_mine: Callable[[], bool] = _thread.RLock._is_owned  # type: ignore[attr-defined]

    def checked(self) -> Self:
        """Itself; raises `InTheMidst` where this thread is inside already."""
        if self.is_mine():
            raise InTheMidst
        return self

    def catch_up(self) -> None:
        """Does what was left for later, once this thread is out. What comes while it does stays for the next, and so
        does what its stack has no room for."""
        if self.later and not self.is_mine():
            with self:
                for _ in range(len(self.later)):
                    try:
                        follow = self.later[0]()
                    except RecursionError:
                        return
                    except Exception:
                        self.later.popleft()  # it would raise for ever
                        raise
                    self.later.popleft()
                    if follow is not None:
                        self.afterwards.append(follow)

    def follow_up(self) -> None:
        """Calls, outside, what is left to be done after changes."""
        while self.afterwards and not self.is_mine():
            try:
                follow = self.afterwards.popleft()
            except IndexError:  # another thread was quicker
                return
            follow()

    def put_off(self, change: Callable[[], Callable[[], object] | None]) -> None:
        """Leaves `change` for whoever comes next; one who is parked is woken to do it.

        It takes no lock, for finalisers call it, in any thread and in the midst of anything: each step is a single
        operation of a deque or a dict. None is missed: who parks is listed first and looks for changes then, and who
        goes on is off the list before it looks.
        """
        self.later.append(change)
        self.tell_parked()

    def tell_parked(self) -> None:
        """Wakes one who is parked, to do what was left for later."""
        try:
            waiter, _ = self._parked.popitem()
        except KeyError:
            return
        waiter.set()

    def park(self, waiter: clock.Waiter, timeout: float | None) -> None:
        """Waits outside until `waiter` is set or `timeout` seconds have passed, or until something was put off."""
        self._parked[waiter] = None
        try:
            self.catch_up()
            waiter.wait(timeout)
        finally:
            self.forget(waiter)
        self.catch_up()

    def forget(self, waiter: clock.Waiter | None) -> None:
        """Its thread no longer waits. For who was interrupted; again: no effect."""
        self._parked.pop(waiter, None)  # type: ignore[arg-type]  # None is not among them
