"""A PromQL query as a measure, over Prometheus's HTTP API, which Thanos, Mimir and VictoriaMetrics have too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llm_guard import clock
from llm_guard.errors import ConfigError
from llm_guard.telemetry.measure import NoMeasure
from llm_guard.telemetry.sources.http import JsonServer

_RANGE = re.compile(r"\[\s*((?:\d+(?:ms|[smhdwy]))+)\s*[:\]]")
_PART = re.compile(r"(\d+)(ms|[smhdwy])")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}


class Prometheus:
    """See `prometheus`. `window`: seconds of the longest range in the query, or None."""

    def __init__(self, server: JsonServer, query: str, newest: str | None) -> None:
        self._server = server
        self._query, self._newest = query, newest
        # One second more, for the library bounds each read of its socket, not all of them.
        self.timeout = server.timeout * (1 if newest is None else 2) + 1
        ranges = _RANGE.findall(query)
        self.window = max((sum(int(count) * _SECONDS[unit] for count, unit in _PART.findall(found))
                           for found in ranges), default=None)

    def __call__(self) -> float | tuple[float, float]:
        value, _ = self._ask(self._query)
        if self._newest is None:
            return value
        newest, asked_at = self._ask(self._newest)  # of one clock, the server's: others may differ
        return value, clock.current().wall() - (asked_at - newest)

    def _ask(self, query: str) -> tuple[float, float]:
        """The value and the time at which the server looked."""
        answer = self._server.get("/api/v1/query", query=query)
        try:
            if answer["status"] != "success":
                raise NoMeasure("the server could not answer the query")
            return _sample(answer["data"]["resultType"], answer["data"]["result"])
        except (KeyError, TypeError, ValueError, IndexError):
            raise NoMeasure("an answer that is none of Prometheus's") from None

    def __repr__(self) -> str:
        return "prometheus(...)"


def _sample(kind: str, result: Any) -> tuple[float, float]:
    if kind == "vector":
        if not result:
            raise NoMeasure("no data: the query's result is empty")
        if len(result) > 1:
            raise NoMeasure(f"{len(result)} series where one is needed: aggregate them, by sum() or avg()")
        at, value = result[0]["value"]
    elif kind == "scalar":
        at, value = result
    else:
        raise NoMeasure(f"a {kind} where one value is needed: a vector of one series, or a scalar")
    return float(value), float(at)


def prometheus(url: str, query: str, *, newest: str | None = None, timeout: float = 5.0,
               headers: Mapping[str, str] | None = None, auth: tuple[str, str] | None = None) -> Prometheus:
    """A source for `steer`: the value of a PromQL `query` at this instant, from the Prometheus at `url`.

    It must give one series, or a scalar; empty and NaN mean that there is no data. The mean response time, say::

        sum(rate(request_seconds_sum[1m])) / sum(rate(request_seconds_count[1m]))

    `newest`: a query for the Unix time of the newest sample, such as `max(timestamp(request_seconds_count))`, for a
    value that must not go by old samples: without it a range counts until its last sample has left it. `timeout`:
    seconds for each query. `headers`, and `auth` (user and password), go to that server alone; redirects are not
    followed. ConfigError for what cannot work; NoMeasure, when called, where there is no value.
    """
    for name, given in (("query", query), ("newest", newest)):
        if (given is not None or name == "query") and not (isinstance(given, str) and given.strip()):
            raise ConfigError(name, given, "a query in PromQL")
    return Prometheus(JsonServer(url, timeout, headers, auth), query, newest)
