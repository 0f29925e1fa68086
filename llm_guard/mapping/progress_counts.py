"""What a mapping's progress is made of: counters that are told what happens and when. Pure: no lock, no clock."""

from __future__ import annotations

from collections import Counter

from llm_guard.mapping.progress import Progress, Standing
from llm_guard.mapping.progress_latency import Latencies
from llm_guard.mapping.progress_rate import Rate
from llm_guard.outcome import Kind

#: Seconds: the end is estimated by what came in about twice this time.
STEADILY = 30.0
#: An estimate of the end by fewer items is a guess.
ENOUGH = 3
#: More reasons than these are "others": names of classes may be made by the thousand.
REASONS = 50
OTHERS = "others"


class Counts:
    """Of one mapping that begins `now`. `guarded`: its attempts are told of; else each item is taken for one."""

    def __init__(self, now: float, *, total: int | None = None, guarded: bool = False) -> None:
        self._began = now
        self.total = total
        self.guarded = guarded
        self.taken = 0  # items that a worker has
        self.running = 0  # attempts
        self._succeeded = self._failed = self._recorded = 0
        self._attempts = self._retries = 0
        self._answers = 0  # of success, the usual outcome, for which hashing an enum's member would take longest
        self._outcomes: Counter[Kind] = Counter()  # the others
        self._failures: Counter[str] = Counter()
        self._latencies = Latencies()
        self._lately = Rate(now)
        self._steadily: Rate | None = None  # from the first item on: the time in which a model loads does not come back
        self._looked = now
        self._called = self._known = 0  # items that were called and ended: in all, and when it was last looked

    def took(self) -> None:
        """A worker begins with an item."""
        self.taken += 1

    def attempt_started(self, attempt: int) -> None:
        """The `attempt`-th of its item, from 1."""
        self.guarded = True
        self.running += 1
        self._attempts += 1
        self._retries += attempt > 1

    def attempt_ended(self, kind: Kind, seconds: float) -> None:
        self.running -= 1
        self._outcome(kind, seconds)

    def unguarded(self, good: bool, seconds: float) -> None:
        """An item came to its end of which no attempt was told: it was one."""
        self._attempts += 1
        self._outcome(Kind.SUCCESS if good else Kind.FAILURE, seconds)

    def _outcome(self, kind: Kind, seconds: float) -> None:
        if kind is Kind.SUCCESS:
            self._answers += 1
            self._latencies.add(seconds)
        else:
            self._outcomes[kind] += 1

    def ended(self, failure: str | None) -> None:
        """A worker is done with an item; `failure`: why it failed."""
        self.taken -= 1
        self._called += 1
        self._end(failure)

    def recalled(self, failure: str | None = None) -> None:
        """An item's end was found in the journal: it is not called."""
        self._recorded += 1
        self._end(failure)

    def _end(self, failure: str | None) -> None:
        if failure is None:
            self._succeeded += 1
            return
        self._failed += 1
        known = failure in self._failures or len(self._failures) < REASONS
        self._failures[failure if known else OTHERS] += 1

    def at(self, now: float, wall: float, standing: Standing | None = None, *, over: bool = False) -> Progress:
        """All of it as of this instant, which is not before the one asked for last."""
        new, self._known = self._called - self._known, self._called
        self._lately.add(new, now)
        if self._steadily is None and new:
            self._steadily = Rate(self._looked, STEADILY)
        if self._steadily is not None:
            self._steadily.add(new, now)
        self._looked = now
        if over:  # what was given up does not tell of its end
            self.taken = self.running = 0
        return Progress(
            wall, now - self._began, self.total, self._succeeded, self._failed, self._recorded,
            self.running if self.guarded else self.taken, max(0, self.taken - self.running) if self.guarded else None,
            self._attempts, self._retries, self._lately.a_second(), None if over else self._eta(wall, standing),
            self._all_outcomes(), dict(self._failures), self._latencies.percentiles(), standing, over)

    def _all_outcomes(self) -> dict[Kind, int]:
        return {**({Kind.SUCCESS: self._answers} if self._answers else {}), **self._outcomes}

    def _eta(self, wall: float, standing: Standing | None) -> float | None:
        done = self._succeeded + self._failed
        if self.total is None or self._steadily is None or self._called < ENOUGH:
            return None
        rate = self._steadily.a_second()
        if rate <= 0 or (standing is not None and standing.state == "exhausted"):
            return None
        pause = 0.0
        if standing is not None and standing.paused_until is not None:
            pause = max(0.0, standing.paused_until - wall)
        return pause + max(0, self.total - done) / rate
