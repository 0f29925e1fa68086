"""A Graphite series as a measure, over its render API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_guard import checks
from llm_guard.errors import ConfigError
from llm_guard.telemetry.measure import NoMeasure
from llm_guard.telemetry.sources.http import JsonServer


class Graphite:
    """See `graphite`."""

    def __init__(self, server: JsonServer, target: str, back: float) -> None:
        self._server, self._target, self._back = server, target, back
        self.timeout = server.timeout + 1  # the library bounds each read of its socket, not all of them

    def __call__(self) -> tuple[float, float]:
        answer = self._server.get("/render", target=self._target, format="json", **{"from": f"-{self._back:.0f}s"})
        try:
            return _newest(answer)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise NoMeasure("an answer that is none of Graphite's") from None

    def __repr__(self) -> str:
        return "graphite(...)"


def _newest(answer: Any) -> tuple[float, float]:
    """The newest value of the one series, and its time. The newest points are often empty: their data is to come."""
    if not answer:
        raise NoMeasure("no data: the target has no series")
    if len(answer) > 1:
        raise NoMeasure(f"{len(answer)} series where one is needed: aggregate them, by averageSeries()")
    for value, at in reversed(answer[0]["datapoints"]):
        if value is not None:
            return float(value), float(at)
    raise NoMeasure("no data: all points are empty")


def graphite(url: str, target: str, *, back: float = 600.0, timeout: float = 5.0,
             headers: Mapping[str, str] | None = None, auth: tuple[str, str] | None = None) -> Graphite:
    """A source for `steer`: the newest point of a Graphite `target`, from the graphite-web at `url`, with its time.

    The target must give one series. A StatsD daemon puts its timings there, in milliseconds; in seconds, say::

        movingAverage(scale(stats.timers.request.mean, 0.001), '1min')

    The newest point counts, among those of the last `back` seconds, that is not empty. `steer` looks at its age: give
    that a `stale_after` of some steps of the series. `timeout` in seconds. `headers`, and `auth` (user and password),
    go to that server alone; redirects are not followed. ConfigError for what cannot work; NoMeasure, when called, where
    there is no value.
    """
    if not (isinstance(target, str) and target.strip()):
        raise ConfigError("target", target, "a target of Graphite's render API")
    return Graphite(JsonServer(url, timeout, headers, auth), target,
                    checks.number("back", back, least=1, unit="seconds"))
