"""The rate of the pace: a leaky bucket that bounds nothing until the server says "rate", and then learns.

After a cut it comes back in ten seconds to what the server was seen to bear, stays near it, tries more and more, and in
the end forgets it: it may have been no rate limit at all.
"""

from __future__ import annotations

import math

from llm_guard.call import NEVER
from llm_guard.state.leak import Leak
from llm_guard.state.pace_schedule import RateSchedule

#: Calls a second of a rate nobody has bounded yet, and how far slow start may double it.
DORMANT, MOST = 1000.0, 1e9
#: A cut without a refusal for so many seconds is put to the test: the rate rises ever faster, by the square of the time
#: since, so that a limit that was raised threefold is followed within 30 s of the cut.
QUIET, QUIET_GROWTH = 25.0, 0.03
#: What was sent in less than so many seconds is counted as if it had been sent in them.
SHORTEST = 0.5
#: No cut goes lower, in calls a second.
LEAST = 0.2
#: After the server said "grew too fast": the rate grows by this factor in 60 s at most, for so many seconds.
GROWTH_A_MINUTE, GROWTH_MEMORY = 2.0, 900.0


class Rate:
    """How many calls a second may start.

    `start` is the first rate and `ceiling` the most there may ever be, in calls a second; None: the law alone. Where a
    `schedule` is given, no more start than it allows, from a first rate of its own.
    """

    __slots__ = ("_cap", "_ceiling", "_cut_at", "_first", "_growth_capped_until", "_latency_at_cut", "_leak",
                 "_schedule", "_sent", "_value", "bound", "clean", "delivered", "done", "holds_back", "measured_since",
                 "slow_start", "waited_at")

    def __init__(self, start: float | None, ceiling: float | None, schedule: RateSchedule | None = None) -> None:
        self._first = DORMANT if start is None or schedule is not None else start
        self._schedule, self._cap = schedule, math.inf  # what the schedule allows, as last looked up
        self._ceiling = math.inf if ceiling is None else ceiling
        self._leak = Leak()
        self._value = self._first
        self.slow_start = True
        self.bound = math.inf  # the rate the server was last seen to bear; inf: it never said "rate"
        self._cut_at = self._growth_capped_until = NEVER
        self._latency_at_cut: float | None = None
        self.holds_back = False  # some call waited for the bucket since the last tick
        self.waited_at = NEVER  # when one last did
        self.clean = True  # no refusal since the last tick
        self.done = self._sent = 0  # answers and starts since `measured_since`
        self.delivered = 0.0  # answers a second, smoothed over the ticks
        self.measured_since: float | None = None

    @property
    def ceiling(self) -> float:
        """The most calls a second there may be. A new one holds from the last start on."""
        return self._ceiling

    @ceiling.setter
    def ceiling(self, value: float) -> None:
        self._ceiling = value
        self._leak.reschedule(min(self._value, value))
        if self._schedule is not None:
            self._schedule.set_ceiling(value)

    @property
    def next_start(self) -> float:
        """Before this instant nobody may start."""
        if self._schedule is None:
            return self._leak.next_start
        return max(self._leak.next_start, self._schedule.next_start)

    @property
    def value(self) -> float:
        """Calls a second, never above the ceiling and the schedule."""
        return min(self._value, self._ceiling, self._cap)

    def follow_schedule(self, now: float, restart: bool = False) -> None:
        """Looks up what the schedule allows now; `restart`: the server is cold again."""
        if self._schedule is not None:
            if restart:
                self._schedule.restart(now)
            self._cap = self._schedule.cap(now)

    @property
    def learned(self) -> bool:
        """The server has shown a rate limit, and it is not forgotten yet."""
        return self.bound < math.inf

    @property
    def dormant(self) -> bool:
        """Nothing bounds the rate."""
        return self.slow_start and self.value >= DORMANT

    @property
    def ramping(self) -> bool:
        """It is bounded, and rises by slow start."""
        return self.slow_start and self.value < min(DORMANT, self._ceiling)

    def growth_capped(self, now: float) -> bool:
        """The server said not long ago that the traffic grew too fast."""
        return now < self._growth_capped_until

    def make_wait(self, now: float) -> None:
        """A call waits for the bucket."""
        self.holds_back, self.waited_at = True, now

    def take(self, now: float, since: float) -> None:
        """Spends one start, of a call that has waited since `since`."""
        self._leak.take(now, since, self._value if self._value < self._ceiling else self._ceiling)
        if self._schedule is not None:
            self._schedule.note_start(now, since)
            self._cap = self._schedule.cap(now)
        self._sent += 1
        if self.measured_since is None:
            self.measured_since = now

    def measure_anew(self, now: float) -> None:
        """Drops what was measured while the server loaded or was closed: it says nothing about its rate."""
        self.measured_since, self.done, self._sent, self.delivered = now, 0, 0, 0.0

    def delivered_lately(self, now: float) -> float:
        """Answers a second, the second that still runs included; 0 where nothing is known."""
        elapsed = now - (now if self.measured_since is None else self.measured_since)
        return max(self.delivered, self.done / elapsed if elapsed > 0.5 else 0.0)

    def cut(self, now: float, delivered: float, latency: float | None) -> None:
        """The server refused at this rate while it answered `delivered` a second (0: unknown)."""
        if not delivered:  # then the rate itself may be far from what was sent
            delivered = min(0.7 * self.value, self._sent_lately(now))
        self._set_bound(now, min(self.value, delivered), latency)

    def _sent_lately(self, now: float) -> float:
        """Starts a second since it measures."""
        return self._sent / max(SHORTEST, now - (now if self.measured_since is None else self.measured_since))

    def cut_again(self, now: float, latency: float | None) -> None:
        """It refused again, and named its wait, before it had accepted anything."""
        self._set_bound(now, 0.9 * min(self.value, self.bound), latency)

    def _set_bound(self, now: float, bound: float, latency: float | None) -> None:
        least = min(LEAST, self.value)  # a user's own rate below LEAST is not raised by a cut
        self.bound = max(least, bound)
        self._value = max(least, 0.9 * self.bound)
        self.slow_start = False
        self._cut_at, self._latency_at_cut = now, latency

    def cap_growth(self, now: float) -> None:
        """The server said that the traffic grew too fast."""
        self._growth_capped_until = now + GROWTH_MEMORY

    def reopen(self, now: float) -> None:
        """The gate opens: the way back up begins now, and what was delivered while it was shut says nothing."""
        self._cut_at = now
        self.measure_anew(now)

    def restart(self, now: float) -> None:
        """Slow start from the first rate: the server that was learned about has gone and come back."""
        self.follow_schedule(now, restart=True)
        if now >= self._growth_capped_until:
            self._value = self._first
            self.slow_start = True

    def tick(self, now: float, latency: float | None) -> None:
        """Once a second, or once a latency where that is longer: measures, and grows after a second without refusal."""
        if self.measured_since is None:
            return
        elapsed = now - self.measured_since
        if elapsed < 1.0 or (latency is not None and elapsed < latency):
            return
        self.follow_schedule(now)
        measured = self.done / elapsed
        self.delivered = (self.delivered + measured) / 2 if self.delivered else measured
        if self.clean:
            self._grow(now, elapsed, latency)
        self.measured_since, self.done, self._sent = now, 0, 0
        self.holds_back, self.clean = False, True

    def _grow(self, now: float, elapsed: float, latency: float | None) -> None:
        if now < self._growth_capped_until:
            if self.holds_back:  # unused room must not add up: it would be the next leap
                self._raise(self._value * GROWTH_A_MINUTE ** (elapsed / 60))
        elif self.slow_start:
            if self.holds_back:
                self._raise(2 * self._value)
        elif self.learned:
            age = (now - self._cut_at) / 10
            quicker = latency is not None and self._latency_at_cut is not None and latency < 0.7 * self._latency_at_cut
            if age > 4 or quicker:  # it was no rate limit
                self.bound, self.slow_start = math.inf, True
            elif age < 1:
                least = min(LEAST, self._value)
                self._value = max(least, self.bound * (1 - 0.1 * (1 - age) ** 2))
            else:
                quiet = max(0.0, now - self._cut_at - QUIET)
                self._raise(self.bound * math.exp(0.2 * (age - 1) + QUIET_GROWTH * quiet**2))

    def _raise(self, value: float) -> None:
        """Up to `value`, but nothing is learned above what the user allows."""
        if self._value < min(self._ceiling, self._cap):
            self._value = min(value, MOST)
