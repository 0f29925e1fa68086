"""Metrics by the Meter API: those of the conventions for generative AI, and the guards' own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation

from llm_guard.events import AttemptEnded, AttemptStarted, CallEnded, CallRejected, FirstItem, RetryScheduled, Takers
from llm_guard.outcome import Kind
from llm_guard.runtime.guarded import Guarded
from llm_guard.telemetry.exporter import NOT_STARTED
from llm_guard.telemetry.opentelemetry import ERROR, FUNCTION, OPERATION, OUTCOME, POLICY, SCOPE
from llm_guard.telemetry.readings import METRICS, Metric, read

#: The bounds that the conventions ask for: seconds, and tokens.
_SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
_TOKENS = [float(4**power) for power in range(14)]
_UNITS = {"pace_rate": "{attempt}/s", "pace_window": "{attempt}", "bounded_limit": "{attempt}", "waiting": "{call}",
          "still_running": "{call}"}


class Metrics:
    """`attributes_of` says of a function what each number says; `functions` are those whose policies are looked at."""

    def __init__(self, provider: MeterProvider | None, attributes_of: Callable[[str], Mapping[str, str]],
                 functions: Callable[[], list[Guarded[Any, Any]]], broke: Callable[[Exception], object]) -> None:
        meter = metrics.get_meter(SCOPE, meter_provider=provider)
        self._attributes_of = attributes_of
        self._duration = _histogram(meter, "gen_ai.client.operation.duration", "s", "How long attempts take", _SECONDS)
        self._first = _histogram(meter, "gen_ai.client.operation.time_to_first_chunk", "s",
                                 "How long the first item of a stream takes", _SECONDS)
        self._tokens = _histogram(meter, "gen_ai.client.token.usage", "{token}", "Tokens of attempts", _TOKENS)
        self._call = _histogram(meter, "llm_guard.call.duration", "s", "How long calls take, waits included", _SECONDS)
        self._wait = _histogram(meter, "llm_guard.wait.duration", "s", "How long attempts wait at the door", _SECONDS)
        self._attempts = meter.create_counter("llm_guard.attempts", "{attempt}", "Attempts that ended, by outcome")
        self._calls = meter.create_counter("llm_guard.calls", "{call}", "Calls that ended, by outcome")
        self._retries = meter.create_counter("llm_guard.retries", "{attempt}", "Further attempts that were planned")
        self._rejected = meter.create_counter("llm_guard.rejected", "{call}", "Times a policy refused, by policy")
        self._in_flight = meter.create_up_down_counter("llm_guard.in_flight", "{attempt}", "Attempts that run now")
        for metric in METRICS:
            meter.create_observable_gauge(f"llm_guard.{metric.name}", [_observer(metric, functions, broke)],
                                          _UNITS.get(metric.name, "1"), metric.means)

    def takers(self) -> Takers:
        return {AttemptStarted: self._started, FirstItem: self._first_item, AttemptEnded: self._ended,
                RetryScheduled: self._retry, CallRejected: self._reject, CallEnded: self._call_ended}

    def _started(self, call: int, at: float, function: str, attempt: int, waited: float) -> None:
        told = self._attributes_of(function)
        self._in_flight.add(1, told)
        self._wait.record(waited, told)

    def _first_item(self, call: int, at: float, function: str, attempt: int, seconds: float) -> None:
        told = self._attributes_of(function)
        if OPERATION in told:
            self._first.record(seconds, told)

    def _ended(self, call: int, at: float, function: str, attempt: int, kind: Kind, seconds: float,
               hint: float | None, error: str | None, output_tokens: int | None, total_tokens: int | None) -> None:
        told = self._attributes_of(function)
        self._in_flight.add(-1, told)
        self._attempts.add(1, {**told, OUTCOME: kind.value})
        if OPERATION not in told:
            return
        self._duration.record(seconds, told if kind is Kind.SUCCESS else {**told, ERROR: error or kind.value})
        if output_tokens is not None:
            self._tokens.record(output_tokens, {**told, "gen_ai.token.type": "output"})
            if total_tokens is not None:
                self._tokens.record(max(0, total_tokens - output_tokens), {**told, "gen_ai.token.type": "input"})

    def _retry(self, call: int, at: float, function: str, attempt: int, kind: Kind, wait: float) -> None:
        self._retries.add(1, {**self._attributes_of(function), OUTCOME: kind.value})

    def _reject(self, call: int, at: float, function: str, policy: str, retry_after: float | None,
                waited: float) -> None:
        self._rejected.add(1, {**self._attributes_of(function), POLICY: policy})

    def _call_ended(self, call: int, at: float, function: str, attempts: int, kind: Kind | None,
                    seconds: float) -> None:
        told = self._attributes_of(function)
        self._calls.add(1, {**told, OUTCOME: NOT_STARTED if kind is None else kind.value})
        self._call.record(seconds, told)


def _histogram(meter: Meter, name: str, unit: str, means: str, bounds: list[float]) -> Histogram:
    try:
        return meter.create_histogram(name, unit, means, explicit_bucket_boundaries_advisory=bounds)
    except TypeError:  # an API that is older than that advice
        return meter.create_histogram(name, unit, means)


def _observer(metric: Metric, functions: Callable[[], list[Guarded[Any, Any]]],
              broke: Callable[[Exception], object]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(options: CallbackOptions) -> Iterable[Observation]:
        found = []
        try:
            for reading in read(functions()):
                if reading.metric is metric:
                    labels = {f"llm_guard.{label}": value
                              for label, value in zip(metric.labels, reading.labels, strict=True)}
                    found.append(Observation(reading.value, {FUNCTION: reading.function, **labels}))
        except Exception as error:
            broke(error)
        return found

    return observe
