"""Where a measure comes from: Prometheus, Graphite, StatsD. Each is a function without arguments."""

from llm_guard.telemetry.measure import NoMeasure
from llm_guard.telemetry.sources.graphite import graphite
from llm_guard.telemetry.sources.prometheus import prometheus
from llm_guard.telemetry.sources.statsd import statsd

__all__ = ["NoMeasure", "graphite", "prometheus", "statsd"]
