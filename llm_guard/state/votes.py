"""The votes that a circuit counts, over a sliding window of calls or of seconds, and when they are too bad.

Both windows answer from running totals, so a vote costs the same whatever the window's length. The two kinds, and the
two shares that are watched, are those of resilience4j's breaker.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple, Protocol

from llm_guard import checks
from llm_guard.errors import ConfigError

LONGEST = 10_000_000  # calls in a window, each of which takes two bits from the start


class Tally(NamedTuple):
    """What a window holds: `calls` votes, of which `failures` were bad and `slow` slow (a vote may be both)."""

    calls: int = 0
    failures: int = 0
    slow: int = 0

    @property
    def failure_rate(self) -> float:
        """From 0 to 1; 0 without calls."""
        return self.failures / self.calls if self.calls else 0.0

    @property
    def slow_rate(self) -> float:
        """From 0 to 1; 0 without calls."""
        return self.slow / self.calls if self.calls else 0.0


class VoteWindow(Protocol):
    """A sliding window. Not thread-safe: its owner's lock guards it."""

    calls: int
    failures: int
    slow: int

    def add(self, now: float, bad: bool, slow: bool) -> None:
        """Counts one vote, cast at `now`, and brings the totals up to date: `calls` votes in the window, of which
        `failures` were bad and `slow` slow."""

    def tally(self, now: float) -> Tally:
        """What the window holds at `now`."""

    def clear(self) -> None:
        """Forgets all votes."""


class LastCalls:
    """The last `size` votes, however old, in a ring of two bits each."""

    _next: int
    calls: int
    failures: int
    slow: int

    __slots__ = ("_next", "_size", "_votes", "calls", "failures", "slow")

    def __init__(self, size: int) -> None:
        self._size = size
        self.clear()

    def add(self, now: float, bad: bool, slow: bool) -> None:
        at = self._next
        self._next = (at + 1) % self._size
        place, shift = at >> 2, (at & 3) << 1
        oldest, newest = self._votes[place] >> shift & 3, bad + 2 * slow
        if newest != oldest:
            self._votes[place] ^= (oldest ^ newest) << shift
            self.failures += bad - (oldest & 1)
            self.slow += slow - (oldest >> 1)
        if self.calls < self._size:
            self.calls += 1

    def tally(self, now: float) -> Tally:
        return Tally(self.calls, self.failures, self.slow)

    def clear(self) -> None:
        self._votes = bytearray((self._size + 3) // 4)  # 1 for a bad one, 2 for a slow one, 3 for both
        self._next = self.calls = self.failures = self.slow = 0


class LastSeconds:
    """The votes of the last `seconds`.

    They are kept as sums over slices of a hundredth of the window, so memory is bounded whatever the traffic: a vote
    counts for 99% of `seconds` at least and never longer than `seconds`.
    """

    SLICES = 100

    __slots__ = ("_slices", "_width", "calls", "failures", "slow")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / self.SLICES
        self._slices: deque[list[int]] = deque()  # each: its number, calls, failures, slow; the oldest first
        self.clear()

    def add(self, now: float, bad: bool, slow: bool) -> None:
        number = self._forget_old(now)
        if not self._slices or self._slices[-1][0] < number:
            self._slices.append([number, 0, 0, 0])
        newest = self._slices[-1]
        newest[1] += 1
        newest[2] += bad
        newest[3] += slow
        self.calls += 1
        self.failures += bad
        self.slow += slow

    def tally(self, now: float) -> Tally:
        self._forget_old(now)
        return Tally(self.calls, self.failures, self.slow)

    def clear(self) -> None:
        self._slices.clear()
        self.calls = self.failures = self.slow = 0

    def _forget_old(self, now: float) -> int:
        """Drops the slices that have left the window; returns the number of the present one."""
        number = math.floor(now / self._width)
        while self._slices and self._slices[0][0] <= number - self.SLICES:
            _, calls, failures, slow = self._slices.popleft()
            self.calls -= calls
            self.failures -= failures
            self.slow -= slow
        return number


class Ballot:
    """The votes in a window, and the shares from which they are too bad.

    `window` counts calls (100, where neither it nor `window_seconds` is given). There is no judgement before
    `min_calls` votes, or a full window where that is less. A call of more than `slow_call` seconds is slow. Raises
    `ConfigError` for options that cannot work. Not thread-safe: its owner's lock guards it.
    """

    __slots__ = ("_failure_rate", "_min_calls", "_slow_call", "_window", "slow_rate")

    def __init__(self, *, failure_rate: float, window: int | None, window_seconds: float | None, min_calls: int,
                 slow_call: float | None, slow_rate: float) -> None:
        self._failure_rate = checks.number("failure_rate", failure_rate, above=0, most=1)
        self._slow_call = checks.optional_number("slow_call", slow_call, above=0, unit="seconds")
        self.slow_rate = checks.number("slow_rate", slow_rate, above=0, most=1)
        self._min_calls = checks.whole("min_calls", min_calls, least=1)
        self._window: VoteWindow
        if window_seconds is None:
            size = 100 if window is None else checks.whole("window", window, least=1, most=LONGEST)
            self._min_calls = min(self._min_calls, size)
            self._window = LastCalls(size)
        elif window is None:
            self._window = LastSeconds(checks.number("window_seconds", window_seconds, above=0, unit="seconds"))
        else:
            raise ConfigError("window", window, "not given beside window_seconds")

    def cast(self, now: float, good: bool, seconds: float) -> bool:
        """Counts a vote; True when they are now too bad."""
        window = self._window
        window.add(now, not good, self._slow_call is not None and seconds > self._slow_call)
        calls = window.calls
        return calls >= self._min_calls and (window.failures / calls >= self._failure_rate
                                             or window.slow / calls >= self.slow_rate)

    def is_slow(self, seconds: float) -> bool:
        """Whether a call that took so long is slow."""
        return self._slow_call is not None and seconds > self._slow_call

    def tally(self, now: float) -> Tally:
        """What the window holds at `now`."""
        return self._window.tally(now)

    def clear(self) -> None:
        """Forgets all votes."""
        self._window.clear()
