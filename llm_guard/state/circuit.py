"""A circuit breaker with the face of the library circuitbreaker: `with circuit:`, `@circuit`, the Monitor.

It opens when too many calls fail or are slow, and lets a few trials find out when to close: see `CircuitState`. Here
the clock is asked, and the library's words are answered by that state.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Generator, Iterable
from datetime import UTC, datetime
from functools import wraps
from threading import local
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from circuitbreaker import CircuitBreaker, CircuitBreakerError, CircuitBreakerMonitor, build_failure_predicate

from llm_guard import clock
from llm_guard.errors import Cancelled, ConfigError, Rejected
from llm_guard.state.circuit_listing import Listed
from llm_guard.state.circuit_state import GROWTH, JITTER, OPEN, CircuitPermit, CircuitSnapshot, CircuitState

__all__ = ["GROWTH", "JITTER", "Circuit", "CircuitOpen", "CircuitPermit", "CircuitSnapshot"]

P = ParamSpec("P")
T = TypeVar("T")

_BLOCKING = "a blocking function: coroutines are not guarded"


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
        if snapshot.state == OPEN:
            self.retry_after = snapshot.open_in
            self.open_until = datetime.fromtimestamp(clock.current().wall() + snapshot.open_in, UTC)
            how = f"is open for another {snapshot.open_in:.3g} s"
        why = f": of {snapshot.calls} calls {self.failure_rate:.0%} failed and {self.slow_rate:.0%} were slow"
        last = f"; the last failure was {self.last_failure}" if self.last_failure else ""
        # Past CircuitBreakerError's own __init__, which takes a breaker and keeps it.
        Exception.__init__(self, f"circuit {name or 'without a name'} {how}{why if snapshot.calls else ''}{last}")

    def __str__(self) -> str:
        return str(self.args[0])


class _Entered(local):
    """Of each thread, the permits of the `with` blocks that it is in."""

    def __init__(self) -> None:
        self.permits: list[CircuitPermit] = []


class Circuit(Listed, CircuitState, CircuitBreaker):  # type: ignore[misc]  # circuitbreaker has no types
    """A circuit breaker, thread-safe, whose lock is never held during a call; for its options see `CircuitState`.

    While it lives, a circuit with a name is found in `CircuitBreakerMonitor`, the second "name" as "name#2"; one
    without takes that of the first function it decorates. Raises `ConfigError` for options that cannot work.
    """

    # circuitbreaker's own __init__, which is passed by, would keep these in each circuit, with much that nobody reads.
    fallback_function = None
    is_failure = staticmethod(build_failure_predicate(Exception))
    _name: str | None = None
    _entered: _Entered | None = None  # from the first block on

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "EXPECTED_EXCEPTION" in vars(cls):  # circuitbreaker's way to say what fails
            cls.is_failure = staticmethod(build_failure_predicate(vars(cls)["EXPECTED_EXCEPTION"]))

    def __init__(self, *, failure_rate: float = 0.5, window: int | None = None, window_seconds: float | None = None,
                 min_calls: int = 20, slow_call: float | None = None, slow_rate: float = 1.0, open_for: float = 5.0,
                 max_open: float = 60.0, trials: int = 1, trial_timeout: float = 60.0,
                 name: str | None = None) -> None:
        CircuitState.__init__(self, failure_rate=failure_rate, window=window, window_seconds=window_seconds,
                              min_calls=min_calls, slow_call=slow_call, slow_rate=slow_rate, open_for=open_for,
                              max_open=max_open, trials=trials, trial_timeout=trial_timeout)
        if name is not None and (not isinstance(name, str) or not name):
            raise ConfigError("name", name, "a text that is not empty, or None")
        if name is not None:
            self._list_in(CircuitBreakerMonitor.circuit_breakers, name)

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
        permits = self._permits_entered()
        if permits and self._is_running(permits[-1], now):
            permits.append(permits[-1])
        else:
            permits.append(self.start(now))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        permits = self._permits_entered()
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

    def name_after(self, function: str) -> None:
        """Takes the name of a function that it guards, where it has none yet, and is listed under it."""
        if self._name is None:
            self._list_in(CircuitBreakerMonitor.circuit_breakers, function)

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
        self.name_after(name)
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
        return self.state_at(clock.current().now())[0]

    @property
    def open_remaining(self) -> int:
        """Seconds until trials are let in, rounded up; 0 unless open."""
        return math.ceil(self.state_at(clock.current().now())[1])

    @property
    def open_until(self) -> datetime:
        """When trials are let in (aware, UTC); the present unless open."""
        time = clock.current()
        return datetime.fromtimestamp(time.wall() + self.state_at(time.now())[1], UTC)

    @property
    def failure_count(self) -> int:
        """Failures in the window; while not closed, those that opened it."""
        with self._lock:
            return self._tally(clock.current().now()).failures

    def _permits_entered(self) -> list[CircuitPermit]:
        entered = self._entered
        if entered is None:  # in one step: another thread may enter too
            entered = self.__dict__.setdefault("_entered", _Entered())
        return entered.permits

    def _verdict(self, error: BaseException) -> bool | None:
        if isinstance(error, Rejected | Cancelled):
            return None
        return False if self.is_failure(type(error), error) else None

    def _refusal(self, refused: CircuitSnapshot) -> CircuitOpen:
        return CircuitOpen(self.name, refused, self._last_failure)
