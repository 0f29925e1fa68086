"""A circuit breaker: it opens when too many calls fail or are slow, and lets a few trials find out when to close.

The state is told the time and the chance; beneath it stands the face of the library circuitbreaker (`with circuit:`,
`@circuit`, the Monitor). Three states and a window of votes are resilience4j's; the generation, by which a late answer
of an earlier era is known and not counted, is gobreaker's.
"""

from __future__ import annotations

import inspect
import itertools
import math
import weakref
from _thread import allocate_lock
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from random import Random
from threading import local
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from circuitbreaker import (
    STATE_CLOSED,
    STATE_HALF_OPEN,
    STATE_OPEN,
    CircuitBreaker,
    CircuitBreakerError,
    CircuitBreakerMonitor,
)

from llm_guard import checks, clock
from llm_guard.errors import Cancelled, ConfigError, Rejected
from llm_guard.fork import renew_after_fork
from llm_guard.state.votes import Ballot, Tally

P = ParamSpec("P")
T = TypeVar("T")

GROWTH = 1.6  # of the open time, with each opening that follows a failed trial
JITTER = (0.75, 1.25)  # of the open time, so that many clients do not come back together


@dataclass(frozen=True, slots=True)
class CircuitSnapshot:
    """`state` is "closed", "open" or "half_open"; the rates (0 to 1) and `calls` are those of the window, and, while
    it is not closed, those that opened it. `open_in`: seconds until trials are let in, 0 unless open. `trials`: how
    many run."""

    state: str
    failure_rate: float
    slow_rate: float
    calls: int
    open_in: float
    trials: int


class CircuitOpen(Rejected, CircuitBreakerError):  # type: ignore[misc]  # circuitbreaker has no types
    """The circuit is open, or half-open with all its trials taken: the call never started.

    `name` is the circuit's; `snapshot` how it stood. `open_until` is when trials begin (aware, UTC), and `retry_after`
    the same in seconds; both are None while trials run, for nobody knows how they end. `last_failure` names the type
    of the last failure; its text is not kept, for it might hold a prompt.
    """

    def __init__(self, name: str | None, snapshot: CircuitSnapshot, last_failure: type[BaseException] | None) -> None:
        self.policy = "breaker"
        self.name = name
        self.snapshot = snapshot
        self.failure_rate = snapshot.failure_rate
        self.slow_rate = snapshot.slow_rate
        self.last_failure = None if last_failure is None else last_failure.__name__
        self.retry_after = None
        self.open_until: datetime | None = None
        how = "is half-open, and all its trials are taken"
        if snapshot.state == STATE_OPEN:
            self.retry_after = snapshot.open_in
            self.open_until = datetime.fromtimestamp(clock.current().wall() + snapshot.open_in, UTC)
            how = f"is open for another {snapshot.open_in:.3g} s"
        why = f": of {snapshot.calls} calls {self.failure_rate:.0%} failed and {self.slow_rate:.0%} were slow"
        last = f"; the last failure was {self.last_failure}" if self.last_failure else ""
        # Past CircuitBreakerError's own __init__, which takes a breaker and keeps it.
        Exception.__init__(self, f"circuit {name or 'without a name'} {how}{why if snapshot.calls else ''}{last}")

    def __str__(self) -> str:
        return str(self.args[0])


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


class _Entered(local):
    """Of each thread, the permits of the `with` blocks that it is in."""

    def __init__(self) -> None:
        self.permits: list[CircuitPermit] = []


class Circuit(CircuitBreaker):  # type: ignore[misc]  # circuitbreaker has no types
    """A circuit breaker, thread-safe, whose lock is never held during a call.

    Closed, it counts the last `window` calls (20), or those of the last `window_seconds`, and opens once `min_calls`
    of them (at most the window) have a share of failures of `failure_rate` or more, or one of `slow_rate` or more
    that took longer than `slow_call` seconds. Open, it lets nothing in for `open_for` seconds (0: trials at once),
    with jitter; with each failed trial the time grows, up to `max_open` before jitter, and falls back when it has
    closed. Half-open, it lets `trials` calls in at a time; it closes when so many have succeeded and opens again with
    the first that fails. A trial that ends without a verdict gives its place back, as does one that has not ended
    after `trial_timeout` seconds, whose verdict then counts no more.

    While it lives, a circuit with a name is found in `CircuitBreakerMonitor`, the second "name" as "name#2"; one
    without takes that of the first function it decorates. Raises `ConfigError` for options that cannot work.
    """

    _open_until: float | None  # None: closed
    _open_since: float
    _opened_for: float  # how long it opens, or opened last, before jitter
    _at_opening: Tally
    _last_failure: type[BaseException] | None
    _running: list[CircuitPermit]  # the trials; some may have given their place back
    _succeeded: int  # trials
    _succeeded_slowly: int

    def __init__(self, *, failure_rate: float = 0.5, window: int | None = None, window_seconds: float | None = None,
                 min_calls: int = 10, slow_call: float | None = None, slow_rate: float = 1.0, open_for: float = 5.0,
                 max_open: float = 60.0, trials: int = 1, trial_timeout: float = 60.0,
                 name: str | None = None) -> None:
        super().__init__()
        self._ballot = Ballot(failure_rate=failure_rate, window=window, window_seconds=window_seconds,
                              min_calls=min_calls, slow_call=slow_call, slow_rate=slow_rate)
        self._open_for = checks.number("open_for", open_for, least=0, unit="seconds")
        self._max_open = max(self._open_for, checks.number("max_open", max_open, least=0, unit="seconds"))
        self._trials = checks.whole("trials", trials, least=1)
        self._trial_timeout = checks.number("trial_timeout", trial_timeout, above=0, unit="seconds")
        if name is not None and (not isinstance(name, str) or not name):
            raise ConfigError("name", name, "a text that is not empty, or None")
        self._lock = allocate_lock()
        self._entered = _Entered()
        self._generation = 0
        self._close()
        renew_after_fork(self)
        if name is not None:
            self._list_as(name)

    # The state: told the time

    def ready_at(self, now: float, patient: bool) -> float | CircuitOpen:
        """When a call may start: `now`, where it may now.

        Else, for who is not `patient`, the error that refuses it; for who is, the instant at which to ask again: when
        trials begin, or, where they run, when the first of them expires (that one ends may let it in earlier).
        """
        with self._lock:
            if self._admits(now):
                return now
            if patient and self._open_until is not None:
                return max(self._open_until, min((permit.started + self._trial_timeout for permit in self._running),
                                                 default=0.0))
            refused = self._look(now)
        return CircuitOpen(self.name, refused, self._last_failure)

    def start(self, now: float) -> CircuitPermit:
        """Lets a call in, which must end; raises `CircuitOpen` where none may start."""
        with self._lock:
            if self._admits(now):
                permit = CircuitPermit(self._generation, now, trial=self._open_until is not None)
                if permit.trial:
                    self._running.append(permit)
                return permit
            refused = self._look(now)
        raise CircuitOpen(self.name, refused, self._last_failure)

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
                if self._ballot.cast(now, good=good, seconds=seconds):
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
    def open_since(self) -> float:
        """The instant at which it was last closed; infinity where it is."""
        return self._open_since

    def after_fork(self) -> None:
        """In the child: closed, without votes; permits of the parent are void."""
        self._lock = allocate_lock()  # another thread of the parent may have held the old one
        self._close()

    def _admits(self, now: float) -> bool:
        if self._open_until is None:
            return True
        return now >= self._open_until and len(self._running_at(now)) + self._succeeded < self._trials

    def _running_at(self, now: float) -> list[CircuitPermit]:
        """The trials that hold a place."""
        self._running = [permit for permit in self._running
                         if not permit.given_back and now < permit.started + self._trial_timeout]
        return self._running

    def _passed(self, permit: CircuitPermit, good: bool, seconds: float, error: type[BaseException] | None) -> bool:
        """Takes the vote of a trial; False when it is to open again."""
        self._running.remove(permit)
        if not good:
            self._last_failure = error
            return False
        self._succeeded += 1
        self._succeeded_slowly += self._ballot.is_slow(seconds)
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
        self._at_opening = Tally()
        self._last_failure = None
        self._ballot.clear()
        self._begin_era()

    def _begin_era(self) -> None:
        self._generation += 1
        self._running = []
        self._succeeded = self._succeeded_slowly = 0

    def _state_at(self, now: float) -> tuple[str, float]:
        """The state, and the seconds for which it stays open. Changes nothing and needs no lock: one reading."""
        until = self._open_until
        if until is None:
            return STATE_CLOSED, 0.0
        return (STATE_OPEN, until - now) if now < until else (STATE_HALF_OPEN, 0.0)

    def _look(self, now: float) -> CircuitSnapshot:
        state, open_in = self._state_at(now)
        tally = self._tally(now)
        return CircuitSnapshot(state, tally.failure_rate, tally.slow_rate, tally.calls, open_in,
                               len(self._running_at(now)))

    def _tally(self, now: float) -> Tally:
        return self._ballot.tally(now) if self._open_until is None else self._at_opening

    # The face of circuitbreaker: asks the clock

    def call(self, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls `func`; raises `CircuitOpen` where none may start."""
        with self:
            return func(*args, **kwargs)

    def call_generator(self, func: Callable[P, Iterable[Any]], /, *args: P.args,
                       **kwargs: P.kwargs) -> Generator[Any, None, Any]:
        """Yields what `func` does, and votes at its end by the time that it took itself, its consumer's not counted.

        One that is dropped casts no vote.
        """
        time = clock.current()
        permit = self.start(time.now())
        seconds = 0.0
        good: bool | None = None
        error: type[BaseException] | None = None

        def started() -> Generator[Any, None, Any]:
            return (yield from func(*args, **kwargs))

        stream = started()
        try:
            while True:
                began = time.now()
                try:
                    item = next(stream)
                except StopIteration as end:
                    good = True
                    return end.value
                except BaseException as raised:
                    error = type(raised)
                    good = self._verdict(raised)
                    raise
                finally:
                    seconds += time.now() - began
                yield item
        finally:
            try:
                stream.close()
            finally:
                self.end(time.now(), permit, good, seconds, time.random, error)

    def call_async(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: circuits guard blocking calls."""
        raise ConfigError("function", args[0] if args else None, _BLOCKING)

    call_async_generator = call_async

    def __enter__(self) -> None:
        """Raises `CircuitOpen` where no call may start. A block within a trial of the same thread is part of it.

        The thread that enters must be the one that leaves.
        """
        now = clock.current().now()
        permits = self._entered.permits
        if permits and self._is_running(permits[-1], now):
            permits.append(permits[-1])
        else:
            permits.append(self.start(now))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        permits = self._entered.permits
        permit = permits.pop() if permits else None
        if permit is None or permit in permits:
            return  # entered by another thread, or part of a trial, which ends with the outer block
        time = clock.current()
        now = time.now()
        good: bool | None = None
        try:
            good = True if error is None else self._verdict(error)
        finally:
            self.end(now, permit, good, now - permit.started, time.random, kind)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        return self.decorate(function)

    def decorate(self, function: Callable[P, T]) -> Callable[P, T]:
        """Guards a function or a generator function.

        `ConfigError` for a coroutine function, and for a function of a class, whose instances would share this
        circuit unawares: say `with circuit:` in its body to share it, or decorate the bound method for one each.
        """
        if any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
               for each in (function, type(function).__call__)):
            raise ConfigError("function", function, _BLOCKING)
        name = getattr(function, "__qualname__", type(function).__qualname__)
        inside, _, _ = name.rpartition(".")
        if inside and not inside.endswith("<locals>") and not inspect.ismethod(function):
            raise ConfigError("function", function, "not a function of a class, whose instances would share one "
                              'circuit: say "with circuit:" in its body, or decorate the bound method')
        if self._name is None:
            self._list_as(name)
        if inspect.isgeneratorfunction(function):
            @wraps(function)
            def guarded_generator(*args: P.args, **kwargs: P.kwargs) -> Any:
                return (yield from self.call_generator(function, *args, **kwargs))
            return guarded_generator

        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            return self.call(function, *args, **kwargs)
        return guarded

    def reset(self) -> None:
        """Closes it and forgets all votes."""
        self.force_closed(clock.current().now())

    @property
    def state(self) -> str:
        """One of circuitbreaker's words: "closed", "open", "half_open"."""
        return self._state_at(clock.current().now())[0]

    @property
    def open_remaining(self) -> int:
        """Seconds until trials are let in, rounded up; 0 unless open."""
        return math.ceil(self._state_at(clock.current().now())[1])

    @property
    def open_until(self) -> datetime:
        """When trials are let in (aware, UTC); the present unless open."""
        time = clock.current()
        return datetime.fromtimestamp(time.wall() + self._state_at(time.now())[1], UTC)

    @property
    def failure_count(self) -> int:
        """Failures in the window; while not closed, those that opened it."""
        with self._lock:
            return self._tally(clock.current().now()).failures

    @property
    def last_failure(self) -> type[BaseException] | None:
        """The type of the last failure since it was closed. The error itself is not kept: it might hold a prompt."""
        return self._last_failure

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Circuit) and self.__dict__ is other.__dict__

    def __hash__(self) -> int:
        return id(self.__dict__)

    def _verdict(self, error: BaseException) -> bool | None:
        if isinstance(error, Rejected | Cancelled):
            return None
        return False if self.is_failure(type(error), error) else None

    def _is_running(self, permit: CircuitPermit, now: float) -> bool:
        with self._lock:
            return permit in self._running_at(now)

    def _list_as(self, name: str) -> None:
        """Makes it visible in the Monitor, for as long as it lives.

        The Monitor keeps what it is given for ever. So it is given a second face of the same state, equal to the
        first, which goes when the first does. `setdefault` is atomic, so no two circuits take one name.
        """
        face = type(self).__new__(type(self))
        face.__dict__ = self.__dict__
        for number in itertools.count(1):
            self._name = name if number == 1 else f"{name}#{number}"
            if CircuitBreakerMonitor.circuit_breakers.setdefault(self._name, face) is face:
                break
        weakref.finalize(self, _unlist, self._name, face).atexit = False


_BLOCKING = "a blocking function: coroutines are not guarded"


def _unlist(name: str, face: Circuit) -> None:
    if CircuitBreakerMonitor.circuit_breakers.get(name) is face:
        CircuitBreakerMonitor.circuit_breakers.pop(name, None)
