"""A fixed rate limit that is told what the server bears: pyrate-limiter at 0.9 of the true capacity.

pyrate-limiter's: the bucket (a sliding log of one second, its default algorithm), the wait that it computes, and the
50 ms that its `Limiter` adds to it. Not its: the clock it reads, the sleep, the order of those who wait, and its leaker
thread, whose work is done here before each call. The rate is a whole number of calls in about a second, as in its
documentation.
"""

from __future__ import annotations

from pyrate_limiter import AbstractClock, InMemoryBucket, Limiter, Rate, RateItem, SingleBucketFactory

from llm_guard.clock import current
from llm_guard.testing.simulation import Call, Client, ServerCall, Setting, Strategy
from strategies.tries import Retry, client
from strategies.waiting import Turnstile, sleep

SHARE = 0.9
#: Threads that ask at a time: as many as a batch has. The fewer, the less the 50 ms that each adds overlap.
CONTENDERS = 64


class Milliseconds(AbstractClock):
    """pyrate-limiter's clock: whole milliseconds of the clock in force."""

    def now(self) -> int:
        return int(current().now() * 1000)


class Bucket(InMemoryBucket):
    """pyrate-limiter's bucket, on that clock."""

    _clock = Milliseconds()


def rate_of(calls_a_second: float) -> Rate:
    """As many whole calls as fit a second, at least one, in the milliseconds that these take."""
    calls = max(1, int(calls_a_second))
    return Rate(calls, max(1, round(1000 * calls / calls_a_second)))


class FixedRate:
    """Blocks until pyrate-limiter lets the caller through."""

    def __init__(self, calls_a_second: float) -> None:
        self._bucket = Bucket([rate_of(calls_a_second)])
        self._factory = SingleBucketFactory(self._bucket, schedule_leak=False)
        self._added = Limiter(self._factory).buffer_ms
        self._turnstile = Turnstile(places=CONTENDERS)

    def acquire(self) -> None:
        """Waits its turn."""
        with self._turnstile:
            while (pause := self._ask()) is not None:
                sleep(pause)

    def _ask(self) -> float | None:
        """Takes a place (None), or the seconds until it is worth asking again."""
        item = self._factory.wrap_item("call")
        assert isinstance(item, RateItem)
        self._bucket.leak(item.timestamp)
        if self._bucket.put(item):
            return None
        waiting = self._bucket.waiting(item)
        assert isinstance(waiting, int)
        return (waiting + self._added) / 1000


def strategy(retry: Retry) -> Strategy:
    """The fixed limit with that way to try again; each attempt takes its place."""
    @Strategy
    def made(setting: Setting) -> Client:
        rate = FixedRate(SHARE * setting.capacity)

        def attempt(call: ServerCall) -> Call:
            def once(item: object) -> str:
                rate.acquire()
                return call(item, timeout=setting.timeout)

            return once

        return client(setting, attempt, retry)

    return made
