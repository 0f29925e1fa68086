"""Envoy's adaptive concurrency: a limit from the latency now over the latency with few in flight.

Own arithmetic after its gradient controller. A minRTT window lets 3 calls in flight until 50 have ended; the percentile
of their latencies is minRTT. From then on, each 0.1 s: gradient g = clamp(1.25 minRTT / sampleRTT, 0.5, 2),
limit = L g + sqrt(L g), 3 to 1000. Each 60 s (plus up to 10%), and when the limit was 3 for 5 updates in a row, there
is a new minRTT window. Percentile 90, 0.1 s, 60 s, 50 and 10% are those of the example in its documentation; the rest
are its defaults.

Each response is a sample, a refusal too; a timeout is none. Two things are not as in Envoy, which answers 503 at the
limit and works by timers: here the threads block at the limit, and what a timer would do is done when the next call
starts or ends.
"""

from __future__ import annotations

import math

from llm_guard.clock import chance
from llm_guard.testing.simulation import Client, Setting, Strategy
from llm_guard.testing.virtual_server import ServerTimeout
from strategies.limits import End, Limit, limited
from strategies.tries import Retry, client

UPDATE_EVERY = 0.1
MEASURE_EVERY = 60.0
JITTER = 0.1
MEASURED_CALLS = 50
PERCENTILE = 0.9
BUFFER = 0.25
LEAST = 3
MOST = 1000
LEAST_IN_A_ROW = 5


class GradientController(Limit):
    """The limit."""

    def __init__(self) -> None:
        self.limit = LEAST
        self.min_rtt = 0.0
        self._limit_before: int | None = LEAST  # while minRTT is measured: the limit to go back to
        self._measured_since = -math.inf
        self._next_update = math.inf
        self._next_measure = math.inf
        self._at_least = 0
        self._samples: list[float] = []

    @property
    def measures(self) -> bool:
        """Whether this is a minRTT window."""
        return self._limit_before is not None

    def allowed(self, now: float) -> int:
        self._tick(now)
        return self.limit

    def ended(self, end: End) -> None:
        now, took = end.at, end.took
        self._tick(now)
        if isinstance(end.error, ServerTimeout) or now - took < self._measured_since:
            return
        self._samples.append(took)
        if self._limit_before is not None and len(self._samples) >= MEASURED_CALLS:
            self.min_rtt = self._percentile()
            before, self._limit_before = self._limit_before, None
            self.limit = before
            self._at_least = 0
            self._next_measure = now + MEASURE_EVERY * (1 + JITTER * chance.random())
            self._next_update = now + UPDATE_EVERY

    def _tick(self, now: float) -> None:
        """What Envoy's two timers would have done until now."""
        if self.measures:
            return
        if now >= self._next_update:
            self._next_update += UPDATE_EVERY * math.ceil((now - self._next_update) / UPDATE_EVERY + 1e-9)
            if self._samples:
                self._update(self._percentile())
        if now >= self._next_measure or self._at_least >= LEAST_IN_A_ROW:
            self._limit_before, self.limit = self.limit, LEAST
            self._samples.clear()
            self._measured_since = now
            self._at_least = 0

    def _update(self, sample_rtt: float) -> None:
        gradient = max(0.5, min(2.0, self.min_rtt * (1 + BUFFER) / sample_rtt))
        steady = self.limit * gradient
        limit = max(LEAST, min(MOST, int(steady + math.sqrt(steady))))
        self._at_least = self._at_least + 1 if limit == self.limit == LEAST else 0
        self.limit = limit

    def _percentile(self) -> float:
        ordered = sorted(self._samples)
        self._samples.clear()
        return ordered[min(len(ordered) - 1, int(PERCENTILE * len(ordered)))]


def strategy(retry: Retry) -> Strategy:
    """The limit with that way to try again."""
    @Strategy
    def made(setting: Setting) -> Client:
        return client(setting, limited(GradientController(), setting.timeout), retry)

    return made
