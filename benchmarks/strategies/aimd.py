"""Netflix concurrency-limits' AIMD: one more in flight after a success, a tenth fewer after a drop.

Own arithmetic after the formulas of its `AIMDLimit`: a call that was dropped or took more than 5 s, x0.9, rounded
down; else, where at least half the limit was in use, +1; 20 at first, 200 at most, its defaults. The least is 1 and not
its default of 20, which its documentation calls not desirable for batches. Refusals, broken connections and timeouts
are drops; a 500 is ignored, as by its gRPC client. Threads block at the limit, as with its `BlockingLimiter`.
"""

from __future__ import annotations

from llm_guard.testing.simulation import Client, Setting, Strategy
from strategies.limits import End, Limit, dropped, limited
from strategies.tries import Retry, client


class AIMD(Limit):
    """The limit."""

    def __init__(self, initial: int = 20, least: int = 1, most: int = 200, backoff: float = 0.9,
                 timeout: float = 5.0) -> None:
        self.limit = initial
        self._least, self._most = least, most
        self._backoff = backoff
        self._timeout = timeout

    def allowed(self, now: float) -> int:
        return self.limit

    def ended(self, end: End) -> None:
        drop = dropped(end.error)
        if drop is None:
            return
        if drop or end.took > self._timeout:
            self.limit = int(self.limit * self._backoff)
        elif end.in_flight * 2 >= self.limit:
            self.limit += 1
        self.limit = min(self._most, max(self._least, self.limit))


def strategy(retry: Retry) -> Strategy:
    """The limit with that way to try again."""
    @Strategy
    def made(setting: Setting) -> Client:
        return client(setting, limited(AIMD(), setting.timeout), retry)

    return made
