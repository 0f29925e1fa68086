"""The clock of the machine, on raw locks."""

from __future__ import annotations

import random
import threading
import time
from _thread import allocate_lock
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from llm_guard.fork import renew_after_fork

_LONGEST = threading.TIMEOUT_MAX
_LONGEST_SLEEP = 1e8  # three years: systems refuse what they cannot add to the time of day


class SystemWaiter:
    """A parking spot on one raw lock: taken when made, released by `set`."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is None:
            return self._lock.acquire()
        if timeout <= 0:
            return self._lock.acquire(False)
        return self._lock.acquire(True, min(timeout, _LONGEST))

    def set(self) -> None:
        try:
            self._lock.release()
        except RecursionError:
            raise
        except RuntimeError:  # it was set before
            pass


class SystemClock:
    """Real time, real waiting, real chance."""

    def __init__(self) -> None:
        self.random = random.Random()
        self.now: Callable[[], float] = time.monotonic
        self.wall: Callable[[], float] = time.time
        renew_after_fork(self)

    def after_fork(self) -> None:
        self.random.seed()  # else all children of a server would come back after a refusal at the same instants

    def sleep(self, seconds: float) -> None:
        time.sleep(min(max(0.0, seconds), _LONGEST_SLEEP))

    def waiter(self) -> SystemWaiter:
        return SystemWaiter()

    def spawn(self, function: Callable[[], object], name: str) -> None:
        threading.Thread(target=function, name=name, daemon=True).start()

    def adopt(self) -> AbstractContextManager[object]:
        return nullcontext()
