"""A measure that others take: what a source gave, and whether it can still be relied on. Pure state, told the time."""

from __future__ import annotations

import math
from numbers import Real

from llm_guard.errors import GuardError


class NoMeasure(GuardError):
    """The source has no value to go by; the text says why, and holds no secret: it goes into the log."""


def value_of(given: object, wall: float, stale_after: float) -> float:
    """The measure that a source gave: a number, or a pair of it and its Unix time; NoMeasure where it is none.

    `wall` is the time of day, in seconds since the epoch; what is `stale_after` seconds old is no measure any more.
    """
    value, at = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
    if value is None:
        raise NoMeasure("no data")
    if isinstance(value, bool) or not isinstance(value, Real):
        raise NoMeasure(f"{type(value).__name__} where a number is needed")
    found = float(value)
    if not 0 < found < math.inf:
        raise NoMeasure("not a number" if math.isnan(found) else f"{found:g}, where a measure is above 0 and finite")
    if at is not None:
        if isinstance(at, bool) or not isinstance(at, Real):
            raise NoMeasure("a time that is no number of seconds since the epoch")
        age = wall - float(at)
        if not age <= stale_after:
            raise NoMeasure(f"the newest sample is {age:.0f} s old")
    return found


class Freshness:
    """Whether the measure is "waiting" for the first value, "steering" by it, or gone: "holding".

    One read that fails says nothing; only where none has come for `stale_after` seconds the measure is gone.
    """

    def __init__(self, stale_after: float, now: float) -> None:
        self._stale_after = stale_after
        self._asked_since = now
        self.state = "waiting"
        self.measure: float | None = None
        self.fresh_at: float | None = None

    def fresh(self, now: float, measure: float) -> str:
        """A value came. Returns the state before it."""
        before, self.state = self.state, "steering"
        self.measure, self.fresh_at = measure, now
        return before

    def missing(self, now: float) -> bool:
        """No value came. Whether the measure is gone from now on."""
        last = self._asked_since if self.fresh_at is None else max(self.fresh_at, self._asked_since)
        if self.state == "holding" or now - last < self._stale_after:
            return False
        self.state = "holding"
        return True

    def not_asked(self, now: float) -> None:
        """There was no reason to ask: that does not count as missing."""
        if self.state != "holding":
            self._asked_since = now
