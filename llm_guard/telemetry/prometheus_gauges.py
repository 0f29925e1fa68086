"""Gauges of what policies show: read at each scrape, or, where several processes share them, pushed as calls end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from llm_guard.telemetry.exporter import Exporter
from llm_guard.telemetry.readings import MEASURES, Measure, read
from llm_guard.telemetry.refresh import Refresh

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Gauge
    from prometheus_client.core import GaugeMetricFamily


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


class Pushed(Refresh):
    """Sets the gauges of this process."""

    __slots__ = ("_exporter", "_gauges")

    def __init__(self, exporter: Exporter, client: Any, registry: CollectorRegistry, prefix: str) -> None:
        super().__init__(self._push)
        self._exporter = exporter
        self._gauges: dict[Measure, Gauge] = {
            measure: client.Gauge(f"{prefix}_{measure.name}", measure.means, ["function", *measure.labels],
                                  registry=registry, multiprocess_mode="livesum") for measure in MEASURES}

    def _push(self) -> None:
        try:
            for reading in read(self._exporter.functions()):
                self._gauges[reading.measure].labels(reading.function, *reading.labels).set(reading.value)
        except Exception as error:
            self._exporter.broke(error)
