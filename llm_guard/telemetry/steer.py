"""`steer`: a measure from outside, say the mean response time in Prometheus, lowers and raises a ramp's ceiling.

It only ever sets `ramp_up`'s ceiling. No call waits for it, and none is refused by it: where the measure is gone, the
last ceiling holds.
"""

from __future__ import annotations

import logging
from _thread import allocate_lock
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from weakref import ref

from llm_guard import checks, clock, events
from llm_guard.fork import renew_after_fork
from llm_guard.policies.ramp_up import RampUp
from llm_guard.runtime.guarded import Guarded
from llm_guard.telemetry.measure import Freshness, NoMeasure, value_of
from llm_guard.telemetry.source_reader import Source, SourceReader
from llm_guard.telemetry.steer_options import aim_of, first, pace_of
from llm_guard.telemetry.steering import SETTLING, Aim, Seen, Steering

#: Seconds that a read may take, where the source does not say.
TIMEOUT = 10.0
#: Reads in a row without a measure after which it is gone, where nobody says.
MISSED = 3

NO_CALLS = "no calls"


@dataclass(frozen=True, slots=True)
class SteerStatistics:
    """`state` is "waiting" (no measure has come yet), "steering", "holding" (it is gone, the last ceiling holds) or
    "stopped"; `why` says what it does at present, or what the source lacks.

    `measure` is the last one, `fresh_for` the seconds since it came (None: none yet), `ceiling` in calls a second
    (None: none was needed yet), `downs` and `ups` the steps that it made.
    """

    state: str
    why: str
    target: float
    measure: float | None
    fresh_for: float | None
    ceiling: float | None
    downs: int
    ups: int


class Steer:
    """See `steer`. Kept alive by its thread: it may be dropped."""

    def __init__(self, pace: RampUp, source: Source, aim: Aim, every: float, stale_after: float,
                 timeout: float) -> None:
        self._source = source
        self._aim, self._every, self._stale_after, self._timeout = aim, every, stale_after, timeout
        self._stopped = False
        self._pace = ref(pace, lambda _: self._waiter.set())
        self._ceiling = pace.ceiling
        self._begin()
        renew_after_fork(self)
        _running.add(self)
        self._log(logging.INFO, f"steered to a measure of {aim.target:g}, read every {every:g} s")

    def _begin(self) -> None:
        time = clock.current()
        self._lock = allocate_lock()
        self._steering = Steering(self._aim)
        self._freshness = Freshness(self._stale_after, time.now())
        self._why = SETTLING
        self._started = 0  # calls, when it last looked
        self._reader = SourceReader(self._source, self._timeout)
        self._waiter = time.waiter()
        time.spawn(lambda: self._loop(time), "llm_guard steer")

    def after_fork(self) -> None:
        # A thread does not survive a fork: the child steers its own pace anew, from the ceiling that it has.
        if not self._stopped and self._pace() is not None:
            self._begin()

    def stop(self) -> None:
        """Steers no more; the ceiling stays as it is. Again: no effect."""
        self._end("stopped")
        self._waiter.set()

    def statistics(self) -> SteerStatistics:
        """How it stands at this instant."""
        with self._lock:
            now, fresh_at = clock.current().now(), self._freshness.fresh_at
            pace = self._pace()
            return SteerStatistics(
                "stopped" if self._stopped else self._freshness.state, self._why, self._aim.target,
                self._freshness.measure, None if fresh_at is None else now - fresh_at,
                self._ceiling if pace is None else pace.ceiling, self._steering.downs, self._steering.ups)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"steer(target={self._aim.target:g})"

    def _loop(self, time: clock.Clock) -> None:
        waiter = self._waiter
        try:
            while not waiter.wait(self._every) and not self._stopped:
                try:
                    self._look(time)
                except Exception as error:  # whatever it is, the next look may go well
                    self._missing(time.now(), f"{type(error).__name__} raised")
        except BaseException:  # its clock is over
            self._stopped = True
            _running.discard(self)
            raise
        self._end("the pace is gone")

    def _look(self, time: clock.Clock) -> None:
        seen = self._seen()
        if seen is None:
            self._waiter.set()
            return
        with self._lock:
            self._steering.look(time.now(), seen)
        if seen.started == self._started and not seen.in_flight:  # nothing to steer, and nothing to measure
            with self._lock:
                self._freshness.not_asked(time.now())
                self._why = NO_CALLS if self._freshness.state != "holding" else self._why
            return
        self._started = seen.started
        try:
            measure = value_of(self._reader.read(), time.wall(), self._stale_after)
        except NoMeasure as error:
            self._missing(time.now(), str(error))
        else:
            self._fresh(time.now(), measure)

    def _fresh(self, now: float, measure: float) -> None:
        pace, seen = self._pace(), self._seen()
        with self._lock:
            if self._stopped or pace is None or seen is None:
                return
            before = self._freshness.fresh(now, measure)
            ceiling = self._steering.step(now, measure, seen)
            self._why = self._steering.why
        if ceiling is not None:
            pace.ceiling = ceiling
        self._ceiling = pace.ceiling
        if before != "steering":
            self._tell(before, "steering")
        if before == "holding":
            self._log(logging.INFO, f"the measure is back, at {measure:.3g}: steering again")

    def _missing(self, now: float, why: str) -> None:
        with self._lock:
            before, gone = self._freshness.state, self._freshness.missing(now)
            self._why = why
        if gone:
            self._tell(before, "holding")
            self._log(logging.WARNING, f"the measure is gone ({why}): {self._held()}")

    def _seen(self) -> _SeenPace | None:
        pace = self._pace()
        if pace is None:
            return None
        shown = pace.statistics().pace
        return _SeenPace(pace.ceiling, shown.started, shown.state, shown.latency, shown.in_flight)

    def _end(self, why: str) -> None:
        with self._lock:
            if self._stopped:
                return
            self._stopped, self._why, before = True, why, self._freshness.state
        _running.discard(self)
        self._tell(before, "stopped")
        self._log(logging.INFO, f"steered no more ({why}): {self._held()}")

    def _held(self) -> str:
        if self._ceiling is None:
            return "no ceiling is set"
        return f"the ceiling stays at {self._ceiling:.3g} calls a second"

    def _tell(self, before: str, after: str) -> None:
        events.everywhere.tell(events.StateChanged(clock.current().now(), self._name, "steer", before, after))

    def _log(self, level: int, words: str) -> None:
        events.log(level, self._name, words)

    @property
    def _name(self) -> str:
        pace = self._pace()
        return RampUp.name if pace is None else pace.decorates


@dataclass(frozen=True, slots=True)
class _SeenPace(Seen):
    in_flight: int = 0


#: Those whose threads run: a fork leaves nothing else that would hold them.
_running: set[Steer] = set()


def steer(pace: RampUp | Guarded[..., Any], source: Source, target: float = 2.0, *, every: float = 10.0,
          least: float | None = None, most: float | None = None, step: tuple[float, float] = (0.7, 1.2),
          tolerance: float = 0.1, window: float | None = None, stale_after: float | None = None,
          timeout: float | None = None) -> Steer:
    """Lowers and raises the ceiling of `pace` so that a measure from outside stays at `target`.

    `pace` is a `ramp_up(...)` without `key`, or a function that one guards. `source` is `prometheus(...)`,
    `graphite(...)` or `statsd(...)` of `llm_guard.telemetry.sources`, or any function without arguments that gives the
    measure: a number above 0, which rises with the load, in the unit of `target` (a mean response time in seconds,
    say); or a pair of it and its Unix time; or None where there is none. It is read `every` so many seconds while calls
    are made, on a thread of its own.

    A step multiplies the ceiling by something within `step`, which depends on how far off the measure is; none is made
    where that is less than the share `tolerance`. Then `window` seconds (those the measure averages over: by default as
    the source says, a PromQL query by its longest range, else 60) and a call's time pass before the next, so that it
    shows what it did. The ceiling stays between `least` (by default where calls hardly overlap) and `most` (by default
    the ceiling that `pace` has now), in calls a second. Where it has none yet, the first step down begins at the rate
    that calls have. It is only raised while it is what limits, and as the pace is while the server loads or is paused.

    Where the source raises, gives nothing, or takes more than `timeout` seconds (by default the source's own, else 10),
    or its value is older than `stale_after` seconds, nothing changes; after `stale_after` seconds without a value
    (three times `every` by default) the log says so, and again when it is back. Calls go on under the last ceiling.

    The handle has `statistics()` and `stop()`, which leaves the ceiling where it is, as does the end of its `with`
    block. It ends by itself when the pace is dropped. A forked child steers its own pace, with a thread of its own.
    ConfigError for what cannot work.
    """
    found = pace_of(pace)
    checks.function("source", source, "a function without arguments")
    checks.number("every", every, above=0, unit="seconds")
    aim = aim_of(target, tolerance, first(window, getattr(source, "window", None)), step, least,
                 first(most, found.ceiling))
    stale_after = checks.number("stale_after", first(stale_after, MISSED * every), least=every, unit="seconds")
    timeout = checks.number("timeout", first(timeout, getattr(source, "timeout", None), TIMEOUT), above=0,
                            unit="seconds")
    if most is not None and (found.ceiling is None or found.ceiling > most):
        found.ceiling = most
    return Steer(found, source, aim, every, stale_after, timeout)
