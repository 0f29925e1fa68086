"""What became of the attempts of one function, as its events tell it."""

from __future__ import annotations

from _thread import allocate_lock
from collections import Counter
from collections.abc import Callable
from typing import Any

from llm_guard.events import AttemptEnded, AttemptStarted, CallRejected, Event
from llm_guard.outcome import REFUSALS, Kind
from llm_guard.web.status.curves import BINS, WIDTH, Curves
from llm_guard.web.status.latencies import Latencies

_REFUSED = REFUSALS | {Kind.QUOTA}
_SHARES = (0.5, 0.9, 0.99)


class Record:
    """It hears events in the threads of the calls that they tell of, and holds its lock for a few additions. `wake` is
    called when there is something to be watched from now on."""

    __slots__ = ("__weakref__", "_bins", "_curves", "_in_flight", "_latencies", "_lock", "_outcomes", "_rejected",
                 "_waiting", "_wake", "_width", "off")

    def __init__(self, wake: Callable[[], object], width: float = WIDTH, bins: int = BINS) -> None:
        self._wake = wake
        self._width = width
        self._bins = bins
        self.off: Callable[[], None] | None = None  # takes it off again
        self.forget()

    def forget(self) -> None:
        """Begins anew, after a fork: what the parent had in flight is the parent's."""
        self._lock = allocate_lock()
        self._in_flight = 0
        self._waiting = 0  # when it was sampled last
        self._outcomes: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()  # by policy
        self._latencies = Latencies()
        self._curves: Curves | None = None  # made with the first event

    def hear(self, event: Event) -> None:
        if isinstance(event, AttemptStarted):
            with self._lock:
                curves = self._at(event.at)
                self._in_flight += 1
                curves.count("started")
                curves.peak("in_flight", self._in_flight)
            self._wake()
        elif isinstance(event, AttemptEnded):
            with self._lock:
                curves = self._at(event.at)
                self._in_flight = max(0, self._in_flight - 1)
                self._outcomes[event.kind.value] += 1
                if event.kind is Kind.SUCCESS:
                    curves.answered(event.seconds)
                    self._latencies.add(event.at, event.seconds)
                else:
                    curves.count("refused" if event.kind in _REFUSED else "failed")
        elif isinstance(event, CallRejected):
            with self._lock:
                self._at(event.at)
                self._rejected[event.policy] += 1
            self._wake()

    def sample(self, now: float, waiting: int) -> bool:
        """Takes down how many wait; whether anything goes on."""
        with self._lock:
            if self._curves is None and not waiting:
                return False
            curves = self._at(now)
            self._waiting = waiting
            curves.peak("waiting", waiting)
            return bool(waiting or self._in_flight)

    def has_answered(self) -> bool:
        """A call was answered in this process."""
        return self._outcomes[Kind.SUCCESS.value] > 0

    def figures(self, now: float, since: int | None) -> dict[str, Any]:
        """All of it as numbers, ready for JSON; the curves from the bin `since` on. Rates in calls a second, latencies
        in seconds, of the answers of the last five minutes."""
        with self._lock:
            curves = self._at(now)
            values = self._latencies.percentiles(now, _SHARES)
            latency = None if values is None else {
                **{f"p{share * 100:g}": _short(value) for share, value in zip(_SHARES, values, strict=True)},
                "answers": self._latencies.count(now)}
            return {"in_flight": self._in_flight, "rate": round(curves.rate(now, "started"), 3),
                    "answer_rate": round(curves.rate(now, "answered"), 3), "latency": latency,
                    "outcomes": dict(self._outcomes), "rejected": dict(self._rejected), "curves": curves.since(since)}

    def _at(self, now: float) -> Curves:
        if self._curves is None:
            self._curves = Curves(now, self._width, self._bins)
        self._curves.advance(now, self._in_flight, self._waiting)
        return self._curves


def _short(seconds: float) -> float:
    return float(f"{seconds:.3g}")
