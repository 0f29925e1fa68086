"""The last fifteen minutes of one function, in bins of a few seconds: a ring of fixed size."""

from __future__ import annotations

import math
from array import array

#: Seconds in a bin, and how many are kept: fifteen minutes.
WIDTH, BINS = 5.0, 180
#: What is counted in each bin, and what is the most that was seen in it.
COUNTS, PEAKS = ("started", "answered", "refused", "failed"), ("in_flight", "waiting")


class Curves:
    """Bins are numbered by the clock: the bin of an instant is `instant / width`. It is told the time; where that goes
    backwards, the newest bin counts. Not thread-safe."""

    __slots__ = ("_bins", "_newest", "_rings", "_seconds", "_width")

    def __init__(self, now: float, width: float = WIDTH, bins: int = BINS) -> None:
        self._width = width
        self._bins = bins
        self._newest = math.floor(now / width)
        self._rings = {name: array("I", bytes(array("I").itemsize * bins)) for name in (*COUNTS, *PEAKS)}
        self._seconds = array("d", bytes(8 * bins))  # that its answers took

    def advance(self, now: float, in_flight: int, waiting: int = 0) -> None:
        """Time has come to `now`, with so many in flight and waiting since it was last told."""
        number = math.floor(now / self._width)
        for skipped in range(max(self._newest + 1, number - self._bins + 1), number + 1):
            at = skipped % self._bins
            for ring in self._rings.values():
                ring[at] = 0
            self._seconds[at] = 0.0
            self._rings["in_flight"][at], self._rings["waiting"][at] = in_flight, waiting
        self._newest = max(self._newest, number)

    def count(self, name: str) -> None:
        """One more in the newest bin."""
        self._rings[name][self._newest % self._bins] += 1

    def peak(self, name: str, value: int) -> None:
        """So many were seen in the newest bin."""
        at = self._newest % self._bins
        self._rings[name][at] = max(self._rings[name][at], value)

    def answered(self, seconds: float) -> None:
        """An answer came after so many seconds."""
        self.count("answered")
        self._seconds[self._newest % self._bins] += seconds

    def rate(self, now: float, name: str) -> float:
        """That many a second, over the newest bin and the two before it."""
        ring, newest = self._rings[name], self._newest
        past = min(2, self._bins - 1)
        total = sum(ring[(newest - back) % self._bins] for back in range(past + 1))
        return total / (past * self._width + min(self._width, max(0.0, now - newest * self._width)))

    def since(self, number: int | None) -> dict[str, object]:
        """The bins from that number on, the newest last, which is not over yet: `first` is the number of the first that
        is told, `latency` the mean in seconds (None: no answer)."""
        first = self._newest - self._bins + 1
        if number is not None and first < number <= self._newest:
            first = number
        places = [number % self._bins for number in range(first, self._newest + 1)]
        told: dict[str, object] = {name: [ring[at] for at in places] for name, ring in self._rings.items()}
        answered = self._rings["answered"]
        told["latency"] = [round(self._seconds[at] / answered[at], 4) if answered[at] else None for at in places]
        return {"first": first, **told}
