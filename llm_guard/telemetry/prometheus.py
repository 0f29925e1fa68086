"""Metrics for Prometheus, by its own client: `Prometheus().watch()`, and whatever exposes its registry tells of them.

    from llm_guard.telemetry.prometheus import Prometheus

    Prometheus().watch()          # all guarded functions; or .watch(ask, tell)

Where `PROMETHEUS_MULTIPROC_DIR` is set (gunicorn's workers), each process writes what it counts, and the scrape adds
it up; see `docs/runbook.md` for the hook that takes a dead worker's gauges away. Labels are names of functions, kinds,
policies and states: their number is bounded by the program.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

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
from llm_guard.telemetry.exporter import Exporter
from llm_guard.telemetry.extras import bring
from llm_guard.telemetry.prometheus_gauges import Pushed, register_scraped

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

#: Upper bounds in seconds: LLM calls take from a tenth of a second to minutes.
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
#: The outcome of a call of which no attempt started.
NOT_STARTED = "not_started"
_ENV = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")  # as the client reads them


class _Metrics:
    """The client's metrics, by the names that they are scraped by."""

    def __init__(self, client: Any, registry: CollectorRegistry, prefix: str, buckets: Sequence[float]) -> None:
        def histogram(name: str, means: str, *labels: str) -> Histogram:
            return client.Histogram(f"{prefix}_{name}_seconds", means, ["function", *labels],  # type: ignore[no-any-return]
                                    registry=registry, buckets=buckets)

        def counter(name: str, means: str, *labels: str) -> Counter:
            return client.Counter(f"{prefix}_{name}", means, ["function", *labels],  # type: ignore[no-any-return]
                                  registry=registry)

        self.attempts = counter("attempts", "Attempts that ended, by how.", "kind")
        self.attempt = histogram("attempt", "Seconds that attempts took, by how they ended.", "kind")
        self.first_item = histogram("first_item", "Seconds to the first item of a stream.")
        self.wait = histogram("wait", "Seconds that attempts waited at the door.")
        self.calls = counter("calls", "Calls that ended, by how their last attempt did.", "outcome")
        self.call = histogram("call", "Seconds that calls took, waits and further attempts included.")
        self.retries = counter("retries", "Further attempts that were planned, by how the one before ended.", "kind")
        self.rejected = counter("rejected", "Times that a policy let a call, or a further attempt, not start.",
                                "policy")
        self.tokens = counter("tokens", "Tokens of answers (output) and of their questions (input), where told.",
                              "direction")
        self.in_flight: Gauge = client.Gauge(f"{prefix}_in_flight", "Attempts that run now.", ["function"],
                                             registry=registry, multiprocess_mode="livesum")


class _Function:
    """What is counted of one function, its labels resolved."""

    __slots__ = ("_attempts", "_calls", "_metrics", "_name", "begin", "call_succeeded", "call_took", "end",
                 "succeeded", "took", "waited")

    def __init__(self, metrics: _Metrics, name: str) -> None:
        self._metrics, self._name = metrics, name
        in_flight = metrics.in_flight.labels(name)
        self.begin: Callable[[], None] = in_flight.inc
        self.end: Callable[[], None] = in_flight.dec
        self.waited: Callable[[float], None] = metrics.wait.labels(name).observe
        self.call_took: Callable[[float], None] = metrics.call.labels(name).observe
        self._attempts: dict[str, tuple[Callable[[], None], Callable[[float], None]]] = {}
        self._calls: dict[str, Callable[[], None]] = {}
        # Of what most of them do; the rest is looked up.
        self.succeeded, self.took = self.attempts(Kind.SUCCESS)
        self.call_succeeded = self.calls(Kind.SUCCESS.value)

    def attempts(self, kind: Kind) -> tuple[Callable[[], None], Callable[[float], None]]:
        found = self._attempts.get(kind.value)
        if found is None:
            found = self._attempts[kind.value] = (self._metrics.attempts.labels(self._name, kind.value).inc,
                                                  self._metrics.attempt.labels(self._name, kind.value).observe)
        return found

    def calls(self, outcome: str) -> Callable[[], None]:
        found = self._calls.get(outcome)
        if found is None:
            found = self._calls[outcome] = self._metrics.calls.labels(self._name, outcome).inc
        return found


class _Functions(dict[str, _Function]):
    """By name; one that is missing is made."""

    def __init__(self, metrics: _Metrics) -> None:
        self._metrics = metrics

    def __missing__(self, name: str) -> _Function:
        return self.setdefault(name, _Function(self._metrics, name))


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
        try:
            self._metrics = _Metrics(client, registry, prefix, buckets)
        except (ValueError, TypeError) as error:
            if "uplicated" in str(error):
                raise ConfigError("prefix", prefix, "one that no other metrics of the registry have") from None
            raise ConfigError("buckets", buckets, "at least one number, in growing order") from None
        self._functions = _Functions(self._metrics)
        self._pushed: Pushed | None = None
        self._unregister: Callable[[], None] = lambda: None
        if any(name in os.environ for name in _ENV):  # a collector of our own would be asked of this process only
            self._pushed = Pushed(self, client, registry, prefix)
        else:
            self._unregister = register_scraped(self, client, registry, prefix)

    def close(self) -> None:
        super().close()
        self._unregister()

    def takers(self) -> Takers:
        functions, pushed, success = self._functions, self._pushed, Kind.SUCCESS

        # What runs for each call is written out, for each step counts: a try costs nothing, a call does.

        def attempt_started(call: int, at: float, function: str, attempt: int, waited: float) -> None:
            try:
                its = functions[function]
                its.begin()
                its.waited(waited)
            except Exception as error:
                self.broke(error)

        def attempt_ended(call: int, at: float, function: str, attempt: int, kind: Kind, seconds: float,
                          hint: float | None, error: str | None, output_tokens: int | None,
                          total_tokens: int | None) -> None:
            try:
                its = functions[function]
                its.end()
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
