"""Why an account is refused: a bucket, a fixed window, a quota, a bound on growth. Each is told the time of a call."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple, Protocol

from llm_guard.testing.server.settings import BucketLimit, GrowthLimit, Quota, WindowLimit


class Left(NamedTuple):
    """What an account is told that it has left: so many `calls` now, and all of them again in `seconds`."""

    calls: int
    seconds: float


class AccountLimit(Protocol):
    """Counts the calls of one account."""

    def allows(self, now: float) -> bool:
        """Whether a call would be let in now; changes nothing that counts."""

    def take(self, now: float) -> None:
        """A call was let in."""

    def refuse(self, now: float) -> float | None:
        """A call was refused: the wait to tell it, in seconds, or None where this server tells none."""


class RateLimit(AccountLimit, Protocol):
    """One that may tell what is left."""

    def left(self, now: float) -> Left | None:
        """What answers tell at this moment; None where they tell nothing."""


class Bucket:
    """A token bucket that may charge refused calls too."""

    def __init__(self, settings: BucketLimit) -> None:
        self._settings = settings
        self._level = settings.burst
        self._filled = 0.0
        self._rate = settings.rate
        self._changes = list(reversed(settings.changes))

    def allows(self, now: float) -> bool:
        while self._changes and self._changes[-1][0] <= now:
            at, rate = self._changes.pop()
            self._fill(at)
            self._rate = rate
        self._fill(now)
        return self._level >= 1.0 - 1e-9  # a client that waits just as long as it was told is in time

    def take(self, now: float) -> None:
        self._level -= 1.0

    def refuse(self, now: float) -> float | None:
        self._level = max(self._settings.floor, self._level - self._settings.refused_cost)
        return (1.0 - self._level) / self._rate if self._settings.retry_after else None

    def left(self, now: float) -> Left | None:
        if not self._settings.remaining:
            return None
        self.allows(now)
        return Left(max(0, math.floor(self._level + 1e-9)), (self._settings.burst - self._level) / self._rate)

    def _fill(self, now: float) -> None:
        self._level = min(self._settings.burst, self._level + (now - self._filled) * self._rate)
        self._filled = now


class Window:
    """So many calls in each fixed window."""

    def __init__(self, settings: WindowLimit) -> None:
        self._settings = settings
        self._window = 0
        self._taken = 0
        self._calls = settings.calls
        self._changes = list(reversed(settings.changes))

    def allows(self, now: float) -> bool:
        while self._changes and self._changes[-1][0] <= now:
            self._calls = self._changes.pop()[1]
        window = math.floor(now / self._settings.seconds + 1e-9)
        if window != self._window:
            self._window, self._taken = window, 0
        return self._taken < self._calls

    def take(self, now: float) -> None:
        self._taken += 1

    def refuse(self, now: float) -> float | None:
        return (self._window + 1) * self._settings.seconds - now if self._settings.retry_after else None

    def left(self, now: float) -> Left | None:
        if not self._settings.remaining:
            return None
        self.allows(now)
        return Left(max(0, self._calls - self._taken), (self._window + 1) * self._settings.seconds - now)


class Allowance:
    """So many calls, and then none until the quota is renewed."""

    def __init__(self, settings: Quota) -> None:
        self._settings = settings
        self._taken = 0
        self._renews_at = math.inf

    @property
    def for_good(self) -> bool:
        """No call will ever be let in again."""
        return self._taken >= self._settings.calls and self._renews_at == math.inf

    def allows(self, now: float) -> bool:
        if now >= self._renews_at - 1e-9:
            self._taken, self._renews_at = 0, math.inf
        return self._taken < self._settings.calls

    def take(self, now: float) -> None:
        self._taken += 1
        if self._taken >= self._settings.calls and self._settings.renews_after is not None:
            self._renews_at = now + self._settings.renews_after

    def refuse(self, now: float) -> float | None:
        return self._settings.retry_after


class Growth:
    """Lets in no more than the recent past allows to grow to."""

    def __init__(self, settings: GrowthLimit) -> None:
        self._settings = settings
        self._recent: deque[float] = deque()  # accepted within the span
        self._before: deque[float] = deque()  # accepted within the history that precedes it

    def allows(self, now: float) -> bool:
        settings = self._settings
        while self._recent and self._recent[0] <= now - settings.span:
            self._before.append(self._recent.popleft())
        while self._before and self._before[0] <= now - settings.span - settings.history:
            self._before.popleft()
        mean = len(self._before) * settings.span / settings.history
        return len(self._recent) + 1 <= max(settings.least, settings.factor * mean)

    def take(self, now: float) -> None:
        self._recent.append(now)

    def refuse(self, now: float) -> float | None:
        return self._settings.retry_after


def account_limit(settings: BucketLimit | WindowLimit | None) -> RateLimit | None:
    """The limit that the settings describe, not yet used."""
    match settings:
        case BucketLimit():
            return Bucket(settings)
        case WindowLimit():
            return Window(settings)
    return None
