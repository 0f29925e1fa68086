"""The waits between attempts, on backoff's wait generators and jitters.

Only backoff's sequences are used, not its loop, whose sleep nothing can end and which forgets how long the calls
themselves took. Both backoff 2 and its living fork, python-backoff 3, will do; it is imported with the first schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from functools import partial
from numbers import Real
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from llm_guard import checks
from llm_guard.errors import ConfigError

if TYPE_CHECKING:
    from inspect import Parameter

#: What a wait generator grows to, in seconds, where neither it nor its user sets a `max_value`.
LONGEST_WAIT = 60.0


class _Default(Enum):
    FULL_JITTER = "backoff.full_jitter"


#: `backoff.full_jitter`, which need not be imported to be named.
FULL_JITTER = _Default.FULL_JITTER

Jitter = Callable[[float], float]
WaitGenerator = Callable[..., Iterator[Any]]

_GENERATOR = ("a number of seconds or a generator function of finite waits of at least 0, such as backoff.expo "
              "(itself: its options are given beside it)")


class Schedule:
    """A recipe for the waits of a call's retries; many calls and threads may share it, for nothing changes it.

    `wait`: any of backoff's wait generators, or a user's generator function, called with `options` afresh for each
    call; or a number of seconds; or None for `backoff.expo(factor=0.1, max_value=8)`, whose options `options` may
    change. `jitter`: `backoff.full_jitter` (as by default), `backoff.random_jitter`, a function from a wait to the
    wait to be made, or None for none. What jitter takes below 0 is 0.

    A generator is tried out when the schedule is made. It may be sent None, where a number that it yields first is
    its first wait; None or 0 at that place is backoff's opening move, and no wait. When it ends, its last wait is
    repeated; one below 0 is 0. One that takes a `max_value` and has no default for it gets `LONGEST_WAIT`.

    Raises `ConfigError` for options that cannot work; later, for a wait that is no finite number.
    """

    __slots__ = ("_jitter", "_options", "_wait")

    def __init__(self, wait: WaitGenerator | float | None = None,
                 jitter: Jitter | Literal[_Default.FULL_JITTER] | None = FULL_JITTER, **options: Any) -> None:
        import backoff

        if wait is None:
            wait, options = backoff.expo, {"factor": 0.1, "max_value": 8.0, **options}
        elif isinstance(wait, Real):
            if options:
                raise ConfigError(*options.popitem(), "no option beside a number of seconds")
            wait, options = backoff.constant, {"interval": checks.number("wait", wait, least=0, unit="seconds")}
        elif not callable(wait):
            raise ConfigError("wait", wait, _GENERATOR)
        if jitter is FULL_JITTER:
            jitter = backoff.full_jitter
        elif jitter is not None:
            checks.function("jitter", jitter, "a function from a wait to a wait, or None")
        _check(wait, options)
        self._wait: WaitGenerator = wait
        self._jitter = jitter
        self._options = _bounded(wait, options)
        self._try_out()

    def waits(self, random: Random) -> Waits:
        """The waits of one call, in seconds, without end; chance is drawn from `random`."""
        return Waits(self._wait(**self._options), _drawn_from(random, self._jitter))

    def refusal_waits(self, random: Random) -> Waits:
        """Those after refusals that nothing else spaces: 0.5 s doubling to 30 s, with full jitter."""
        import backoff

        return Waits(backoff.expo(factor=0.5, max_value=30.0), _drawn_from(random, backoff.full_jitter))

    def with_hint(self, wait: float, hint: float | None, random: Random) -> float:
        """At least `wait`, and at least the `hint` that the server gave, in seconds.

        A tenth of the hint, 5 s at most, is spread on top, so that those who were told the same do not come back
        together; never below the hint, for then they would be refused again.
        """
        if hint is None or hint <= 0:
            return wait
        return max(wait, hint + random.uniform(0.0, min(0.1 * hint, 5.0)))

    def _try_out(self) -> None:
        import backoff

        try:
            checks.number("jitter", _drawn_from(Random(0), self._jitter)(1.0))
        except Exception as error:
            raise ConfigError("jitter", self._jitter, "a function from a wait to a wait, or None") from error
        try:
            waits = Waits(self._wait(**self._options), lambda wait: checks.number("wait", wait, least=0))
            if _bare(self._wait) is not backoff.runtime:  # which needs to see how a call ended
                next(waits)
        except Exception as error:
            raise ConfigError("wait", self._wait, _GENERATOR) from error


class Waits(Iterator[float]):
    """The waits of one call, one after the other; for one thread at a time."""

    __slots__ = ("_first", "_jitter", "_last", "_send")

    def __init__(self, generator: Iterator[Any], jitter: Jitter) -> None:
        self._jitter = jitter
        self._first: float | None = None
        self._last: float | None = None
        send = getattr(generator, "send", None)
        if send is None:
            self._send: Callable[[object], Any] = lambda _: next(generator)
        else:
            self._send = send
            try:
                self._first = send(None) or None  # backoff 2 yields None here, its fork 0
            except StopIteration:
                pass  # `after` says so

    def __next__(self) -> float:
        return self.after(None)

    def after(self, seen: object) -> float:
        """The next wait, in seconds, where the attempt ended in `seen`: an exception or a returned value.

        It is sent to the generator, for `backoff.runtime` reads the wait off it.
        """
        wait, self._first = self._first, None
        if wait is None:
            try:
                wait = self._send(seen)
            except StopIteration:
                if self._last is None:
                    raise ConfigError("wait", None, "a generator that yields a wait before it ends") from None
                wait = self._last
        self._last = checks.number("wait", wait, unit="seconds")
        return max(0.0, checks.number("jitter", self._jitter(self._last)))


def _check(wait: WaitGenerator, options: dict[str, Any]) -> None:
    """Finds what the generator itself would find late, or would not tell by name."""
    import backoff

    known = _parameters(wait)
    any_name = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    for name, value in options.items():
        if name not in known and not any_name:
            raise ConfigError(name, value, "an option of the wait generator: " + (", ".join(known) or "it has none"))
        if isinstance(value, Iterator):
            raise ConfigError(name, value, "something that many calls can use: an iterator serves one")
        if name == "max_value" and value is not None:
            checks.number(name, value, least=0, unit="seconds")
    if _bare(wait) is backoff.expo:
        for name in options.keys() & {"base", "factor"}:
            checks.number(name, options[name], above=0)
    elif _bare(wait) is backoff.runtime:
        checks.function("value", options.get("value"), "a function from an exception or a value to seconds")
    elif _bare(wait) is backoff.constant and isinstance(options.get("interval"), Sequence):
        for interval in options["interval"]:
            checks.number("interval", interval, least=0, unit="seconds")


def _bounded(wait: WaitGenerator, options: dict[str, Any]) -> dict[str, Any]:
    """The options with a `max_value` where the generator takes one: without, backoff.expo overflows in time."""
    longest = _parameters(wait).get("max_value")
    if longest is None or options.get("max_value", longest.default) not in (None, longest.empty):
        return options
    return {**options, "max_value": LONGEST_WAIT}


def _parameters(wait: WaitGenerator) -> dict[str, Parameter]:
    import inspect

    try:
        return dict(inspect.signature(wait).parameters)
    except (TypeError, ValueError) as error:
        raise ConfigError("wait", wait, _GENERATOR) from error


def _bare(wait: WaitGenerator) -> WaitGenerator:
    return wait.func if isinstance(wait, partial) else wait


def _drawn_from(random: Random, jitter: Jitter | None) -> Jitter:
    """`jitter` with its chance drawn from `random`.

    backoff's two draw from the process's global generator. The same distributions are drawn here from ours, so that
    chance is a parameter and a run can be repeated.
    """
    import backoff

    if jitter is None:
        return lambda wait: wait
    if jitter is backoff.full_jitter:
        return lambda wait: random.uniform(0.0, wait)
    if jitter is backoff.random_jitter:
        return lambda wait: wait + random.random()
    return jitter
