"""A bound on what calls cost, in LLM tokens say: so much within any period, spent evenly.

What a call will cost is an estimate. It is reserved when the call starts, so that calls under way at the same time
cannot overshoot together, and settled when it is known. Two conditions hold each start back:

- **evenly**: after a call of cost c the next one starts c/rate later (a leaky bucket with weights). What a call turns
  out to have cost more is paid for in the same way; what it cost less is owed no more, or, where it was paid for
  already, credited to those that follow;
- **never more**: within no period do the calls that start cost more than the ceiling, as far as it is known. The period
  is counted in `SLICES`, each of which counts until it has passed as a whole. A call that is larger than the ceiling
  goes alone: a whole period after the last one, and nobody follows it until its cost is paid for.

Pure arithmetic: no lock, no clock.
"""

from __future__ import annotations

import math
from collections import deque

from llm_guard.call import NEVER
from llm_guard.state.leak import CATCH_UP
from llm_guard.state.pace_allowance import FARTHEST

#: Parts of a period that are counted as one.
SLICES = 60


class Spent:
    """What one call was estimated to cost, and when."""

    __slots__ = ("cost", "has_ended", "slice")

    def __init__(self, slice_: int, cost: float) -> None:
        self.slice = slice_
        self.cost = cost
        self.has_ended = False


class CostLimit:
    """At most `ceiling` within any `per` seconds. Instants in seconds; costs in any unit, 0 and above."""

    __slots__ = ("_credit", "_last", "_left", "_left_at", "_left_until", "_next_start", "_slices", "_total", "ceiling",
                 "in_flight", "per", "under_way")

    def __init__(self, ceiling: float, per: float) -> None:
        self.ceiling = ceiling
        self.per = per
        self._last = NEVER  # the start of the last call
        self._next_start = NEVER  # when what was spent is paid for
        self._credit = 0.0  # what was paid for and not spent
        self._slices: deque[list[float]] = deque()  # [number, cost] of those that still count and are not empty
        self._total = 0.0
        self.in_flight = 0  # calls that have not ended
        self.under_way = 0.0  # what they cost, by their estimates
        self._left, self._left_at, self._left_until = math.inf, NEVER, NEVER  # as the server told last

    def ready_at(self, now: float, cost: float) -> float:
        """When a call of that cost may start: `now`, or a later instant at which to ask again."""
        self._forget(now)
        at = max(now, self._next_start)
        if not self._fits(self._total, cost):
            at = max(at, self._room_at(cost))
        if cost > self._left and now < self._left_until:
            at = max(at, min(self._left_until, self._left_at + (cost - self._left) * self.per / self.ceiling))
        return at

    def start(self, now: float, since: float, cost: float) -> Spent:
        """A call starts that has waited since `since`. Only who waited makes up for a late start, by 10 ms at most."""
        credited = min(self._credit, cost)
        self._credit -= credited
        self._last = max(self._next_start, since, now - CATCH_UP)
        self._next_start = self._last + (cost - credited) * self.per / self.ceiling
        spent = Spent(self._number(now), cost)
        if not self._slices or self._slices[-1][0] != spent.slice:
            self._slices.append([spent.slice, 0.0])
        self._slices[-1][1] += cost
        self._total += cost
        self._left -= cost
        self.in_flight += 1  # last: who did not start cannot give it back
        self.under_way += cost
        return spent

    def end(self, now: float, spent: Spent, cost: float | None) -> None:
        """A call has ended; `cost` is what it cost, where that is known. Again: no effect."""
        if spent.has_ended:
            return
        spent.has_ended = True
        self.in_flight -= 1
        self.under_way -= spent.cost
        if cost is not None:
            self._settle(now, spent, cost - spent.cost)

    def tell(self, now: float, left: float, reset: float) -> None:
        """The server said with an answer that so much is left, and all of it again in `reset` seconds. It may not know
        of the calls that are still under way."""
        if reset <= FARTHEST:
            self._left, self._left_at, self._left_until = left - self.under_way, now, now + reset

    def change(self, ceiling: float) -> None:
        """Another ceiling. What is owed is paid for at the new rate."""
        self._next_start = self._last + (self._next_start - self._last) * self.ceiling / ceiling
        self.ceiling = ceiling

    def spent(self, now: float) -> float:
        """What the calls of the last period cost, as far as is known."""
        self._forget(now)
        return self._total

    def _settle(self, now: float, spent: Spent, change: float) -> None:
        self._forget(now)
        each = next((each for each in reversed(self._slices) if each[0] == spent.slice), None)
        if each is None:  # so long ago that it counts no more
            return
        each[1] += change
        self._total += change
        self._left -= change
        # What is owed becomes less, what was paid for too much is credited; what was too little is owed.
        owed = max(0.0, self._next_start - now) * self.ceiling / self.per
        rest = max(0.0, change - self._credit) if change > 0 else max(change, -owed)
        self._credit = min(self.ceiling, self._credit - (change - rest))
        self._next_start += rest * self.per / self.ceiling

    def _number(self, now: float) -> int:
        return math.floor(now * SLICES / self.per)

    def _forget(self, now: float) -> None:
        passed = self._number(now) - SLICES
        while self._slices and self._slices[0][0] < passed:
            self._total -= self._slices.popleft()[1]
        if not self._slices:
            self._total = 0.0  # what rounding left

    def _fits(self, total: float, cost: float) -> bool:
        return total + min(cost, self.ceiling) <= self.ceiling * (1 + 1e-9)

    def _room_at(self, cost: float) -> float:
        """When enough slices have passed for a call of that cost."""
        left = self._total
        for number, spent in self._slices:
            left -= spent
            if self._fits(left, cost):
                return (number + SLICES + 1) * self.per / SLICES
        return (self._slices[-1][0] + SLICES + 1) * self.per / SLICES
