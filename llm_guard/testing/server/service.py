"""How long a server works on each call."""

from __future__ import annotations

import math
from random import Random

from llm_guard.testing.server.settings import Scenario


class Service:
    """Draws the seconds that calls take, one after the other; `begun` counts them, `length` is how many times as long
    as usual the answer to the last one is."""

    def __init__(self, scenario: Scenario, random: Random) -> None:
        self._scenario = scenario
        self._random = random
        self.begun = 0
        self.length = 1.0

    def begin(self, now: float) -> float:
        """Work on one more call begins: the seconds that it will take."""
        scenario = self._scenario
        seconds = scenario.median * math.exp(self._random.gauss(0, scenario.sigma))
        self.length = self._drawn_length() * self._longer(now)
        seconds *= self.length
        if scenario.slow is not None and self._random.random() < scenario.slow.share:
            seconds = scenario.slow.seconds
        if scenario.warm_up is not None:
            seconds *= 1 + scenario.warm_up.extra * math.exp(-5 * self.begun / scenario.warm_up.calls)
        self.begun += 1
        return seconds

    def _drawn_length(self) -> float:
        """How many times as long as usual this call's answer is."""
        if not self._scenario.lengths:
            return 1.0  # nothing is drawn: the other servers' chance stays as it is
        drawn = self._random.random()
        for share, factor in self._scenario.lengths:
            drawn -= share
            if drawn < 0:
                return factor
        return 1.0

    def _longer(self, now: float) -> float:
        return next((factor for since, factor in reversed(self._scenario.longer) if now >= since), 1.0)
