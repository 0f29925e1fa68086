"""Which ceiling keeps a measure at its target: the controller behind `steer`, pure state that is told the time.

The measure rises with the rate of calls, nobody knows how steeply, and it tells late: it is a mean over a window that
has passed. So there is one bounded step, then a wait until the whole window lies behind it, then a look:

- a step is proportional to log(measure / target), within the bounds of a step, and none within the tolerance;
- a step across the target is half as bold as those before it, one more in the same direction a quarter bolder: however
  steep the server is, the steps end up small;
- up only where the ceiling is what limits, else it would climb unused and bind too late;
- down, where there is no ceiling yet, from the rate that calls have; where calls hardly overlap, it is not their load.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

#: The ceiling limits where calls start at this share of it.
LIMITS = 0.85
#: What the boldness of steps is multiplied by after one across the target, after one more in the same direction or a
#: window at the target, and the least that it comes to.
ACROSS, ALONG, LEAST_BOLD = 0.5, 1.25, 0.1
#: States of the pace in which the measure says nothing of the rate, and for a whole window after.
NO_VERDICT = ("cold", "paused", "exhausted")

SETTLING = "the last change has yet to show"
AT_TARGET = "at the target"
TOO_SLOW, QUICK = "above the target", "below the target"
UNUSED = "the ceiling is not what limits"
AT_LEAST, AT_MOST = "the ceiling is at its least", "the ceiling is at its most"
ONE_BY_ONE = "above the target, but hardly two calls are in flight at once"
OTHER_REASONS = "the pace is {state}"


@dataclass(frozen=True, slots=True)
class Aim:
    """Where to, and how: `target` of the measure, `tolerance` as a share of it, `window` that it averages over, in
    seconds, `down` and `up` the most that one step multiplies the ceiling by, `least` and `most` calls a second."""

    target: float
    tolerance: float = 0.1
    window: float = 60.0
    down: float = 0.7
    up: float = 1.2
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What the pace looks like: its ceiling in calls a second, how many calls have started, its state, their latency in
    seconds (None: not known)."""

    ceiling: float | None
    started: int
    state: str = "steady"
    latency: float | None = None


class Steering:
    """Asked at each look at the measure. `why` says what it does at present, `downs` and `ups` count its steps."""

    def __init__(self, aim: Aim) -> None:
        self._aim = aim
        self._starts: deque[tuple[float, int]] = deque()  # instants, and how many calls had started
        self._ceiling: float | None = None  # as it was left
        self._settled_at: float | None = None
        self._bold = 1.0  # a factor of each step, in logarithms
        self._bolder_at = -math.inf
        self._direction = 0.0  # of the last one, as a sign
        self.downs = self.ups = 0
        self.why = SETTLING

    def look(self, now: float, seen: Seen) -> None:
        """To be told at each look, with a measure or without."""
        self._starts.append((now, seen.started))
        if self._settled_at is None or seen.ceiling != self._ceiling or seen.state in NO_VERDICT:
            self._settle(now, seen)
        settles = self._settling_time(seen)
        while len(self._starts) > 2 and self._starts[1][0] <= now - settles:
            self._starts.popleft()
        self._ceiling = seen.ceiling

    def step(self, now: float, measure: float, seen: Seen) -> float | None:
        """The ceiling to be set, in calls a second, or None to leave it. After `look`, where there is a measure."""
        if self._settled_at is None or now < self._settled_at:
            self.why = SETTLING if seen.state not in NO_VERDICT else OTHER_REASONS.format(state=seen.state)
            return None
        error = math.log(measure / self._aim.target)
        if abs(error) <= math.log1p(self._aim.tolerance):
            if now >= self._bolder_at:
                self._bold, self._bolder_at = self._bolder(), now + self._settling_time(seen)
            self.why = AT_TARGET
            return None
        new = self._lower(error, seen) if error > 0 else self._raise(error, seen)
        if new is None:
            return None
        self._ceiling = new
        if error < 0 or (self.rate() or 0.0) >= LIMITS * new:  # else it changes nothing yet
            self._settle(now, seen)
        return new

    def rate(self) -> float | None:
        """Starts a second, as long as it has settled; None: not known yet."""
        (began, before), (ended, after) = self._starts[0], self._starts[-1]
        return (after - before) / (ended - began) if ended > began else None

    def _lower(self, error: float, seen: Seen) -> float | None:
        rate = self.rate()
        if seen.state == "holding" or rate is None:  # a refusal: it is down already
            self.why = OTHER_REASONS.format(state=seen.state)
            return None
        alone = 1 / seen.latency if seen.latency else 0.0
        if self._aim.least is None and rate <= alone:
            self.why = ONE_BY_ONE
            return None
        least = alone if self._aim.least is None else self._aim.least
        if seen.ceiling is not None and seen.ceiling <= least:
            self.why = AT_LEAST
            return None
        base = rate if seen.ceiling is None else seen.ceiling
        new = max(least, base * self._factor(-error, math.log(self._aim.down)))
        self.downs += 1
        self.why = TOO_SLOW
        return new

    def _raise(self, error: float, seen: Seen) -> float | None:
        rate = self.rate()
        if seen.ceiling is None or rate is None or rate < LIMITS * seen.ceiling:
            self.why = UNUSED
            return None
        if self._aim.most is not None and seen.ceiling >= self._aim.most:
            self.why = AT_MOST
            return None
        new = min(seen.ceiling * self._factor(-error, math.log(self._aim.up)), self._aim.most or math.inf)
        self.ups += 1
        self.why = QUICK
        return new

    def _factor(self, wanted: float, most: float) -> float:
        """Of one step: `wanted` and `most` are logarithms of the same sign."""
        direction = math.copysign(1.0, most)
        self._bold = max(LEAST_BOLD, self._bold * ACROSS) if direction * self._direction < 0 else self._bolder()
        self._direction = direction
        return math.exp(self._bold * direction * min(abs(wanted), abs(most)))

    def _bolder(self) -> float:
        return min(1.0, self._bold * ALONG)

    def _settle(self, now: float, seen: Seen) -> None:
        self._settled_at = self._bolder_at = now + self._settling_time(seen)
        while len(self._starts) > 1:  # the rate under the ceiling before says nothing of the one to come
            self._starts.popleft()

    def _settling_time(self, seen: Seen) -> float:
        """Seconds until the measure is one of calls that started after this instant."""
        return self._aim.window + min(seen.latency or 0.0, self._aim.window)
