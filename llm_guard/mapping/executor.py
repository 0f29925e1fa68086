"""`BlockingExecutor`: a `ThreadPoolExecutor` whose `submit` blocks while it is full."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from llm_guard import checks
from llm_guard.state.limiter import Limiter

P = ParamSpec("P")
R = TypeVar("R")


class BlockingExecutor(ThreadPoolExecutor):
    """Holds at most `max_workers` running calls and `buffer` waiting ones; `submit` waits for room, first come, first
    served. In all else it is its base class; a `submit` that still waits at `shutdown` is refused like one that comes
    after it.

    A call, or a future's callback, that submits to its own executor and waits for room there waits for itself: give
    such calls another one.
    """

    def __init__(self, max_workers: int | None = None, buffer: int = 0, thread_name_prefix: str = "",
                 initializer: Callable[..., object] | None = None, initargs: tuple[Any, ...] = ()) -> None:
        checks.whole("buffer", buffer, least=0)
        super().__init__(max_workers, thread_name_prefix, initializer, initargs)
        self._places = Limiter(self._max_workers + buffer)

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Schedules `fn(*args, **kwargs)`, when there is room for it."""
        places = self._places
        places.acquire()
        try:
            future = super().submit(fn, *args, **kwargs)
        except BaseException:
            places.release()
            raise
        # A future that is kept must not keep the executor: its threads end when it is dropped.
        future.add_done_callback(lambda _: places.release())
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As of the base class."""
        super().shutdown(wait=False, cancel_futures=cancel_futures)
        self._places.limit = sys.maxsize  # who waits for room learns now that there will be none
        if wait:
            super().shutdown()
