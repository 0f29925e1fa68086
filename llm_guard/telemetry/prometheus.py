"""Metrics for Prometheus, by its own client: `Prometheus().watch()`, and whatever exposes its registry tells of them.

    from llm_guard.telemetry.prometheus import Prometheus

    Prometheus().watch()          # all guarded functions; or .watch(ask, tell)

Where `PROMETHEUS_MULTIPROC_DIR` is set (gunicorn's workers), each process writes what it counts, and the scrape adds
it up; see `docs/runbook.md` for the hook that takes a dead worker's gauges away. Labels are names of functions, kinds,
policies and states: their number is bounded by the program.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm_guard.errors import ConfigError
from llm_guard.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallRejected,
    FirstItem,
    RetryScheduled,
    Takers,
)
from llm_guard.outcome import Kind
from llm_guard.telemetry.exporter import NOT_STARTED, Exporter
from llm_guard.telemetry.extras import bring
from llm_guard.telemetry.prometheus_gauges import Pushed, register_scraped
from llm_guard.telemetry.prometheus_metrics import Functions, Metrics

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

#: Upper bounds in seconds: LLM calls take from a tenth of a second to minutes.
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_ENV = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")  # as the client reads them


class Prometheus(Exporter):
    """Counters, histograms and gauges in `registry` (default: the client's own), their names beginning with `prefix`.

    `buckets`: upper bounds of the histograms, in seconds. Two of them in one registry need different prefixes.
    """

    name = "prometheus"

    def __init__(self, registry: CollectorRegistry | None = None, *, prefix: str = "llm_guard",
                 buckets: Sequence[float] = BUCKETS) -> None:
        super().__init__()
        client = bring("prometheus_client", "prometheus")
        registry = client.REGISTRY if registry is None else registry
        if not isinstance(prefix, str) or not prefix.isidentifier():
            raise ConfigError("prefix", prefix, "a name of letters, digits and underscores")
        several = any(name in os.environ for name in _ENV)  # a collector of our own would be asked of one process only
        try:
            self._metrics = Metrics(client, registry, prefix, buckets, several=several)
        except (ValueError, TypeError) as error:
            if "uplicated" in str(error):
                raise ConfigError("prefix", prefix, "one that no other metrics of the registry have") from None
            raise ConfigError("buckets", buckets, "at least one number, in growing order") from None
        self._functions = Functions(self._metrics)
        self._pushed: Pushed | None = None
        if several:
            self._pushed = Pushed(self, client, registry, prefix)
        else:
            register_scraped(self, registry, prefix, self._functions.running)

    def takers(self) -> Takers:
        functions, pushed, success = self._functions, self._pushed, Kind.SUCCESS

        # What runs for each call is written out, for each step counts: a try costs nothing, a call does.

        def attempt_started(call: int, at: float, function: str, attempt: int, waited: float) -> None:
            try:
                its = functions[function]
                its.begin(call)
                its.waited(waited)
                if pushed is not None:
                    pushed.due(at)
            except Exception as error:
                self.broke(error)

        def attempt_ended(call: int, at: float, function: str, attempt: int, kind: Kind, seconds: float,
                          hint: float | None, error: str | None, output_tokens: int | None,
                          total_tokens: int | None) -> None:
            try:
                its = functions[function]
                its.end(call)
                if kind is success:
                    its.succeeded()
                    its.took(seconds)
                else:
                    count, took = its.attempts(kind)
                    count()
                    took(seconds)
                if output_tokens is not None or total_tokens is not None:
                    self._count_tokens(function, output_tokens, total_tokens)
                if pushed is not None:
                    pushed.due(at)
            except Exception as raised:
                self.broke(raised)

        def call_ended(call: int, at: float, function: str, attempts: int, kind: Kind | None, seconds: float) -> None:
            try:
                its = functions[function]
                if kind is success:
                    its.call_succeeded()
                else:
                    its.calls(NOT_STARTED if kind is None else kind.value)()
                its.call_took(seconds)
            except Exception as error:
                self.broke(error)

        def retry_scheduled(call: int, at: float, function: str, attempt: int, kind: Kind, wait: float) -> None:
            self._metrics.retries.labels(function, kind.value).inc()

        def call_rejected(call: int, at: float, function: str, policy: str, retry_after: float | None,
                          waited: float) -> None:
            self._metrics.rejected.labels(function, policy).inc()
            if pushed is not None:
                pushed.due(at)

        def first_item(call: int, at: float, function: str, attempt: int, seconds: float) -> None:
            self._metrics.first_item.labels(function).observe(seconds)

        return {AttemptStarted: attempt_started, AttemptEnded: attempt_ended, CallEnded: call_ended,
                RetryScheduled: self.unhurt(retry_scheduled), CallRejected: self.unhurt(call_rejected),
                FirstItem: self.unhurt(first_item)}

    def _count_tokens(self, function: str, output: int | None, total: int | None) -> None:
        if output is not None:
            self._metrics.tokens.labels(function, "output").inc(max(0, output))
        if total is not None and output is not None:
            self._metrics.tokens.labels(function, "input").inc(max(0, total - output))
