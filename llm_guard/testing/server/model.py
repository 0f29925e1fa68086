"""A server as arithmetic: calls arrive, wait, are worked on and end, at instants that somebody else tells.

No thread, no clock, no lock. Whoever drives it tells the time of each arrival, asks when the next thing happens, and
comes back then: in virtual time or in real time.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from random import Random
from typing import NamedTuple

from llm_guard.testing.server.capacity import Capacity
from llm_guard.testing.server.limits import Allowance, Growth, Left, account_limit
from llm_guard.testing.server.loading import Loading
from llm_guard.testing.server.service import Service
from llm_guard.testing.server.settings import Scenario
from llm_guard.testing.server.stats import Reason, Stats

#: A refusal is answered in this time, in seconds.
REFUSAL_SECONDS = 0.03
# A free slot takes the next of the queue this much later: who calls again at once meets the queue as it was, and is
# refused where it is full. So those inside do not keep their places against those who come back after a refusal.
_MOVES_UP_AFTER = 0.001


class Refusal(NamedTuple):
    """`hint` is the wait that the server tells, in seconds, or None."""

    reason: Reason
    hint: float | None = None


class Finished(NamedTuple):
    """A call that was accepted ended at the instant `at`; not `ok`: with a 500. Its answer was `length` times as long
    as usual."""

    call: int
    ok: bool
    at: float
    length: float = 1.0


class Started(NamedTuple):
    """Work on an accepted call began at the instant `at`, and will end at `ends`; not `ok`: with a 500."""

    call: int
    at: float
    ends: float
    ok: bool


class ServerModel:
    """One server. Instants are seconds since its first call and never go back.

    All chance comes from `random`, in one stream for each use: how long services take and how capacity wanders do not
    depend on how clients behave.
    """

    def __init__(self, scenario: Scenario, random: Random) -> None:
        self.scenario = scenario
        self.stats = Stats()
        services, self._noise, loads, wanders = (Random(random.getrandbits(64)) for _ in range(4))
        self._service = Service(scenario, services)
        self._loading = Loading(scenario.load, loads)
        self._capacity = Capacity(scenario, wanders)
        self._limit = account_limit(scenario.limit)
        self._quota = Allowance(scenario.quota) if scenario.quota else None
        self._growth = Growth(scenario.growth) if scenario.growth else None
        self._queue: deque[int] = deque()
        # A heap: ends at, started as which, call, ok, length.
        self._running: list[tuple[float, int, int, bool, float]] = []
        self._moves_up_at = math.inf
        self._finished: list[Finished] = []
        self._started: list[Started] = []

    def arrive(self, now: float, call: int) -> Refusal | None:
        """A call arrives, by a name of its own. None: it is accepted, and `advance` will tell of its end."""
        self._run(now)
        refusal = self._refusal(now)
        if refusal is not None:
            self.stats.refused(now, refusal.reason)
            return refusal
        for limit in (self._quota, self._limit, self._growth):
            if limit is not None:
                limit.take(now)
        self._queue.append(call)
        self.stats.accepted(now)
        if len(self._queue) == 1:
            self._fill(now)
        return None

    def advance(self, now: float) -> list[Finished]:
        """Lets time pass until `now`; the calls that ended since it was last asked, in order."""
        self._run(now)
        finished, self._finished = self._finished, []
        return finished

    def started(self) -> list[Started]:
        """The calls that work began on since it was last asked, in order."""
        started, self._started = self._started, []
        return started

    def leave(self, now: float, call: int) -> None:
        """The server drops an accepted call whose caller is gone: its slot, or its place in the queue, is free."""
        self._run(now)
        if call in self._queue:
            self._queue.remove(call)
        else:
            running = [work for work in self._running if work[2] != call]
            if len(running) == len(self._running):
                return  # it had ended
            heapq.heapify(running)
            self._running = running
        self.stats.left(now)
        self._freed(now)

    def next_event(self) -> float | None:
        """When next something happens that may end a call. None while no call is inside."""
        return self._next() if self._running or self._queue else None

    def would_serve(self, now: float) -> bool:
        """Whether a call that arrived now would be worked on at once."""
        self._run(now)
        return (self._loading.ready and self._capacity.up
                and not self._queue and len(self._running) < self._capacity.slots
                and (self._quota is None or self._quota.allows(now))
                and (self._limit is None or self._limit.allows(now))
                and (self._growth is None or self._growth.allows(now)))

    def is_used_up(self) -> bool:
        """Whether the account's quota is used up and never comes back, so that no call will be accepted any more."""
        return self._quota is not None and self._quota.for_good

    def left(self, now: float) -> Left | None:
        """What an answer that leaves now tells of the account's rate; None where this server tells nothing."""
        return None if self._limit is None else self._limit.left(now)

    def is_cold(self, now: float) -> bool:
        """Whether nobody has asked for the model yet, so that it does not even load."""
        self._run(now)
        return self._loading.cold

    def _refusal(self, now: float) -> Refusal | None:
        # In the order in which a call meets them: the line, the gateway, the model, its queue.
        if not self._capacity.up:
            return Refusal(Reason.CONNECTION)
        if self._quota is not None and not self._quota.allows(now):
            return Refusal(Reason.QUOTA, self._quota.refuse(now))
        if self._limit is not None and not self._limit.allows(now):
            return Refusal(Reason.LIMITED, self._limit.refuse(now))
        self._loading.ask(now)
        room: float | None = self.scenario.queue
        if not self._loading.ready:
            if not self._loading.holds:
                return Refusal(Reason.LOADING, self._loading.estimate(now))
            room = self._loading.holds
        elif not self._queue and len(self._running) < self._capacity.slots:
            room = None
        if room is not None and len(self._queue) >= room:
            return Refusal(Reason.OVERLOAD)
        if self._growth is not None and not self._growth.allows(now):
            return Refusal(Reason.GROWTH, self._growth.refuse(now))
        return None

    def _next(self) -> float:
        ends = self._running[0][0] if self._running else math.inf
        return min(ends, self._moves_up_at, self._loading.next_event(), self._capacity.next_event())

    def _run(self, now: float) -> None:
        while (at := self._next()) <= now:
            if self._running and self._running[0][0] <= at:
                self._finish(at)
            else:
                was_ready = self._loading.ready
                self._loading.tick(at)
                if was_ready and not self._loading.ready:
                    self._capacity.unload()
                self._capacity.tick(at)
                self._fill(at)

    def _finish(self, now: float) -> None:
        _, _, call, ok, length = heapq.heappop(self._running)
        self._finished.append(Finished(call, ok, now, length))
        self.stats.finished(now, ok)
        self._freed(now)

    def _freed(self, now: float) -> None:
        if self._queue:
            self._moves_up_at = min(self._moves_up_at, now + _MOVES_UP_AFTER)
        else:
            self._observe(now)

    def _fill(self, now: float) -> None:
        """Starts the work on those who wait, as far as there are slots."""
        self._moves_up_at = math.inf
        while self._queue and self._loading.ready and len(self._running) < self._capacity.slots:
            ok = self._noise.random() >= self.scenario.noise
            seconds = self._service.begin(now)
            call = self._queue.popleft()
            heapq.heappush(self._running, (now + seconds, self._service.begun, call, ok, self._service.length))
            self._started.append(Started(call, now, now + seconds, ok))
        self._observe(now)

    def _observe(self, now: float) -> None:
        self._capacity.observe(now, len(self._running))
        self._loading.observe(now, len(self._running) + len(self._queue))
