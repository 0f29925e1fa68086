"""The package adaptive-concurrency: workers probed upwards one by one, cut where latency or failures say so.

The library's: `Controller`, which decides from the latency of each call and from failures how many workers there are,
with the settings of its README (2 workers at first, one item a batch, as many as there are threads at the most).

Not the library's: `run_adaptive`, which has threads and a clock of its own. Here a thread waits until fewer than
`workers` calls are in flight, and tells the controller of each end what that loop would. Gentler than the library: it
does not end the run after 8 failures in a row, which would end each that begins cold; who waits for the next try holds
no worker; and its `RateLimiter`, which shuts for 60 to 960 s at a 429, is left away, as in its first example.
"""

from __future__ import annotations

import adaptive_concurrency as library

from llm_guard.testing.simulation import Client, Setting, Strategy
from strategies.limits import End, Limit, limited
from strategies.tries import Retry, client


class Workers(Limit):
    """The controller's number of workers."""

    def __init__(self, most: int) -> None:
        config = library.AdaptiveConfig(workers=min(2, most), max_workers=most, batch_size=1)
        self.controller = library.Controller(config)

    def allowed(self, now: float) -> int:
        return self.controller.setting.workers

    def started(self) -> object:
        return self.controller.setting

    def ended(self, end: End) -> None:
        assert isinstance(end.mark, library.Setting)
        answered = end.error is None
        self.controller.observe(library.Observation(end.mark, 1, end.took, answered, size_fault=not answered))


def strategy(retry: Retry) -> Strategy:
    """The workers with that way to try again."""
    @Strategy
    def made(setting: Setting) -> Client:
        return client(setting, limited(Workers(setting.threads), setting.timeout), retry)

    return made
