"""Latency as the pace hears it: of whole calls, and per output token or to the first item where that is known.

An LLM's answer takes as long as it is long. So the seconds of a whole call say how many calls there are in flight at a
rate (Little's law), and whether they come near the timeout; but whether queues build up shows only in what does not
depend on the answer's length.
"""

from __future__ import annotations

import math

#: Seconds: nothing is quicker than this. An answer in no time at all would drag a geometric mean to zero.
QUICKEST = 0.001
#: The same of a token.
QUICKEST_TOKEN = 1e-6
#: Queues build up where the mean is above the base by this factor (Netflix Gradient2's tolerance is 1.5).
TOLERANCE = 2.5
#: Where half the timeout was never to be had: so far above its base, or at that share of the timeout, a slow server is
#: overrun too.
SLOW_QUEUEING, SLOW_MOST = 1.3, 0.75
#: The share of what is above the base that each call adds to it where there is but one in flight.
DOUBT = 0.05
#: What each call takes besides its tokens, in tokens, as a share of an answer's mean length.
BESIDES = 0.1


class Latency:
    """Geometric moving average of the latency in seconds, beside a slow-moving base: the latency without a queue."""

    __slots__ = ("_count", "_least", "base", "mean")

    def __init__(self, least: float = QUICKEST) -> None:
        self._least = least
        self._count = 0
        self.mean: float | None = None
        self.base: float | None = None

    def add(self, seconds: float) -> None:
        if seconds < self._least:
            seconds = self._least
        self._count += 1
        before = seconds if self.mean is None else self.mean
        mean = self.mean = before * (seconds / before) ** (0.1 if self._count >= 10 else 1 / self._count)
        if self.base is None or self._count <= 10:
            self.base = mean
        else:
            base = self.base + 0.0002 * (mean - self.base)
            self.base = base if base < mean else mean

    def add_timeout(self, seconds: float) -> None:
        """A call took longer than `seconds`: that much is known of its latency."""
        if self.mean is not None and seconds > self.mean:
            self.mean *= (seconds / self.mean) ** max(0.1, 1 / self._count)

    def above_base(self, factor: float) -> bool:
        """The mean is known and above `factor` times the base."""
        return self.mean is not None and self.base is not None and self.mean > factor * self.base

    def limit(self, timeout: float | None) -> float:
        """The latency from which on queues build up; `timeout` bounds the calls, in seconds."""
        if self.base is None:
            return math.inf
        return TOLERANCE * self.base if timeout is None else min(TOLERANCE * self.base, self.near(timeout))

    def doubt_base(self) -> None:
        """Calls take long though there is but one: more and more of that is no queue."""
        if self.mean is not None and self.base is not None:
            self.base += DOUBT * (self.mean - self.base)

    def near(self, timeout: float | None) -> float:
        """The seconds that are near the timeout. A server that was never any quicker than half of it is slow, and only
        overrun beyond that."""
        if timeout is None or self.base is None:
            return math.inf
        return max(timeout / 2, min(SLOW_QUEUEING * self.base, SLOW_MOST * timeout))


class Strain:
    """How much longer calls take than without a queue, each kind of measure against its own base."""

    __slots__ = ("_first_item", "_judged", "_per_token", "_timed", "_tokens", "whole")

    def __init__(self) -> None:
        self.whole = Latency()  # seconds of a whole call
        self._first_item = Latency()  # seconds to the first item of a stream
        self._per_token = Latency(QUICKEST_TOKEN)
        self._timed = self._judged = self.whole  # what a timeout bounds, and what calls are judged by
        self._tokens = 0.0  # of an answer, on average

    def add(self, seconds: float, timeout: float | None, tokens: float | None, first_item: float | None) -> bool:
        """A call took `seconds`. It is judged by the seconds per output token where their number is known, else to the
        first item, else by all of them; `timeout` bounds those to the first item of a stream. Whether it was itself
        quick enough to be no sign of a queue."""
        self.whole.add(seconds)
        value = bounded = seconds
        self._timed = self._judged = self.whole
        if first_item is not None:
            value = bounded = first_item
            self._timed = self._judged = self._first_item
            self._first_item.add(first_item)
        if tokens:
            self._tokens = 0.9 * self._tokens + 0.1 * tokens if self._tokens else tokens
            value = seconds / (tokens + BESIDES * self._tokens)
            self._judged = self._per_token
            self._per_token.add(value)
        if self._judged is self._timed:
            return value <= self._judged.limit(timeout)
        return value <= self._judged.limit(None) and bounded <= self._timed.near(timeout)

    @property
    def seconds(self) -> float | None:
        """The mean of what a timeout bounds: of whole calls, or to the first item of a stream."""
        return self._timed.mean

    def add_timeout(self, seconds: float) -> None:
        """A call ran out of time after so many seconds."""
        self._timed.add_timeout(seconds)

    def above_base(self, factor: float) -> bool:
        """Calls take longer than without a queue by this factor."""
        return self._judged.above_base(factor)

    def doubt_base(self) -> None:
        """See `Latency.doubt_base`."""
        self._judged.doubt_base()

    def gradient(self, timeout: float | None) -> float:
        """The limit over what is measured: below 1 queues build up, or calls come near the timeout."""
        judged, timed = self._judged, self._timed
        if judged is timed:
            return judged.limit(timeout) / judged.mean if judged.mean else math.inf
        near = timed.near(timeout) / timed.mean if timed.mean else math.inf
        return min(near, judged.limit(None) / judged.mean) if judged.mean else near
