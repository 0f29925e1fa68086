"""How many calls an account has left: as its server tells, or as its fixed windows teach.

Some servers say with each answer how many calls are left and when there will be more. Others count calls in windows of
fixed length and say nothing: what shows then is that refusals begin after so many calls, and end at regular instants.
"""

from __future__ import annotations

import math

from llm_guard.call import NEVER

#: Resets further off than this many seconds are left to the server's own refusals, which say how long to wait.
FARTHEST = 60.0
#: Seconds of the windows in which limits are commonly counted: a period is taken for one of these, or for none. None is
#: longer than callers may be kept without a look.
PERIODS = (1.0, 10.0, 60.0)
#: Resets that fit a period before it is believed.
BELIEVED = 2
#: The instant of a reset is narrowed down to so many seconds.
SHARP = 0.25
#: So many windows in a row end before the limit is reached; then it is tried whether it still is where it was.
TRUSTED = 4


class Allowance:
    """What the server last told: so many calls until an instant. Nothing told: no bound."""

    __slots__ = ("_left", "started", "until")

    def __init__(self) -> None:
        self._left = 0.0
        self.until = NEVER
        self.started = 0  # calls so far

    def tell(self, now: float, remaining: float, reset: float, started: int) -> None:
        """An answer said that `remaining` calls are left for `reset` seconds; `started` calls had started before its
        own. Those after it are taken off, for it may not know of them."""
        if reset <= FARTHEST:
            self._left = remaining - (self.started - started - 1)
            self.until = now + reset

    def lift(self) -> None:
        """What was told is forgotten."""
        self.until = NEVER

    def take(self) -> None:
        """A call starts."""
        self.started += 1
        self._left -= 1

    def ready_at(self, now: float) -> float:
        """When a call may start: `now`, or when there are calls again."""
        return self.until if self._left < 1 and now < self.until else now


class FixedWindows:
    """The windows of a limit, learned from when refused callers were let in again.

    Each reset lies between the last probe that was refused and the one that was let in. Where the resets fit one of
    `PERIODS`, the next one is foreseen, and its instant is narrowed down by a probe in the middle of what is possible.
    Where the windows also let in the same number of calls each, that many are made and no more.
    """

    __slots__ = ("_closed_at", "_count", "_early", "_fits", "_full", "_last_count", "_late", "_not_before", "_period",
                 "_trusted")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Nothing is known of windows."""
        self._period: float | None = None
        self._fits = 0  # resets that fitted the period
        self._early = self._late = NEVER  # the last reset lay between these
        self._closed_at = self._not_before = NEVER  # the first and the last refusal since: the next one is after it
        self._count = 0  # calls let in since the last reset
        self._last_count = 0  # in the window before
        self._full: int | None = None  # how many a window lets in, as far as known
        self._trusted = 0  # windows that ended at that number by themselves

    def unbind(self) -> None:
        """The window that runs may let in any number: what it was seen to let in is forgotten."""
        self._full = None

    def take(self) -> None:
        """A call starts."""
        self._count += 1

    def give_back(self) -> None:
        """A call was refused: it did not count."""
        self._count -= 1

    def used_up(self) -> bool:
        """The window that runs has let in all that it does."""
        return self._full is not None and self._count >= self._full

    def closed(self, now: float) -> None:
        """The account has no calls left at this instant."""
        self._not_before = max(self._not_before, now)
        if self._closed_at == NEVER:
            self._closed_at = now

    def opened(self, at: float) -> None:
        """A call that started at `at` was let in after others had been refused."""
        early, late = self._not_before, at
        if (self._period is not None and self._fits >= BELIEVED
                and self._closed_at - self._late > self._period):  # a lull of some windows
            passed = self._period * math.floor((self._closed_at - self._late) / self._period)
            self._early, self._late = self._early + passed, self._late + passed
        self._closed_at = NEVER
        fitting = self._period if self._fits_in(self._period, early, late) else next(
            (period for period in PERIODS if self._fits_in(period, early, late)), None)
        self._fits = self._fits + 1 if fitting is not None and fitting == self._period else int(fitting is not None)
        self._period = fitting
        if fitting is not None:
            early, late = max(early, self._early + fitting), min(late, self._late + fitting)
        self._early, self._late = early, late
        before, count = self._last_count, self._count - 1  # the call that was let in belongs to the next window
        least = min(count, before)
        same = self._fits >= BELIEVED and least > 0 and abs(count - before) <= 1 + 0.02 * before
        self._trusted = self._trusted + 1 if self._full is not None and same else 0
        self._full = least if same and self._trusted < TRUSTED else None
        self._last_count, self._count = count, 1

    def next_probe(self, now: float) -> float | None:
        """When to ask whether the window has ended; None where nothing is known of it."""
        if self._period is None or self._fits < BELIEVED:
            return None
        early, late = max(self._early + self._period, self._not_before), self._late + self._period
        middle = (early + late) / 2
        if late - early > SHARP and now < middle:
            return middle
        return late if now < late else None

    def _fits_in(self, period: float | None, early: float, late: float) -> bool:
        return (period is not None and self._late > NEVER
                and max(early, self._early + period) <= min(late, self._late + period))
