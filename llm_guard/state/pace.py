"""The pace: how fast to call a server of which nothing is known but how one's own calls end.

This is the project's own control law, told in one sitting in docs/pace.md. It keeps five things, each O(1) a call:

- a **window**: how many calls may be in flight. It grows as in TCP's slow start, then additively; it steps back when
  latency rises over its base (the gradient of Netflix concurrency-limits' Gradient2) and where the server refuses;
- a **rate**: a leaky bucket, dormant until refusals show a rate limit, then learned (AIMD about what was delivered);
- a **gate**: an instant before which nobody starts, and behind it one **probe** at a time until one succeeds;
- an **allowance**: calls that the account has left, as the server tells or as its fixed windows teach;
- an **epoch**: the instant of the last cut. A call that started before it does not vote again, so that sixty refusals
  of one burst are one event.

Failures say nothing of load: they shrink nothing, but many in a row close the gate. Pure arithmetic: no lock, no clock.
"""

from __future__ import annotations

import math
from random import Random

from llm_guard import checks
from llm_guard.call import NEVER
from llm_guard.errors import ConfigError
from llm_guard.outcome import Kind, Outcome
from llm_guard.state.pace_allowance import Allowance, FixedWindows
from llm_guard.state.pace_gate import ServerGate
from llm_guard.state.pace_load import Load
from llm_guard.state.pace_rate import Rate
from llm_guard.state.pace_schedule import schedule_of
from llm_guard.state.pace_snapshot import PaceSnapshot
from llm_guard.state.pace_story import Story

_SUCCESS = Kind.SUCCESS  # members of an enum are slow to look up, until Python 3.12
#: Failures in a row that close the gate.
FAILURES_TO_CLOSE = 8


class Start:
    """What a call remembers of its start: the number in flight beside it, the state of the pace, when it was, how many
    had started before it, and how many seconds after the last of them. `load` is that of the pace: None once it ended.
    """

    __slots__ = ("beside", "cold", "gap", "load", "number", "probing", "started")

    def __init__(self, beside: int, cold: bool, probing: bool, started: float, number: int) -> None:
        self.beside = beside
        self.cold = cold
        self.probing = probing
        self.started = started
        self.number = number
        self.gap = math.inf
        self.load: Load | None = None


class Pace:
    """When the next call may start, learned from how the calls before it ended.

    Instants (`now`, `deadline`) and durations are in seconds, rates in calls a second. `start` is the first rate and
    `ceiling` the most there may be (None: the law alone); after `idle` seconds without a call, though one could have
    started, the server is taken to be cold again (None: never). `ramp_time` and `max_growth` are the user's own
    schedule, see `llm_guard.state.pace_schedule`. A bad option raises `ConfigError`. Whoever shares a pace among
    threads holds a lock.
    """

    def __init__(self, random: Random, *, ceiling: float | None = None, start: float | None = None,
                 idle: float | None = None, ramp_time: float | None = None,
                 max_growth: tuple[float, float] | None = None) -> None:
        self._random = random
        self._first_rate = checks.optional_number("start", start, above=0, unit="calls a second")
        self._ceiling = checks.optional_number("ceiling", ceiling, above=0, unit="calls a second")
        self._idle = checks.optional_number("idle", idle, above=0, unit="seconds")
        self._ramp_time, self._max_growth = ramp_time, max_growth
        self.reset()

    def reset(self) -> None:
        """Back to the first state. Calls under way are forgotten: their ends will change nothing."""
        schedule = schedule_of(self._first_rate, self._ceiling, self._ramp_time, self._max_growth)
        self._load = Load(Rate(self._first_rate, self._ceiling, schedule))
        self._gate = ServerGate(self._random)
        self._allowance = Allowance()
        self._windows = FixedWindows()
        self.story = Story(self._gate, self._load, self._allowance)
        self.in_flight = 0  # calls that have started and not ended
        self._last_event = NEVER  # a start or an end
        self._cold = True  # no success yet, or none since the model was last seen to load
        self._epoch = self._epoch_before = NEVER
        self._ok_since_cut = True
        self._failures_in_a_row = 0

    @property
    def ceiling(self) -> float | None:
        """The most calls a second there may be, or None. Can be changed at any time."""
        return self._ceiling

    @ceiling.setter
    def ceiling(self, value: float | None) -> None:
        if value is None and self._ramp_time is not None:
            raise ConfigError("ceiling", value, "a number, where ramp_time leads to it")
        self._ceiling = checks.optional_number("ceiling", value, above=0, unit="calls a second")
        self._load.rate.ceiling = math.inf if self._ceiling is None else self._ceiling

    # Before a call.

    def ready_at(self, now: float) -> float:
        """When a call that waits may start: `now` (at once), a later instant, or inf (only an end can admit it).

        To be asked again at that instant: what else holds it back shows then. It also notes that a call waits.
        """
        self._cool_down(now)
        self._gate.asked(now)
        if now < self._gate.opens_at:
            return self._gate.opens_at
        if self._gate.taken():
            return math.inf
        allowed_at = self._allowance.ready_at(now)
        return allowed_at if allowed_at > now else self._load.ready_at(now, self.in_flight)

    def hopeless(self, now: float, deadline: float) -> bool:
        """A call that starts now would most likely not end in time."""
        return now + min(8.0, 2.5 * (self._load.latency.mean or 0.0)) > deadline

    def exhausted_for(self, now: float) -> float | None:
        """Seconds until the account's quota is tried again, or None where it is not known to be exhausted."""
        return self._gate.exhausted_until - now if now < self._gate.exhausted_until else None

    @property
    def shut_since(self) -> float | None:
        """Since when the server's gate is shut, its probes in vain, without a lull; None while it is open."""
        return self._gate.shut_since

    def start(self, now: float, since: float | None = None) -> Start:
        """A call starts; it has waited since the instant `since` (None: it did not wait).

        The bucket catches up on late wake-ups, by 10 ms at most: in any window of w seconds at most
        rate * (w + 0.010) + 1 calls start, where each started when `ready_at` allowed it.
        """
        call = Start(self.in_flight, self._cold, self._gate.probing, now, self._allowance.started)
        if call.cold:
            self.story.begin(now)
        call.gap = self._load.start(now, now if since is None else since)
        self._allowance.take()
        self._windows.take()
        if self._windows.used_up() and not call.probing and (at := self._windows.next_probe(now)) is not None:
            self._gate.shut_until(now, at)
            self._epoch = now
            self.story.note(now, self._cold)
        # Last, in steps that cannot fail: what must be given back, which only one who has started can do.
        if call.probing:
            self._gate.probe = call
        self.in_flight += 1
        call.load = self._load
        self._last_event = now
        return call

    # After a call.

    def end(self, start: Start, now: float, outcome: Outcome, latency: float, timeout: float | None = None,
            first_item: float | None = None) -> None:
        """A call ended, `latency` seconds after its start; `timeout` is what bounded it, and `first_item` the time to
        the first item of a stream, in seconds.

        It gives its place back, and the probe's, however it ended. A call that ended before changes nothing.
        """
        if start.load is not self._load:
            return
        start.load = None
        self.in_flight -= 1
        self._last_event = now
        probe = start is self._gate.probe
        if probe:
            self._gate.probe = None
        fresh = start.started > self._epoch
        hint = None if outcome.hint is None else max(0.0, outcome.hint)
        if outcome.remaining is not None and outcome.reset is not None:
            self._allowance.tell(now, outcome.remaining, outcome.reset, start.number)
        kind = outcome.kind
        if kind is _SUCCESS:
            self._succeeded(start, now, latency, timeout, fresh, probe, outcome.output_tokens, first_item)
        elif kind is Kind.IGNORED:
            return
        else:
            self._went_wrong(start, now, outcome, hint, timeout, fresh, probe)
        self._load.rate.tick(now, self._load.latency.mean)
        self.story.note(now, self._cold, kind, fresh or probe)

    def _went_wrong(self, start: Start, now: float, outcome: Outcome, hint: float | None, timeout: float | None,
                    fresh: bool, probe: bool) -> None:
        votes = fresh or probe
        match outcome.kind:
            case Kind.INVALID:
                self._lives(now, votes)
            case Kind.LOADING if votes:
                self._gate.shut_loading(now, hint)
                self._cold, self._epoch = True, now
            case Kind.QUOTA if votes:
                self._gate.shut_exhausted(now, hint)
                self._epoch = now
            case Kind.LIMITED | Kind.OVERLOAD | Kind.GROWTH_LIMITED:
                self._refused(start, now, hint, fresh, probe, grew=outcome.kind is Kind.GROWTH_LIMITED)
            case Kind.FAILURE | Kind.TIMEOUT:
                self._failed(now, outcome.answered, fresh, probe)
                if outcome.kind is Kind.TIMEOUT and timeout is not None and fresh and not (probe or start.cold):
                    self._load.timed_out(timeout)

    def _succeeded(self, call: Start, now: float, latency: float, timeout: float | None, fresh: bool, probe: bool,
                   tokens: int | None, first_item: float | None) -> None:
        window, rate = self._load.window, self._load.rate
        self._failures_in_a_row = 0
        rate.done += 1
        if fresh:
            self._ok_since_cut = True
            if not probe:
                window.accepted(call.beside)
        if self._cold and not self._gate.probing:
            self._cold = False
            rate.measure_anew(now)
        if self._gate.probing and (probe or fresh):
            if not self._gate.cold:
                self._windows.opened(call.started)
            self._open(now)
        elif not call.cold:
            self._load.answered(now, latency, timeout, fresh, tokens, first_item)
        elif window.holds_back and window.slow_start:
            window.grow(now)
        if self.in_flight + 1 < 0.7 * window.size:
            window.holds_back = False

    def _lives(self, now: float, votes: bool) -> None:
        """A request was found wrong by a server that is up: no latency, but no reason to keep the gate shut."""
        self._failures_in_a_row = 0
        self._load.rate.done += 1
        if self._gate.probing and votes:
            self._open(now)

    def _failed(self, now: float, answered: bool, fresh: bool, probe: bool) -> None:
        self._failures_in_a_row += 1
        self._load.rate.done += answered
        if probe:
            self._gate.probe_failed(now)
            self._epoch = now
        elif fresh and self._failures_in_a_row >= FAILURES_TO_CLOSE:
            self._gate.shut_refused(now)
            self._epoch = now

    def _refused(self, call: Start, now: float, hint: float | None, fresh: bool, probe: bool, grew: bool) -> None:
        window, rate = self._load.window, self._load.rate
        rate.clean = False
        self._windows.give_back()
        if hint is None:
            self._windows.closed(call.started)
        else:  # then nothing needs to be guessed
            self._windows.forget()
        if grew and (fresh or probe):
            rate.cap_growth(now)
        if probe:
            self._gate.probe_refused(now, hint, self._windows.next_probe(now))
        elif fresh and self._ok_since_cut:
            if self._load.cut(now, call.beside, call.gap, self.in_flight, hint, grew):
                self._epoch_before = self._epoch
            self._epoch = now
            self._ok_since_cut = False
        elif fresh:  # a second epoch without one success
            if hint is not None and rate.learned:
                rate.cut_again(now, self._load.latency.mean)
            self._gate.shut_refused(now, hint, self._windows.next_probe(now))
            self._epoch = now
        elif window.slots and call.started > self._epoch_before and call.beside < window.held:
            window.slots_fewer(call.beside)

    def _open(self, now: float) -> None:
        if self._gate.foreseen:
            self._load.rate.reopen(now)
        else:
            self._load.reopen(now, self._gate.cold)
        self._gate.open(now)
        self._cold, self._ok_since_cut, self._failures_in_a_row = False, True, 0
        self._epoch = self._epoch_before = now

    # By hand.

    def pause(self, now: float, seconds: float) -> None:
        """Nobody starts for so many seconds. It takes the place of an earlier pause."""
        self._gate.pause(now, checks.number("seconds", seconds, least=0))
        self.story.note(now, self._cold, by_hand=True)

    def resume(self, now: float) -> None:
        """Calls may start again, also where the server's word had shut the gate, or told that none are left."""
        self._gate.pause(now, 0)
        self._allowance.lift()
        self._windows.unbind()
        if self._gate.probing:
            self._open(now)
        self.story.note(now, self._cold, by_hand=True)

    def _cool_down(self, now: float) -> None:
        """A server left alone long enough has most likely unloaded its model."""
        if (self._idle is not None and not self.in_flight and not self._cold and now - self._last_event > self._idle
                and now - (left_at := max(self._last_event, self._load.rate.next_start)) > self._idle):
            self._cold = True
            self._load.window.restart()
            self._load.rate.follow_schedule(now, restart=True)
            self.story.idle(left_at + self._idle, self._last_event)

    def snapshot(self, now: float) -> PaceSnapshot:
        """What the pace does at this instant."""
        self._cool_down(now)
        gate, rate, window = self._gate, self._load.rate, self._load.window
        rate.follow_schedule(now)
        self.story.note(now, self._cold)
        return PaceSnapshot(self.story.state, window.size, None if rate.dormant else rate.value, self.in_flight,
                            max(gate.opens_at, self._allowance.ready_at(now)) - now, self._load.strain.seconds,
                            self.story.why, self.story.since(now), self.story.next_probe_in(now),
                            rate.bound if rate.learned else None, (window.held or None) if window.slots else None,
                            rate.growth_capped(now), self._allowance.started)
