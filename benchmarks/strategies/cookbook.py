"""The OpenAI Cookbook's `api_request_parallel_processor.py`, told the true capacity as its requests a minute.

Own arithmetic after its loop: a bucket that is full at first holds one minute's requests; one request leaves each
millisecond at most, those to be tried again first; for 15 s after the last rate limit error nothing leaves; an item has
5 attempts, without any wait of its own. A 429 is a rate limit error, any other error is not.

Not its: the threads. Its loop has as many requests in flight as the bucket lets out; here there are as many as threads
at the most, which is gentler with the server. Tokens are not counted.
"""

from __future__ import annotations

import heapq
import math
import threading

from llm_guard.clock import current
from llm_guard.outcome import REFUSALS, Kind
from llm_guard.testing.simulation import Call, Client, ServerCall, Setting, Strategy
from llm_guard.testing.virtual_server import ServerRefused
from strategies.tries import Retry, client, kind_of
from strategies.waiting import Condition, time_left

ATTEMPTS = 5
PAUSE_SECONDS = 15.0
LOOP_SECONDS = 0.001


class Loop:
    """When the next request may leave."""

    def __init__(self, requests_per_minute: float) -> None:
        self.available = self._most = requests_per_minute
        self._updated: float | None = None
        self._limited_at = -math.inf
        self._free_at = -math.inf

    def wait(self, now: float) -> float:
        """Seconds until it is worth asking again; 0: the request leaves now, and is counted."""
        if self._updated is not None:
            self.available = min(self._most, self.available + (now - self._updated) * self._most / 60)
        self._updated = now
        free_at = max(self._free_at, self._limited_at + PAUSE_SECONDS)
        if now < free_at:
            return free_at - now
        if self.available < 1:
            return max(LOOP_SECONDS, (1 - self.available) * 60 / self._most)
        self.available -= 1
        self._free_at = now + LOOP_SECONDS
        return 0.0

    def rate_limit_error(self, now: float) -> None:
        """A 429 came."""
        self._limited_at = now


class Queue:
    """The threads that wait for the loop: those that try again first, then first come, first served."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._lock = threading.Lock()
        self._waiting: list[tuple[bool, int, Condition]] = []
        self._came = 0

    def leave(self, again: bool) -> None:
        """Blocks until the loop lets this request leave. `again`: it has left before."""
        with self._lock:
            self._came += 1
            me = (not again, self._came, Condition(self._lock))
            heapq.heappush(self._waiting, me)
            try:
                while (pause := self._pause(me)) != 0:
                    me[2].wait(pause)
            finally:
                self._waiting.remove(me)
                heapq.heapify(self._waiting)
                if self._waiting:
                    self._waiting[0][2].notify()

    def _pause(self, me: tuple[bool, int, Condition]) -> float | None:
        """Only the first asks the loop; the others sleep until they are first (None)."""
        return self.loop.wait(current().now()) if self._waiting[0] is me else None


def five_attempts(attempt: Call) -> Call:
    """Back into the loop's queue, whatever the error, until 5 are used up."""
    def call(item: object) -> str:
        for _ in range(ATTEMPTS - 1):
            try:
                return attempt(item)
            except Exception as error:
                if kind_of(error) is None or time_left() <= 0:
                    raise
        return attempt(item)

    return call


def strategy(retry: Retry = five_attempts) -> Strategy:
    """The loop with that way to try again."""
    @Strategy
    def made(setting: Setting) -> Client:
        queue = Queue(Loop(60 * setting.capacity))

        def tried(call: ServerCall) -> Call:
            def of_item(item: object) -> str:
                again = False

                def attempt(item: object) -> str:
                    nonlocal again
                    queue.leave(again)
                    again = True
                    try:
                        return call(item, timeout=setting.timeout)
                    except ServerRefused as error:
                        if error.kind in REFUSALS - {Kind.LOADING}:
                            queue.loop.rate_limit_error(current().now())
                        raise

                return retry(attempt)(item)

            return of_item

        return client(setting, tried, lambda attempt: attempt)

    return made
