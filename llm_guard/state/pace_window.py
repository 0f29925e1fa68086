"""The window of the pace: how many calls may be in flight."""

from __future__ import annotations

import math

from llm_guard.call import NEVER

#: The window that a call to an unknown server begins with.
FIRST = 4.0
#: For so many seconds after a refusal the window creeps up to where it happened.
CEILING_MEMORY = 20.0


class Window:
    """Slow start by 1 a success, later by 1/window; a step back where latency rises or the server refuses."""

    __slots__ = ("_factor", "_refused_at", "_refused_since", "held", "holds_back", "size", "slots", "slow_start",
                 "waited_at")

    def __init__(self) -> None:
        self.size = FIRST
        self.slow_start = True
        self.holds_back = False  # some call waited for a place in it
        self.waited_at = NEVER  # when one last did
        self.held = 0  # the most in flight, itself counted, with which a call was accepted
        self.slots = False  # the last refusal was for want of slots
        self._refused_at, self._refused_since = math.inf, NEVER  # the size that was refused last, and when
        self._factor = 1.0  # by which the window stepped back from the slots that were full

    def make_wait(self, now: float) -> None:
        """A call waits for a place in it."""
        self.holds_back, self.waited_at = True, now

    def restart(self) -> None:
        """Slow start from the first window: the server comes up anew."""
        self.size, self.slow_start, self.held = FIRST, True, 0

    def step_back(self, size: float) -> None:
        """Down to `size`, and slow start is over."""
        self.size, self.slow_start = max(1.0, size), False

    def accepted(self, beside: int) -> None:
        """A call was answered that had started with so many `beside` it."""
        if beside >= self.held:
            self.held = beside + 1

    def grow(self, now: float) -> None:
        """A success, while the window was what held calls back."""
        if self.slow_start:
            self.size += 1
        elif self.size > 0.8 * self._refused_at and now - self._refused_since < CEILING_MEMORY:
            self.size += 0.1 / self.size
        else:
            self.size += max(1 / self.size, 0.1)

    def slots_full(self, now: float, beside: int, queueing: bool) -> None:
        """Refused with so many `beside` it, more than the server ever accepted: all its slots are taken."""
        self.held, self.slots, self._factor = max(1, beside), True, 0.7 if queueing else 1.0
        self._refuse(now, beside, self._factor * min(self.size, beside))

    def slots_fewer(self, beside: int) -> None:
        """A reply out of order of that same burst, refused beside fewer others still."""
        self.held = max(1, beside)
        self.size = min(self.size, max(1.0, self._factor * beside))
        self._refused_at = min(self._refused_at, self.held)

    def refused_within(self, now: float, beside: int, in_flight: int) -> None:
        """Refused where the server once accepted: what was in flight just then is the most that it bears."""
        self.held, self.slots = min(self.held, max(1, beside)), False
        within = max(1.0, min(self.size, in_flight))
        self._refuse(now, within, within)

    def _refuse(self, now: float, refused_at: float, size: float) -> None:
        self._refused_at, self._refused_since = refused_at, now
        self.step_back(size)
