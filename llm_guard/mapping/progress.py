"""`Progress`: how far a mapping is, as a frozen snapshot without payload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llm_guard.outcome import Kind


@dataclass(frozen=True, slots=True)
class Standing:
    """In which state the guards of the mapped function are.

    `state` is one of those of `@ramp_up` (cold, ramping, steady, holding, paused, exhausted; "mixed" where its keys
    differ), or "open" or "half_open" where a `@breaker` holds the calls back; `why` its reason, in words.
    `next_probe_in`: seconds until a probe may start (0: one may now or is under way; None: none is needed).
    `paused_until`: seconds since the epoch at which a pause by hand ends, None unless paused.
    """

    state: str
    why: str | None = None
    next_probe_in: float | None = None
    paused_until: float | None = None


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of the attempts that succeeded, or, where nothing is guarded, of the items: seconds, to within 2%."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True)
class Progress:
    """A mapping at one instant, `elapsed` seconds after it began. `wall` is that instant in seconds since the epoch.

    Items: `total` (None: not known), `done` = `succeeded` + `failed`, of which `recorded` came from a journal without a
    call. `in_flight` are attempts that run now, `waiting` the items that a worker has taken and that wait at the door
    or between two attempts (None: not known, as nothing is guarded; then `in_flight` are items).

    `attempts` are all that started, `retries` those that were not the first of their item, `outcomes` how they ended.
    `failures` are the items that failed, by reason: the outcome, where it is known, and the name of the error's class.
    `rate` is items a second, those from the journal left out, as a window of the last 10 s would tell; `eta` the
    seconds that the rest will take (None: nobody can tell).

    `standing` is the state of the function's guards (None: it has none that has a state); `over` says that nothing
    more will come.
    """

    wall: float
    elapsed: float
    total: int | None
    succeeded: int
    failed: int
    recorded: int
    in_flight: int
    waiting: int | None
    attempts: int
    retries: int
    rate: float
    eta: float | None
    outcomes: Mapping[Kind, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    latency: Percentiles | None = None
    standing: Standing | None = None
    over: bool = False

    @property
    def done(self) -> int:
        """Items that came to an end, good or bad."""
        return self.succeeded + self.failed

    @property
    def state(self) -> str | None:
        """The state of the function's guards in one word."""
        return None if self.standing is None else self.standing.state
