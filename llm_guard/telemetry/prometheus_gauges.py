"""Gauges of what policies show: read at each scrape, or, where several processes share them, pushed as calls end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from llm_guard.telemetry.exporter import Exporter
from llm_guard.telemetry.prometheus_metrics import IN_FLIGHT
from llm_guard.telemetry.readings import METRICS, Metric, read
from llm_guard.telemetry.refresh import Refresh

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Gauge
    from prometheus_client.core import GaugeMetricFamily


def register_scraped(exporter: Exporter, registry: CollectorRegistry, prefix: str,
                     running: Callable[[], Iterable[tuple[str, int]]]) -> None:
    """Has the registry read the gauges whenever it is scraped; `running`: how many attempts of each function run."""
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector

    def family(name: str, means: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"{prefix}_{name}", means, labels=["function", *labels])

    class Scraped(Collector):
        def collect(self) -> Iterator[GaugeMetricFamily]:
            in_flight = family(*IN_FLIGHT)
            found = {metric: family(metric.name, metric.means, *metric.labels) for metric in METRICS}
            try:
                for function, number in running():
                    in_flight.add_metric([function], number)
                for reading in read(exporter.functions()):
                    found[reading.metric].add_metric([reading.function, *reading.labels], reading.value)
            except Exception as error:
                exporter.broke(error)
            yield in_flight
            yield from found.values()

        def describe(self) -> list[GaugeMetricFamily]:
            return [family(*IN_FLIGHT), *(family(metric.name, metric.means) for metric in METRICS)]

    registry.register(Scraped())


class Pushed(Refresh):
    """Sets the gauges of this process."""

    __slots__ = ("_exporter", "_gauges")

    def __init__(self, exporter: Exporter, client: Any, registry: CollectorRegistry, prefix: str) -> None:
        super().__init__(self._push)
        self._exporter = exporter
        self._gauges: dict[Metric, Gauge] = {
            metric: client.Gauge(f"{prefix}_{metric.name}", metric.means, ["function", *metric.labels],
                                 registry=registry, multiprocess_mode="livesum") for metric in METRICS}

    def _push(self) -> None:
        try:
            for reading in read(self._exporter.functions()):
                self._gauges[reading.metric].labels(reading.function, *reading.labels).set(reading.value)
        except Exception as error:
            self._exporter.broke(error)
