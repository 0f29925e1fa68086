"""Netflix concurrency-limits' Gradient2: as many in flight as latency bears.

Own arithmetic after the formulas of its `Gradient2Limit` and `WindowedLimit`, in the pair that its README shows, with
their defaults. Over a window (1 s, 10 samples at least) short = the mean latency; long = the mean of the first 10
windows, then an exponential average over 600, lowered by 5% where it is over twice short. Where at least half the
limit was in use: gradient g = clamp(1.5 x long / short, 0.5, 1), limit = 0.8 limit + 0.2 (limit x g + 4), 20 to 200.
(A least of 1, as in `aimd`, doubles its time on servers that start cold.) Threads block at the limit.

It reads latency alone: a refusal is a short latency to it, as in the library. A 500 is ignored, as by its gRPC client.
"""

from __future__ import annotations

import math

from llm_guard.testing.simulation import Client, Setting, Strategy
from strategies.limits import End, Limit, dropped, limited
from strategies.tries import Retry, client

WINDOW_SECONDS = 1.0
WINDOW_SAMPLES = 10
SMOOTHING = 0.2
QUEUE = 4
TOLERANCE = 1.5
LONG_WINDOW = 600
WARM_UP = 10


class Gradient2(Limit):
    """The limit, told each window's mean latency by `window`, or each call's by `ended`."""

    def __init__(self, initial: int = 20, least: int = 20, most: int = 200) -> None:
        self.limit = float(initial)
        self.long = 0.0
        self._least, self._most = least, most
        self._windows = 0
        self._next_window = -math.inf
        self._samples = 0
        self._sum = 0.0
        self._most_in_flight = 0

    def allowed(self, now: float) -> int:
        return int(self.limit)

    def ended(self, end: End) -> None:
        if dropped(end.error) is None:
            return
        self._samples += 1
        self._sum += end.took
        self._most_in_flight = max(self._most_in_flight, end.in_flight)
        if end.at > self._next_window:
            if self._samples >= WINDOW_SAMPLES:
                self.window(self._sum / self._samples, self._most_in_flight)
            self._next_window = end.at + WINDOW_SECONDS
            self._samples, self._sum, self._most_in_flight = 0, 0.0, 0

    def window(self, short: float, in_flight: int) -> None:
        """A window ended, with this mean latency in seconds and this many in flight at the most."""
        self._windows += 1
        weight = 1 / self._windows if self._windows <= WARM_UP else 2 / (LONG_WINDOW + 1)
        self.long += weight * (short - self.long)
        long = self.long
        if long / short > 2:
            self.long *= 0.95
        if in_flight < self.limit / 2:
            return
        gradient = max(0.5, min(1.0, TOLERANCE * long / short))
        limit = self.limit * gradient + QUEUE
        self.limit = max(self._least, min(self._most, (1 - SMOOTHING) * self.limit + SMOOTHING * limit))


def strategy(retry: Retry) -> Strategy:
    """The limit with that way to try again."""
    @Strategy
    def made(setting: Setting) -> Client:
        return client(setting, limited(Gradient2(), setting.timeout), retry)

    return made
