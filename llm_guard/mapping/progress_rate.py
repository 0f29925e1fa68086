"""How many a second, lately: an average whose weights fade with age."""

from __future__ import annotations

import math

#: Seconds. Weights that fade with this time constant have the mean age of a sliding window of twice the length, and
#: the count of evenly random arrivals in it has the same variance: so this stands for a window of 10 s.
LATELY = 5.0


class Rate:
    """Counts, faded; it takes no more room with more of them, and is told the time.

    What was counted between two instants is taken to have come evenly. The weights are divided by their sum: the
    estimate is unbiased from the first second on, where a plain moving average would begin at 0 and climb.
    """

    __slots__ = ("_began", "_faded", "_fades_in", "_last", "_new")

    def __init__(self, now: float, fades_in: float = LATELY) -> None:
        self._began = self._last = now
        self._fades_in = fades_in
        self._faded = 0.0
        self._new = 0

    def add(self, count: int, now: float) -> None:
        """`count` more since it was last told."""
        self._new += count
        passed = now - self._last
        if passed > 0:
            keeps = math.exp(-passed / self._fades_in)
            self._faded = self._faded * keeps + self._new / passed * (1 - keeps)
            self._last, self._new = now, 0

    def a_second(self) -> float:
        """As of the instant it was last told; 0 before time has passed."""
        whole = -math.expm1(-(self._last - self._began) / self._fades_in)
        return self._faded / whole if whole > 0 else 0.0
