"""The mean of StatsD timings over the last seconds: pure state, told the time and what came."""

from __future__ import annotations

import math
from collections import deque

#: Into so many parts a window is divided: the oldest one leaves as a whole.
PARTS = 60


class Timings:
    """Of one name. Memory is bounded, whatever comes; what is not such a timing is passed over."""

    def __init__(self, name: str, window: float) -> None:
        self._name = name.encode()
        self._part = window / PARTS
        self._parts: deque[list[float]] = deque(maxlen=PARTS + 1)  # number of the part, seconds, weight

    def hear(self, now: float, datagram: bytes) -> None:
        """Lines such as ``name:320|ms|@0.1|#tags``, in milliseconds; several values in a line, and lines in one."""
        for line in datagram.split(b"\n"):
            name, _, rest = line.partition(b":")
            values, *more = rest.strip().split(b"|")
            if name != self._name or not more or more[0] != b"ms":
                continue
            weight = _weight(more[1:])
            for value in values.split(b":"):
                seconds = _number(value) / 1000
                if weight and 0 <= seconds < math.inf:
                    self._add(now, seconds, weight)

    def mean(self, now: float) -> float | None:
        """In seconds; None where nothing came within the window."""
        oldest = now // self._part - PARTS
        kept = [(seconds, weight) for number, seconds, weight in self._parts if number > oldest]
        weights = sum(weight for _, weight in kept)
        return sum(seconds for seconds, _ in kept) / weights if weights else None

    def _add(self, now: float, seconds: float, weight: float) -> None:
        number = now // self._part
        if not self._parts or self._parts[-1][0] != number:
            self._parts.append([number, 0.0, 0.0])
        self._parts[-1][1] += weight * seconds
        self._parts[-1][2] += weight


def _weight(marks: list[bytes]) -> float:
    """What one value stands for; 0 where its sample rate makes no sense."""
    for mark in marks:
        if mark.startswith(b"@"):
            rate = _number(mark[1:])
            return 1 / rate if 0 < rate <= 1 else 0.0
    return 1.0


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
