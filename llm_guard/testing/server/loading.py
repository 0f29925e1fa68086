"""A model that is loaded when somebody asks for it, and unloaded when nobody does."""

from __future__ import annotations

import math
from random import Random

from llm_guard.testing.server.settings import Load


class Loading:
    """Cold, loading or ready; without settings it is always ready."""

    def __init__(self, settings: Load | None, random: Random) -> None:
        self._settings = settings
        self._random = random
        self._ready_at = math.inf
        self._idle_since: float | None = None
        self.ready = settings is None

    @property
    def cold(self) -> bool:
        """Neither loaded nor on the way to it."""
        return not self.ready and self._ready_at == math.inf

    @property
    def holds(self) -> int:
        """How many calls are held while it loads."""
        return self._settings.holds if self._settings else 0

    def ask(self, now: float) -> None:
        """A call wants the model: it begins to load where it is cold."""
        if self._settings is not None and self.cold:
            spread = self._settings.spread
            self._ready_at = now + self._settings.seconds * self._random.uniform(1 - spread, 1 + spread)

    def estimate(self, now: float) -> float | None:
        """What a refused call is told: the seconds that remain, wrong by up to a factor of two, or nothing."""
        if self._settings is None or self._random.random() < self._settings.estimate_absent:
            return None
        return (self._ready_at - now) * math.exp2(self._random.uniform(-1, 1))

    def observe(self, now: float, inside: int) -> None:
        """Tells how many calls are in the server."""
        if inside:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now

    def next_event(self) -> float:
        if self._settings is None:
            return math.inf
        if not self.ready:
            return self._ready_at
        return math.inf if self._idle_since is None else self._idle_since + self._settings.unload_after

    def tick(self, now: float) -> None:
        """Loads or unloads, where it is time."""
        if self.next_event() <= now:
            self.ready = not self.ready
            self._ready_at = math.inf
            self._idle_since = now if self.ready else None
