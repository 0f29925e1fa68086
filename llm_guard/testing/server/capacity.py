"""How many calls a server works on at once, as that changes: replicas, spells of weakness, a wandering share."""

from __future__ import annotations

import math
from random import Random

from llm_guard.testing.server.settings import Scenario


class Capacity:
    """`slots` holds from now until `next_event()`; `up` is False while no connection is accepted."""

    def __init__(self, scenario: Scenario, random: Random) -> None:
        self._scenario = scenario
        self._random = random
        self._replicas = 1
        self._joins_at = math.inf
        self._busy_since: float | None = None
        self._share = scenario.wander.mean if scenario.wander else 1.0
        self._wanders_at = scenario.wander.every if scenario.wander else math.inf
        self._turns = sorted({turn for spell in scenario.spells for turn in (spell.start, spell.end)}, reverse=True)
        self.up = True
        self.slots = 0.0
        self.tick(0.0)

    def observe(self, now: float, running: int) -> None:
        """Tells how many calls are being worked on; enough for long enough order one more replica."""
        scaling = self._scenario.scaling
        if scaling is None or self._replicas >= scaling.most or self._joins_at < math.inf:
            return
        if running < scaling.busy * self.slots:
            self._busy_since = None
        elif self._busy_since is None:
            self._busy_since = now

    def unload(self) -> None:
        """Back to one replica."""
        self._replicas, self._joins_at, self._busy_since = 1, math.inf, None

    def next_event(self) -> float:
        at = min(self._joins_at, self._wanders_at)
        if self._busy_since is not None and self._scenario.scaling is not None:
            at = min(at, self._busy_since + self._scenario.scaling.after)
        return min(at, self._turns[-1]) if self._turns else at

    def tick(self, now: float) -> None:
        """Brings `slots` and `up` up to date."""
        self._scale(now)
        wander = self._scenario.wander
        if wander is not None and now >= self._wanders_at:
            moved = self._share + (wander.mean - self._share) * wander.pull + self._random.gauss(0, wander.noise)
            self._share = min(wander.high, max(wander.low, moved))
            self._wanders_at += wander.every
        while self._turns and now >= self._turns[-1]:
            self._turns.pop()
        share = math.prod((spell.share for spell in self._scenario.spells if spell.start <= now < spell.end),
                          start=self._share)
        self.up = share > 0
        full = self._scenario.slots * self._replicas
        self.slots = full if math.isinf(full) else max(1, round(full * share))

    def _scale(self, now: float) -> None:
        scaling = self._scenario.scaling
        if scaling is None:
            return
        if now >= self._joins_at:
            self._replicas += 1
            self._joins_at = math.inf
        elif self._busy_since is not None and now >= self._busy_since + scaling.after:
            self._joins_at = now + scaling.takes
            self._busy_since = None
