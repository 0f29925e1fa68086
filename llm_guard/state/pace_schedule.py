"""The user's own schedule for the pace: how fast its rate may rise, whatever the server would bear.

Two bounds, each a cap in calls a second. A **ramp** rises linearly from `start` to `ceiling` within `ramp_time` seconds
of the first start of a call. A **growth** bound lets the rate be at most so many times what it was. Both need O(1) a
call. Pure arithmetic: no lock, no clock.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

from llm_guard import checks
from llm_guard.call import NEVER
from llm_guard.errors import ConfigError
from llm_guard.state.leak import CATCH_UP

#: The rate that growth begins from where `start` is not given, in calls a second.
FIRST_RATE = 1.0
#: Into so many parts each window is cut in which starts are counted.
PARTS = 30


class Cap(Protocol):
    """A bound on the rate that changes with time. Instants and durations in seconds, caps in calls a second."""

    ceiling: float

    def cap(self, now: float) -> float:
        """The most calls a second that may start at this instant. Instants never go back."""

    def next_after(self, instant: float) -> float:
        """When the cap allows one more start, where the last one was at `instant`."""

    def note_start(self, now: float) -> None:
        """A call starts."""

    def restart(self, now: float) -> None:
        """The server is cold again."""


class Ramp:
    """From `start` calls a second at the first start, evenly to `ceiling` calls a second `seconds` later.

    One start is followed by the next when the integral of the cap since has come to 1. So in any window at most the
    integral of the cap over it, and one more, start.
    """

    def __init__(self, start: float, ceiling: float, seconds: float) -> None:
        self._start = start
        self.ceiling = ceiling
        self._seconds = seconds
        self._began = math.inf  # the first start since the server was cold

    def cap(self, now: float) -> float:
        first = min(self._start, self.ceiling)
        return first + (self.ceiling - first) * min(1.0, max(0.0, now - self._began) / self._seconds)

    def next_after(self, instant: float) -> float:
        rate, left = self.cap(instant), self._began + self._seconds - instant
        if left <= 0 or left == math.inf:  # it has ended, or not begun
            return instant + 1 / rate
        slope = (self.ceiling - rate) / left
        until_one = 2 / (rate + math.sqrt(rate * rate + 2 * slope))  # the root of rate*t + slope*t^2/2 = 1
        if until_one <= left:
            return instant + until_one
        return instant + left + (1 - (rate + self.ceiling) / 2 * left) / self.ceiling

    def note_start(self, now: float) -> None:
        self._began = min(self._began, now)

    def restart(self, now: float) -> None:
        self._began = math.inf


class Growth:
    """At most `factor` times the mean rate of starts in every window of `seconds` that ended in the last `seconds`.

    So a rate that never falls is at no instant more than `factor` times what it was `seconds` ago, and after a pause it
    is bound by what was used, not by what might have been. Starts are counted by parts of a window, `seconds / 30`
    each; windows end where a part does. A part with less use, and all time before the first call, counts as
    `first / factor` calls a second: so that `first` calls a second may always start. One start is followed by the next
    after 1/cap, by the cap of that instant.
    """

    def __init__(self, first: float, factor: float, seconds: float) -> None:
        self.ceiling = math.inf
        self._factor = factor
        self._part = seconds / PARTS
        self._least = first / factor * self._part  # what an idle part counts
        self._began = NEVER  # of the part that runs
        self._first = first
        self._idle()

    def _idle(self) -> None:
        """No use is known."""
        self._cap = self._first
        self._count = 0.0  # starts in the part that runs
        self._counts = deque([self._least] * PARTS, PARTS)  # in those of the last window
        self._sums = deque([self._least * PARTS] * (PARTS + 1), PARTS + 1)  # of each window, the last one at the end

    def cap(self, now: float) -> float:
        passed = (now - self._began) // self._part if self._began > NEVER else 0.0
        if passed > 2 * PARTS:  # all that is known is out of date
            self._began += passed * self._part
            self._idle()
        elif passed >= 1:
            for _ in range(int(passed)):
                self._next_part()
            self._cap = self._factor * min(self._sums) / PARTS / self._part
        return self._cap

    def next_after(self, instant: float) -> float:
        return instant + 1 / self._cap

    def note_start(self, now: float) -> None:
        if self._began == NEVER:
            self._began = now
        self._count += 1

    def restart(self, now: float) -> None:
        """What was used was used."""

    def _next_part(self) -> None:
        count = max(self._least, self._count)
        self._sums.append(self._sums[-1] + count - self._counts[0])
        self._counts.append(count)
        self._began, self._count = self._began + self._part, 0.0


class RateSchedule:
    """The caps together, and the bucket that holds the calls to them: none starts before `next_start`.

    A start is followed by the next as soon as every cap has allowed one more. One that comes late is made up for by at
    most 10 ms, as in `llm_guard.state.leak`.
    """

    def __init__(self, caps: tuple[Cap, ...]) -> None:
        self._caps = caps
        self._last = self.next_start = NEVER

    def cap(self, now: float) -> float:
        """The most calls a second that may start at this instant."""
        return min(cap.cap(now) for cap in self._caps)

    def note_start(self, now: float, since: float) -> None:
        """A call starts that has waited since `since`."""
        for cap in self._caps:
            cap.cap(now)
            cap.note_start(now)
        self._last = max(self.next_start, since, now - CATCH_UP)
        self._follow()

    def restart(self, now: float) -> None:
        """The server is cold again: the ramp begins anew with the next start."""
        for cap in self._caps:
            cap.restart(now)

    def set_ceiling(self, ceiling: float) -> None:
        """The ramp leads to another ceiling, in calls a second."""
        for cap in self._caps:
            cap.ceiling = ceiling
        if self._last > NEVER:
            self._follow()

    def _follow(self) -> None:
        self.next_start = max(cap.next_after(self._last) for cap in self._caps)


def schedule_of(start: float | None, ceiling: float | None, ramp_time: object,
                max_growth: object) -> RateSchedule | None:
    """The schedule that these options ask for; None where they ask for none. A bad option raises `ConfigError`."""
    seconds = checks.optional_number("ramp_time", ramp_time, above=0, unit="seconds")
    caps: list[Cap] = []
    if seconds is not None:
        if start is None or ceiling is None:
            raise ConfigError("ramp_time", ramp_time, "only with start and ceiling, between which the rate rises")
        caps.append(Ramp(start, ceiling, seconds))
    if max_growth is not None:
        caps.append(Growth(FIRST_RATE if start is None else start, *_pair(max_growth)))
    return RateSchedule(tuple(caps)) if caps else None


def _pair(max_growth: object) -> tuple[float, float]:
    if isinstance(max_growth, tuple | list) and len(max_growth) == 2:
        try:
            return (checks.number("max_growth", max_growth[0], above=1),
                    checks.number("max_growth", max_growth[1], above=0))
        except ConfigError:
            pass
    raise ConfigError("max_growth", max_growth, "a pair: a factor above 1, and above 0 seconds, as in (1.5, 900)")
