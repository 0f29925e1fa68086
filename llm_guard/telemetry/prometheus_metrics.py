"""The client's metrics, and for each function those of its labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from llm_guard.fork import renew_after_fork
from llm_guard.outcome import Kind

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

IN_FLIGHT = "in_flight", "Attempts that run now."


class Metrics:
    """By the names that they are scraped by. What runs now is a gauge of the client's only where `several` processes
    are added up: else it can be looked at."""

    def __init__(self, client: Any, registry: CollectorRegistry, prefix: str, buckets: Sequence[float], *,
                 several: bool) -> None:
        def histogram(name: str, means: str, *labels: str) -> Histogram:
            made: Histogram = client.Histogram(f"{prefix}_{name}_seconds", means, ["function", *labels],
                                               registry=registry, buckets=buckets)
            return made

        def counter(name: str, means: str, *labels: str) -> Counter:
            made: Counter = client.Counter(f"{prefix}_{name}", means, ["function", *labels], registry=registry)
            return made

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
        self.in_flight: Gauge | None = None
        if several:
            name, means = IN_FLIGHT
            self.in_flight = client.Gauge(f"{prefix}_{name}", means, ["function"], registry=registry,
                                          multiprocess_mode="livesum")


class Function:
    """What is counted of one function, its labels resolved. `running` has the numbers of its calls under way: to add
    one and to discard one is a single operation, and cheaper than a gauge."""

    __slots__ = ("_attempts", "_calls", "_metrics", "_name", "begin", "call_succeeded", "call_took", "end", "running",
                 "succeeded", "took", "waited")

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._metrics, self._name = metrics, name
        self.running: set[int] = set()
        self.begin: Callable[[int], object] = self.running.add
        self.end: Callable[[int], object] = self.running.discard
        if metrics.in_flight is not None:
            gauge = metrics.in_flight.labels(name)
            self.begin, self.end = lambda call: gauge.inc(), lambda call: gauge.dec()
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


class Functions(dict[str, Function]):
    """By name; one that is missing is made."""

    __slots__ = ("__weakref__", "_metrics")

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        renew_after_fork(self)

    def after_fork(self) -> None:
        for function in self.values():
            function.running.clear()

    def __missing__(self, name: str) -> Function:
        return self.setdefault(name, Function(self._metrics, name))

    def running(self) -> Iterator[tuple[str, int]]:
        """Of each function, how many attempts run now."""
        for name, function in list(self.items()):
            yield name, len(function.running)
