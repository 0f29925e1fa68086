"""How long the next item of a stream may take, as pure state that is told the time.

Only the seconds count in which the stream is waited for. What its consumer does between two items is the consumer's own
time: it brings no bound nearer and is no part of what the stream took.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from llm_guard.errors import CallTimeout

_WORDS = {"first_item": "no first item within {:.3g} s", "idle": "no further item within {:.3g} s",
          "total": "no end within {:.3g} s", "deadline": "no end before the deadline, {:.3g} s after the call began"}


class Bounds(NamedTuple):
    """Seconds that a stream may take in all, to its first item, and between two items; infinity: as long as it does."""

    total: float = math.inf
    first_item: float = math.inf
    idle: float = math.inf


class Limit(NamedTuple):
    """The bound that is reached first: in `within` seconds, its `name`, and the `seconds` that it was set to."""

    within: float
    name: str
    seconds: float

    def error(self, *, still_running: bool) -> CallTimeout:
        """What to raise when it is reached."""
        return CallTimeout(_WORDS[self.name].format(self.seconds), seconds=self.seconds, still_running=still_running,
                           bound=self.name)


UNLIMITED = Limit(math.inf, "total", math.inf)


class StreamTime:
    """The time of one attempt, which started at the instant `started`; its call began at `began`.

    `call` are the bounds counted from `began`, `attempt` those of this attempt, from `started`. `took` is for how many
    seconds it was waited for, `first_item` for how many until its first item came (None: it has not come).
    """

    __slots__ = ("_asked_at", "_began", "_endless", "_first", "_idle", "_left_at", "_total", "_total_at", "first_item",
                 "took")

    def __init__(self, began: float, started: float, call: Bounds, attempt: Bounds) -> None:
        self._began = began
        self._total_at, self._total = min((began + call.total, call.total), (started + attempt.total, attempt.total))
        self._first = min((began + call.first_item, call.first_item),
                          (started + attempt.first_item, attempt.first_item))
        self._idle = min(call.idle, attempt.idle)
        self._endless = call == attempt == Bounds()
        self._asked_at = self._left_at = started
        self.took = 0.0
        self.first_item: float | None = None

    def ask(self, now: float, deadline: float) -> Limit:
        """The consumer waits from now on: what bounds that. `deadline` is an instant that no pause puts off."""
        self._asked_at = now
        if self._endless and deadline == math.inf:
            return UNLIMITED
        self._total_at += now - self._left_at
        if self.first_item is None:
            at, seconds = self._first
            own = Limit(at - now, "first_item", seconds)
        else:
            own = Limit(self._idle, "idle", self._idle)
        return min(own, Limit(self._total_at - now, "total", self._total),
                   Limit(deadline - now, "deadline", deadline - self._began))

    def deadline(self, deadline: float) -> float:
        """The instant to hand down to what makes the item that is waited for."""
        return min(deadline, self._total_at)

    def stop(self, now: float) -> None:
        """The wait is over, in whatever way."""
        self._left_at = now
        self.took += now - self._asked_at

    def item(self, now: float) -> None:
        """The wait is over: an item came."""
        self.stop(now)
        if self.first_item is None:
            self.first_item = self.took
