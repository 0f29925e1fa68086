"""Gauges of what policies show: read at each scrape, or, where several processes share them, pushed as calls end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from llm_guard import clock
from llm_guard.fork import renew_after_fork
from llm_guard.state.alarm import alarm
from llm_guard.telemetry.exporter import Exporter
from llm_guard.telemetry.readings import MEASURES, Measure, read

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Gauge
    from prometheus_client.core import GaugeMetricFamily

#: Seconds between two pushes at least.
EVERY = 1.0


def register_scraped(exporter: Exporter, client: Any, registry: CollectorRegistry, prefix: str) -> Callable[[], None]:
    """Has the registry read the gauges whenever it is scraped. Returns what ends that."""
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector

    def families() -> dict[Measure, GaugeMetricFamily]:
        return {measure: GaugeMetricFamily(f"{prefix}_{measure.name}", measure.means,
                                           labels=["function", *measure.labels]) for measure in MEASURES}

    class Scraped(Collector):
        def collect(self) -> Iterator[GaugeMetricFamily]:
            found = families()
            try:
                for reading in read(exporter.functions()):
                    found[reading.measure].add_metric([reading.function, *reading.labels], reading.value)
            except Exception as error:
                exporter.broke(error)
            yield from found.values()

        def describe(self) -> list[GaugeMetricFamily]:
            return list(families().values())

    collector = Scraped()
    registry.register(collector)

    def unregister() -> None:
        with contextlib.suppress(KeyError):  # again
            registry.unregister(collector)

    return unregister


class Pushed:
    """Sets the gauges of this process: at once when a second has passed since the last time, else when it has.

    So the last change shows within a second, though nobody calls any more; a process where nothing happens does
    nothing.
    """

    def __init__(self, exporter: Exporter, client: Any, registry: CollectorRegistry, prefix: str) -> None:
        self._exporter = exporter
        self._gauges: dict[Measure, Gauge] = {
            measure: client.Gauge(f"{prefix}_{measure.name}", measure.means, ["function", *measure.labels],
                                  registry=registry, multiprocess_mode="livesum") for measure in MEASURES}
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._due_at = 0.0
        self._is_set = False

    def due(self, now: float) -> None:
        """Something happened."""
        if self._is_set:
            return
        self._is_set = True
        alarm().at(max(now, self._due_at), self._push)

    def _push(self) -> None:
        self._is_set = False  # before it reads: what happens from now on is for the next time
        self._due_at = clock.current().now() + EVERY
        try:
            for reading in read(self._exporter.functions()):
                self._gauges[reading.measure].labels(reading.function, *reading.labels).set(reading.value)
        except Exception as error:
            self._exporter.broke(error)
