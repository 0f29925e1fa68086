"""The states of a circuit: closed, open, half-open, and the votes and trials that lead from one to the next.

It is told the time and the chance, and knows no library. Three states and a window of votes are resilience4j's; the
generation, by which a late answer of an earlier era is known and not counted, is gobreaker's.
"""

from __future__ import annotations

import math
from _thread import allocate_lock
from random import Random
from typing import NamedTuple

from llm_guard import checks
from llm_guard.errors import Rejected
from llm_guard.fork import renew_after_fork
from llm_guard.state.votes import Ballot, Tally

GROWTH = 1.6  # of the open time, with each opening that follows a failed trial
JITTER = (0.75, 1.25)  # of the open time, so that many clients do not come back together
LULL = 10.0  # where nobody came for so many seconds though a trial could have started, patience begins anew

_NO_VOTES = Tally()

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"  # circuitbreaker's words too


class CircuitSnapshot(NamedTuple):
    """`state` is "closed", "open" or "half_open"; the rates (0 to 1) and `calls` are those of the window, and, while
    it is not closed, those that opened it. `open_in`: seconds until trials are let in, 0 unless open. `trials`: how
    many run."""

    state: str
    failure_rate: float
    slow_rate: float
    calls: int
    open_in: float
    trials: int


class CircuitPermit:
    """One call let in, at `started`, in the era `generation`; a `trial` where it tries a circuit that was open.

    `given_back`: it ended without a verdict.
    """

    __slots__ = ("generation", "given_back", "started", "trial")

    def __init__(self, generation: int, started: float, trial: bool) -> None:
        self.generation = generation
        self.started = started
        self.trial = trial
        self.given_back = False


class CircuitState:
    """What a circuit knows, thread-safe, whose lock is never held during a call.

    Closed, it counts the last `window` calls (100), or those of the last `window_seconds`, and opens once `min_calls`
    of them (at most the window) have a share of failures of `failure_rate` or more, or one of `slow_rate` or more
    that took longer than `slow_call` seconds. Open, it lets nothing in for `open_for` seconds (0: trials at once),
    with jitter; with each failed trial the time grows, up to `max_open` before jitter, and falls back when it has
    closed. Half-open, it lets `trials` calls in at a time; it closes when so many have succeeded and opens again with
    the first that fails. A trial that ends without a verdict gives its place back, as does one that has not ended
    after `trial_timeout` seconds, whose verdict then counts no more.

    Who inherits makes the errors that refuse calls. Raises `ConfigError` for options that cannot work.
    """

    _open_until: float | None  # None: closed
    _open_since: float
    _opened_for: float  # how long it opens, or opened last, before jitter
    _at_opening: Tally
    _last_failure: type[BaseException] | None
    _running: tuple[CircuitPermit, ...]  # the trials; some may have given their place back
    _succeeded: int  # trials
    _succeeded_slowly: int

    def __init__(self, *, failure_rate: float, window: int | None, window_seconds: float | None, min_calls: int,
                 slow_call: float | None, slow_rate: float, open_for: float, max_open: float, trials: int,
                 trial_timeout: float) -> None:
        self._ballot = Ballot(failure_rate=failure_rate, window=window, window_seconds=window_seconds,
                              min_calls=min_calls, slow_call=slow_call, slow_rate=slow_rate)
        self._open_for = checks.number("open_for", open_for, least=0, unit="seconds")
        self._max_open = max(self._open_for, checks.number("max_open", max_open, least=0, unit="seconds"))
        self._trials = checks.whole("trials", trials, least=1)
        self._trial_timeout = checks.number("trial_timeout", trial_timeout, above=0, unit="seconds")
        self._lock = allocate_lock()
        self._generation = 0
        self._close()
        renew_after_fork(self)

    def ready_at(self, now: float, patient: bool) -> float | Rejected:
        """When a call may start: `now`, where it may now.

        Else, for who is not `patient`, the error that refuses it; for who is, the instant at which to ask again: when
        trials begin, or, where they run, when the first of them expires (that one ends may let it in earlier).
        """
        with self._lock:
            if self._open_until is not None and now > self._open_until + LULL and not self._running_at(now):
                self._open_since = now
            if self._admits(now):
                return now
            if patient and self._open_until is not None:
                return max(self._open_until, min((permit.started + self._trial_timeout for permit in self._running),
                                                 default=0.0))
            refused = self._look(now)
        return self._refusal(refused)

    def start(self, now: float) -> CircuitPermit:
        """Lets a call in, which must end; raises the error that refuses it where none may start."""
        with self._lock:
            if self._open_until is None:
                return CircuitPermit(self._generation, now, False)
            if self._admits(now):
                trial = CircuitPermit(self._generation, now, True)
                self._running += (trial,)
                return trial
            refused = self._look(now)
        raise self._refusal(refused)

    def end(self, now: float, permit: CircuitPermit, good: bool | None, seconds: float, random: Random,
            error: type[BaseException] | None = None) -> None:
        """Takes the vote of a call that ran `seconds`, waits not counted: `good` or not, None for no vote."""
        if good is None:
            permit.given_back = True  # without the lock: a dropped generator ends wherever garbage is collected
            return
        with self._lock:
            if permit.generation != self._generation:
                return
            if self._open_until is None:
                if not good:
                    self._last_failure = error
                if self._ballot.cast(now, good, seconds):
                    self._open(now, self._opened_for * random.uniform(*JITTER))
            elif permit in self._running_at(now) and not self._passed(permit, good, seconds, error):
                self._opened_for = min(self._max_open, self._opened_for * GROWTH)
                self._open(now, self._opened_for * random.uniform(*JITTER))

    def force_open(self, now: float) -> None:
        """Opens it, or opens it anew, by hand; trials follow as after any opening."""
        with self._lock:
            self._open(now, self._opened_for)

    def force_closed(self, now: float) -> None:
        """Closes it by hand and forgets all votes."""
        with self._lock:
            self._close()

    def snapshot(self, now: float) -> CircuitSnapshot:
        """How it stands."""
        with self._lock:
            return self._look(now)

    @property
    def is_closed(self) -> bool:
        """Whether all calls are let in. One reading, without the lock."""
        return self._open_until is None

    @property
    def open_since(self) -> float:
        """Since when calls are kept waiting in vain: the instant at which it was last closed, or, after a lull, that at
        which somebody came again. Infinity where it is closed."""
        return self._open_since

    @property
    def last_failure(self) -> type[BaseException] | None:
        """The type of the last failure since it was closed. The error itself is not kept: it might hold a prompt."""
        return self._last_failure

    def after_fork(self) -> None:
        """In the child: closed, without votes; permits of the parent are void."""
        self._lock = allocate_lock()  # another thread of the parent may have held the old one
        self._close()

    def _refusal(self, refused: CircuitSnapshot) -> Rejected:
        """The error for a call that may not start, as it stood then; called without the lock."""
        raise NotImplementedError

    def _admits(self, now: float) -> bool:
        if self._open_until is None:
            return True
        return now >= self._open_until and len(self._running_at(now)) + self._succeeded < self._trials

    def _is_running(self, permit: CircuitPermit, now: float) -> bool:
        with self._lock:
            return permit in self._running_at(now)

    def _running_at(self, now: float) -> tuple[CircuitPermit, ...]:
        """The trials that hold a place."""
        self._running = tuple([permit for permit in self._running
                               if not permit.given_back and now < permit.started + self._trial_timeout])
        return self._running

    def _passed(self, permit: CircuitPermit, good: bool, seconds: float, error: type[BaseException] | None) -> bool:
        """Takes the vote of a trial; False when it is to open again."""
        self._running = tuple([other for other in self._running if other is not permit])
        if not good:
            self._last_failure = error
            return False
        slow = self._ballot.is_slow(seconds)  # before anything changes: an interrupt may fall into it
        self._succeeded += 1
        self._succeeded_slowly += slow
        if self._succeeded < self._trials:
            return True
        if self._succeeded_slowly / self._trials >= self._ballot.slow_rate:
            return False
        self._close()
        return True

    def _open(self, now: float, seconds: float) -> None:
        if self._open_until is None:
            self._at_opening = self._ballot.tally(now)
            self._open_since = now
        self._open_until = now + seconds
        self._begin_era()

    def _close(self) -> None:
        self._open_until = None
        self._open_since = math.inf
        self._opened_for = self._open_for
        self._at_opening = _NO_VOTES
        self._last_failure = None
        self._ballot.clear()
        self._begin_era()

    def _begin_era(self) -> None:
        self._generation += 1
        self._running = ()
        self._succeeded = self._succeeded_slowly = 0

    def state_at(self, now: float) -> tuple[str, float]:
        """The state, and the seconds for which it stays open. Changes nothing and needs no lock: one reading."""
        until = self._open_until
        if until is None:
            return CLOSED, 0.0
        return (OPEN, until - now) if now < until else (HALF_OPEN, 0.0)

    def _look(self, now: float) -> CircuitSnapshot:
        state, open_in = self.state_at(now)
        tally = self._tally(now)
        return CircuitSnapshot(state, tally.failure_rate, tally.slow_rate, tally.calls, open_in,
                               len(self._running_at(now)))

    def _tally(self, now: float) -> Tally:
        return self._ballot.tally(now) if self._open_until is None else self._at_opening
