"""What a server can be like: its settings as frozen values, checked as they are made (ConfigError).

Times in seconds from the server's first call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llm_guard.checks import number, optional_number, whole
from llm_guard.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Load:
    """The model is not loaded until a call asks for it, then loads for `seconds` x U(1 - spread, 1 + spread).

    `estimate_absent` is the share of refusals that tell no estimate. With `holds`, that many calls are held while it
    loads instead of being refused. It unloads after `unload_after` idle seconds.
    """

    seconds: float
    spread: float = 0.1
    estimate_absent: float = 0.0
    holds: int = 0
    unload_after: float = 60.0

    def __post_init__(self) -> None:
        number("seconds", self.seconds, least=0, unit="seconds")
        number("spread", self.spread, least=0, most=1)
        number("estimate_absent", self.estimate_absent, least=0, most=1)
        whole("holds", self.holds, least=0)
        number("unload_after", self.unload_after, above=0, unit="seconds", endless=True)


@dataclass(frozen=True, slots=True)
class Scaling:
    """A share of `busy` of the slots taken for `after` seconds orders one more replica, which takes `takes` seconds."""

    most: int = 4
    busy: float = 0.8
    after: float = 10.0
    takes: float = 15.0

    def __post_init__(self) -> None:
        whole("most", self.most, least=1)
        number("busy", self.busy, above=0, most=1)
        number("after", self.after, least=0, unit="seconds")
        number("takes", self.takes, least=0, unit="seconds")


@dataclass(frozen=True, slots=True)
class BucketLimit:
    """The account's token bucket: `rate` calls a second, `burst` at once; a refused call costs `refused_cost` too.

    `changes`: (at second, calls a second from then on), in order; nobody is told of them beforehand. With `remaining`
    each answer tells how many calls are left at once, and in how many seconds the bucket is full.
    """

    rate: float
    burst: float
    retry_after: bool = True
    refused_cost: float = 0.0
    floor: float = -10.0
    changes: tuple[tuple[float, float], ...] = ()
    remaining: bool = False

    def __post_init__(self) -> None:
        number("rate", self.rate, above=0, unit="calls a second")
        number("burst", self.burst, least=1, unit="calls")
        number("refused_cost", self.refused_cost, least=0, unit="calls")
        number("floor", self.floor, most=0, unit="calls")
        _check_order("changes", [at for at, _ in self.changes])
        for _, rate in self.changes:
            number("changes", rate, above=0, unit="calls a second")


@dataclass(frozen=True, slots=True)
class WindowLimit:
    """The account's `calls` in each fixed window of `seconds`.

    `changes`: (at second, calls in a window from then on), in order. With `remaining` each answer tells how many calls
    are left in this window, and in how many seconds it ends.
    """

    calls: int
    seconds: float = 60.0
    retry_after: bool = True
    changes: tuple[tuple[float, int], ...] = ()
    remaining: bool = False

    def __post_init__(self) -> None:
        whole("calls", self.calls, least=0)
        number("seconds", self.seconds, above=0, unit="seconds")
        _check_order("changes", [at for at, _ in self.changes])
        for _, calls in self.changes:
            whole("changes", calls, least=1)


@dataclass(frozen=True, slots=True)
class Quota:
    """The account has `calls`; once so many were accepted, each further call is refused.

    `renews_after` seconds after the last of them it has as many again (None: never). `retry_after`: the wait that a
    refusal tells, true or not, in seconds (None: it tells none).
    """

    calls: int
    retry_after: float | None = None
    renews_after: float | None = None

    def __post_init__(self) -> None:
        whole("calls", self.calls, least=0 if self.renews_after is None else 1)
        optional_number("retry_after", self.retry_after, least=0, unit="seconds")
        optional_number("renews_after", self.renews_after, above=0, unit="seconds")


@dataclass(frozen=True, slots=True)
class GrowthLimit:
    """At most max(`least`, `factor` x the mean of `history` seconds) calls accepted in the last `span` seconds.

    `told`: a refusal says that the traffic grew too fast; else it looks as one over the account's rate does.
    """

    least: float = 20.0
    factor: float = 1.5
    span: float = 10.0
    history: float = 60.0
    retry_after: float | None = None
    told: bool = False

    def __post_init__(self) -> None:
        number("least", self.least, least=0, unit="calls")
        number("factor", self.factor, above=0)
        number("span", self.span, above=0, unit="seconds")
        number("history", self.history, above=0, unit="seconds")
        optional_number("retry_after", self.retry_after, least=0, unit="seconds")


@dataclass(frozen=True, slots=True)
class WarmUp:
    """The k-th call is served 1 + `extra` x exp(-5k / `calls`) times as slowly."""

    calls: int
    extra: float = 9.0

    def __post_init__(self) -> None:
        whole("calls", self.calls, least=1)
        number("extra", self.extra, least=0)


@dataclass(frozen=True, slots=True)
class Spell:
    """From `start` until `end` only `share` of the capacity is there; 0: no connection is accepted."""

    start: float
    end: float
    share: float = 0.0

    def __post_init__(self) -> None:
        number("start", self.start, least=0, unit="seconds")
        number("end", self.end, above=self.start, unit="seconds", endless=True)
        number("share", self.share, least=0, most=1)


@dataclass(frozen=True, slots=True)
class Wander:
    """Each `every` seconds the share of capacity x moves by (mean - x) * pull + N(0, noise), within `low` to `high`."""

    mean: float = 0.6
    every: float = 5.0
    pull: float = 1 / 6
    noise: float = 0.28 / math.sqrt(3)
    low: float = 0.2
    high: float = 1.0

    def __post_init__(self) -> None:
        number("mean", self.mean, above=0)
        number("every", self.every, least=0.01, unit="seconds")
        number("pull", self.pull, least=0, most=1)
        number("noise", self.noise, least=0)
        number("low", self.low, least=0)
        number("high", self.high, least=self.low)


@dataclass(frozen=True, slots=True)
class Slow:
    """A `share` of the calls takes `seconds`, whatever the others take."""

    share: float
    seconds: float

    def __post_init__(self) -> None:
        number("share", self.share, least=0, most=1)
        number("seconds", self.seconds, above=0, unit="seconds")


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of server, and the batch it is tried with.

    Service takes `median` x exp(N(0, `sigma`)); `slots` calls at once and replica; `queue` more wait, None without end.
    A share `noise` of the calls, below 1, ends in a 500. `lengths`: (share of the calls, how many times as long they
    take); the rest takes its usual time. `longer`: (instant, how many times as long all take from then on). An answer
    of the usual length has `usual_tokens`, and tells it; None: it tells nothing. `timeout` is what a client allows an
    attempt, `items` how many calls a batch has.
    """

    name: str
    slots: float  # infinite: nobody ever queues
    median: float
    sigma: float
    queue: int | None = None
    noise: float = 0.0
    load: Load | None = None
    scaling: Scaling | None = None
    limit: BucketLimit | WindowLimit | None = None
    quota: Quota | None = None
    growth: GrowthLimit | None = None
    lengths: tuple[tuple[float, float], ...] = ()
    longer: tuple[tuple[float, float], ...] = ()
    usual_tokens: int | None = None
    warm_up: WarmUp | None = None
    spells: tuple[Spell, ...] = ()
    wander: Wander | None = None
    slow: Slow | None = None
    timeout: float = 10.0
    items: int = 3000
    nominal: float | None = None  # calls a second to hold for its capacity, where its slots have no end

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ConfigError("name", self.name, "a text")
        number("slots", self.slots, least=1, endless=True)
        number("median", self.median, above=0, unit="seconds")
        number("sigma", self.sigma, least=0, most=5)
        if self.queue is not None:
            whole("queue", self.queue, least=0)
        number("noise", self.noise, least=0, below=1)
        for _, factor in self.lengths:
            number("lengths", factor, least=0)
        number("lengths", sum(number("lengths", share, least=0) for share, _ in self.lengths), most=1 + 1e-9)
        _check_order("longer", [at for at, _ in self.longer])
        for _, factor in self.longer:
            number("longer", factor, above=0)
        if self.usual_tokens is not None:
            whole("usual_tokens", self.usual_tokens, least=1)
        number("timeout", self.timeout, above=0, unit="seconds")
        whole("items", self.items, least=1)
        optional_number("nominal", self.nominal, above=0, unit="calls a second")

    @property
    def mean_service(self) -> float:
        """Seconds a call takes on average, once warm, before answers grow longer."""
        longer = 1 + sum(share * (factor - 1) for share, factor in self.lengths)
        usual = self.median * math.exp(self.sigma ** 2 / 2) * longer
        return usual if self.slow is None else usual + self.slow.share * (self.slow.seconds - usual)

    @property
    def capacity(self) -> float:
        """Calls a second at the most: all replicas up, within the account's limit as it is at first.

        Not counted: what changes a limit later, and a quota, which bounds the sum and no rate.
        """
        if self.nominal is not None:
            return self.nominal
        replicas = self.scaling.most if self.scaling else 1
        share = self.wander.mean if self.wander else 1.0
        served = self.slots * replicas * share / self.mean_service
        match self.limit:
            case BucketLimit(rate=rate):
                return min(served, rate)
            case WindowLimit(calls=calls, seconds=seconds):
                return min(served, calls / seconds)
        return served


def _check_order(parameter: str, instants: Sequence[float]) -> None:
    before = 0.0
    for at in instants:
        before = number(parameter, at, least=before, unit="seconds")
