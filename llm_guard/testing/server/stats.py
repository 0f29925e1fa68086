"""What a server saw: counts, and a timeline that stays small however long it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

_MOST_BUCKETS = 2048


class Reason(Enum):
    """Why a call was refused."""

    LOADING = "loading"
    LIMITED = "limited"  # the account's rate
    QUOTA = "quota"  # the account is used up
    GROWTH = "growth"  # the account's traffic grew too fast
    OVERLOAD = "overload"  # the queue is full
    CONNECTION = "connection"  # nobody answered


class Timeline:
    """Samples in buckets of fixed width, twice as wide each time there are too many of them.

    A sample is [start of the bucket, most in flight within it, answered, refused].
    """

    def __init__(self, width: float = 0.5) -> None:
        self.width = width
        self.samples: list[tuple[float, int, int, int]] = []
        self._in_flight = 0

    def record(self, now: float, in_flight: int, *, answered: int = 0, refused: int = 0) -> None:
        """Adds to the bucket of `now`, which never goes back."""
        while now >= self.width * _MOST_BUCKETS:
            self._coarsen()
        while len(self.samples) <= int(now / self.width):
            self.samples.append((len(self.samples) * self.width, self._in_flight, 0, 0))
        start, most, answers, refusals = self.samples[-1]
        self.samples[-1] = (start, max(most, in_flight), answers + answered, refusals + refused)
        self._in_flight = in_flight

    def _coarsen(self) -> None:
        pairs = zip(self.samples[::2], [*self.samples[1::2], (0.0, 0, 0, 0)], strict=False)
        self.width *= 2
        self.samples = [(one[0], max(one[1], two[1]), one[2] + two[2], one[3] + two[3]) for one, two in pairs]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the server saw so far. `seconds` since its first call; a refusal counts under its reason.

    `timeline` has a sample for each bucket: (its start in seconds, most in flight, answered, refused). `abandoned`
    counts the calls that were dropped since their callers had gone.
    """

    calls: int
    in_flight: int
    peak_in_flight: int
    successes: int
    failures: int
    refusals: dict[str, int]
    seconds: float
    timeline: tuple[tuple[float, int, int, int], ...]
    abandoned: int = 0


@dataclass(slots=True)
class Stats:
    """`in_flight` counts the calls inside: held, queued and being worked on; `abandoned` those that were dropped."""

    calls: int = 0
    successes: int = 0
    failures: int = 0
    abandoned: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    refusals: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(Reason, 0))
    timeline: Timeline = field(default_factory=Timeline)

    def accepted(self, now: float) -> None:
        self.calls += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        self.timeline.record(now, self.in_flight)

    def refused(self, now: float, reason: Reason) -> None:
        self.calls += 1
        self.refusals[reason] += 1
        self.timeline.record(now, self.in_flight, refused=1)

    def finished(self, now: float, ok: bool) -> None:
        self.in_flight -= 1
        if ok:
            self.successes += 1
        else:
            self.failures += 1
        self.timeline.record(now, self.in_flight, answered=int(ok))

    def left(self, now: float) -> None:
        self.in_flight -= 1
        self.abandoned += 1
        self.timeline.record(now, self.in_flight)

    def snapshot(self, now: float, speed: float) -> Snapshot:
        """All of it at the instant `now`, its times as they are on a server that is `speed` times as fast."""
        timeline = tuple((start / speed, most, answered, refused)
                         for start, most, answered, refused in self.timeline.samples)
        return Snapshot(self.calls, self.in_flight, self.peak_in_flight, self.successes, self.failures,
                        {reason.value: count for reason, count in self.refusals.items()}, now / speed, timeline,
                        self.abandoned)
