"""Metrics for StatsD, by the client of the package `statsd`: `StatsD("localhost", 8125).watch()`.

    llm_guard.ask.attempts.success:1|c          llm_guard.attempts:1|c|#function:ask,kind:success     (tags=True)

Names are made of the function's, of kinds, policies and states; what StatsD cannot have in a name becomes "_". Timings
are in milliseconds, as StatsD has them. A datagram that cannot be sent is lost, and no call waits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from llm_guard.errors import ConfigError
from llm_guard.events import AttemptEnded, AttemptStarted, CallEnded, CallRejected, FirstItem, RetryScheduled, Takers
from llm_guard.outcome import Kind
from llm_guard.telemetry.exporter import NOT_STARTED, Exporter
from llm_guard.telemetry.extras import bring
from llm_guard.telemetry.readings import read
from llm_guard.telemetry.refresh import Refresh

_BAD = re.compile(r"[^A-Za-z0-9_\-]+")
_BAD_IN_TAG = re.compile(r"[^A-Za-z0-9_\-./]+")


class StatsD(Exporter):
    """Counters, timings and gauges by `client`, any that has the methods of `statsd.StatsClient`, or by one that is
    made for `host` and `port`.

    `prefix` comes before every name (None or "": none, where the client has one already). `tags`: what tells series
    apart is in tags, as DogStatsD reads them, rather than in the name; that takes a client of the package `statsd`.
    """

    name = "statsd"

    def __init__(self, host: str = "localhost", port: int = 8125, *, client: Any = None,
                 prefix: str | None = "llm_guard", tags: bool = False) -> None:
        super().__init__()
        if prefix is not None and not isinstance(prefix, str):
            raise ConfigError("prefix", prefix, "a text that comes before every name, or None")
        if client is None:
            client = _made(host, port)
        wanted = ("incr", "timing", "gauge", *(("_prepare", "_after") if tags else ()))
        if not all(callable(getattr(client, method, None)) for method in wanted):
            raise ConfigError("client", type(client).__name__,
                              f"one of the package statsd{' where tags are asked for' if tags else ''}")
        self._client = client
        self._prefix = prefix.rstrip(".") if prefix else ""
        self._tags = tags
        self._names: dict[tuple[str, ...], str] = {}
        self._gauges = Refresh(self._send_gauges)

    def takers(self) -> Takers:
        def attempt_started(call: int, at: float, function: str, attempt: int, waited: float) -> None:
            self._time("wait", waited, function)

        def first_item(call: int, at: float, function: str, attempt: int, seconds: float) -> None:
            self._time("first_item", seconds, function)

        def attempt_ended(call: int, at: float, function: str, attempt: int, kind: Kind, seconds: float,
                          hint: float | None, error: str | None, output_tokens: int | None,
                          total_tokens: int | None) -> None:
            self._count("attempts", function, "kind", kind.value)
            self._time("attempt", seconds, function, "kind", kind.value)
            if output_tokens is not None:
                self._count("tokens", function, "direction", "output", count=max(0, output_tokens))
                if total_tokens is not None:
                    self._count("tokens", function, "direction", "input", count=max(0, total_tokens - output_tokens))
            self._gauges.due(at)

        def retry_scheduled(call: int, at: float, function: str, attempt: int, kind: Kind, wait: float) -> None:
            self._count("retries", function, "kind", kind.value)

        def call_rejected(call: int, at: float, function: str, policy: str, retry_after: float | None,
                          waited: float) -> None:
            self._count("rejected", function, "policy", policy)
            self._gauges.due(at)

        def call_ended(call: int, at: float, function: str, attempts: int, kind: Kind | None, seconds: float) -> None:
            self._count("calls", function, "outcome", NOT_STARTED if kind is None else kind.value)
            self._time("call", seconds, function)

        takers: dict[type[Any], Callable[..., None]] = {
            AttemptStarted: attempt_started, FirstItem: first_item, AttemptEnded: attempt_ended,
            RetryScheduled: retry_scheduled, CallRejected: call_rejected, CallEnded: call_ended}
        return {kind: self.unhurt(taker) for kind, taker in takers.items()}

    def _count(self, measure: str, function: str, *labels: str, count: int = 1) -> None:
        self._send("incr", f"{count}|c", count, measure, function, *labels)

    def _time(self, measure: str, seconds: float, function: str, *labels: str) -> None:
        self._send("timing", f"{1000 * seconds:.6f}|ms", 1000 * seconds, measure, function, *labels)

    def _gauge(self, value: float, measure: str, function: str, *labels: str) -> None:
        if math.isfinite(value):
            whole = int(value) if value == int(value) else value
            self._send("gauge", f"{whole}|g", whole, measure, function, *labels)

    def _send(self, method: str, written: str, value: float, measure: str, function: str, *labels: str) -> None:
        """`labels`: a name and a value in turn."""
        name = self._names.get((measure, function, *labels))
        if name is None:  # of a number that the program bounds
            name = self._names[measure, function, *labels] = self._named(measure, function, *labels)
        if not self._tags:
            getattr(self._client, method)(name, value)
            return
        name, tags = name.split("|")
        line = self._client._prepare(name, written, 1)
        self._client._after(f"{line}|#{tags}")

    def _named(self, measure: str, function: str, *labels: str) -> str:
        prefix = f"{self._prefix}." if self._prefix else ""
        if not self._tags:
            return prefix + ".".join(_BAD.sub("_", part).strip("_") or "_"
                                     for part in (function, measure, *labels[1::2]))
        pairs = zip(("function", *labels[::2]), (function, *labels[1::2]), strict=True)
        return f"{prefix}{measure}|" + ",".join(f"{tag}:{_BAD_IN_TAG.sub('_', value)}" for tag, value in pairs)

    def _send_gauges(self) -> None:
        try:
            for reading in read(self.functions()):
                labels = [each for pair in zip(reading.metric.labels, reading.labels, strict=True) for each in pair]
                self._gauge(reading.value, reading.metric.name, reading.function, *labels)
        except Exception as error:
            self.broke(error)


def _made(host: object, port: object) -> Any:
    statsd = bring("statsd", "statsd")
    if not isinstance(host, str) or not host:
        raise ConfigError("host", host, "the name or address of a host")
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise ConfigError("port", port, "a whole number from 1 to 65535")
    try:
        return statsd.StatsClient(host, port)
    except OSError as error:
        raise ConfigError("host", host, "one whose name can be looked up") from error
