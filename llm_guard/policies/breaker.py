"""`@breaker`: after too many failures nobody calls for a while; then trials decide."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from llm_guard import clock
from llm_guard.errors import Rejected
from llm_guard.outcome import FAILURES, Kind
from llm_guard.runtime.door import door
from llm_guard.runtime.guarded import Guarded
from llm_guard.runtime.plan import Plan
from llm_guard.runtime.policy import Policy, check_bare, check_classify
from llm_guard.runtime.reading import Classify
from llm_guard.state.circuit_state import CLOSED, HALF_OPEN
from llm_guard.state.gate import Ending, Request
from llm_guard.state.pace_words import seconds

if TYPE_CHECKING:
    from llm_guard.state.circuit import CircuitPermit, CircuitSnapshot

P = ParamSpec("P")
R = TypeVar("R")

_SUCCESS = Kind.SUCCESS  # members of an enum are slow to look up, until Python 3.12


class Breaker(Policy):
    """See `breaker`. It is a gate too, over a circuit."""

    name = "breaker"
    changes = True
    outlives = False

    def __init__(self, failure_rate: float, window: int | None, window_seconds: float | None, min_calls: int,
                 slow_call: float | None, slow_rate: float, open_for: float, trials: int, name: str | None,
                 classify: Classify | None) -> None:
        from llm_guard.state.circuit import Circuit  # brings circuitbreaker, which not everybody needs

        self._classify = check_classify(classify)
        self.circuit = Circuit(failure_rate=failure_rate, window=window, window_seconds=window_seconds,
                               min_calls=min_calls, slow_call=slow_call, slow_rate=slow_rate, open_for=open_for,
                               trials=trials, name=name)
        self._told = "closed"
        self._by_hand = False  # the change that is still to be told

    def __call__(self, function: Callable[P, R]) -> Guarded[P, R]:
        guarded = super().__call__(function)
        self.circuit.name_after(getattr(guarded, "__qualname__", type(function).__qualname__))
        return guarded

    def join(self, plan: Plan, *, by_call: bool) -> None:
        if by_call and plan.has_retry:
            plan.call_gates += (self,)
        else:
            plan.attempt_gates += (self,)
        plan.read_with(self._classify)

    def open(self) -> None:
        """Opens the circuit by hand, for as long as its own opening would last."""
        self.circuit.force_open(clock.current().now())
        self._by_hand = True
        door.changed(self)

    def close(self) -> None:
        """Closes it by hand, and forgets its votes."""
        self.circuit.force_closed(clock.current().now())
        self._by_hand = True
        door.changed(self)

    def change(self, now: float, keys: Mapping[Any, Hashable]) -> tuple[str, str, str] | None:
        if self.circuit.state_at(now)[0] == self._told:
            return None
        with door.locked():
            found = self.circuit.snapshot(now)
            told, self._told = self._told, found.state
            by_hand, self._by_hand = self._by_hand, False
        return None if told == found.state else (told, found.state, _why(found, by_hand))

    def statistics(self) -> CircuitSnapshot:
        with door.locked():
            return self.circuit.snapshot(clock.current().now())

    # As a gate.

    def ready_at(self, now: float, request: Request) -> float | Rejected:
        if self.circuit.is_closed:
            return now
        patient = request.patience is not None and self not in request.gates[:request.by_call]
        at = self.circuit.ready_at(now, patient)
        if isinstance(at, Rejected) or at <= now or request.patience is None:
            return at
        gives_up = self.circuit.open_since + request.patience
        return min(at, gives_up) if now < gives_up else self.circuit.ready_at(now, False)

    def start(self, now: float, request: Request) -> CircuitPermit:
        return self.circuit.start(now)

    def end(self, now: float, permit: CircuitPermit, ending: Ending) -> None:
        kind = ending.outcome.kind
        good: bool | None = True if kind is _SUCCESS else None
        if good is None and (kind in FAILURES or (kind is Kind.OVERLOAD and not ending.paced)):
            good = False
        self.circuit.end(now, permit, good, ending.seconds, clock.chance, ending.error)

    def is_probe(self, permit: CircuitPermit) -> bool:
        return permit.trial

    def __repr__(self) -> str:
        return f"breaker({self.circuit.name})"


def _why(circuit: CircuitSnapshot, by_hand: bool) -> str:
    if circuit.state == HALF_OPEN:
        return "trials find out if it may close"
    if circuit.state == CLOSED:
        return "closed by hand" if by_hand else "its trials succeeded"
    slow = f" and {circuit.slow_rate:.0%} were slow" if circuit.slow_rate else ""
    what = "opened by hand" if by_hand else f"of {circuit.calls} calls {circuit.failure_rate:.0%} failed{slow}"
    return f"{what}; no call for {seconds(circuit.open_in)}"


@overload
def breaker(function: Callable[P, R], /) -> Guarded[P, R]: ...


@overload
def breaker(*, failure_rate: float = ..., window: int | None = ..., window_seconds: float | None = ...,
            min_calls: int = ..., slow_call: float | None = ..., slow_rate: float = ..., open_for: float = ...,
            trials: int = ..., name: str | None = ..., classify: Classify | None = ...) -> Breaker: ...


def breaker(function: Any = None, /, *, failure_rate: float = 0.5, window: int | None = None,
            window_seconds: float | None = None, min_calls: int = 20, slow_call: float | None = None,
            slow_rate: float = 1.0, open_for: float = 5.0, trials: int = 1, name: str | None = None,
            classify: Classify | None = None) -> Any:
    """Opens the circuit when, among at least `min_calls` votes of a sliding window, the share of failures reaches
    `failure_rate`, or the share of calls slower than `slow_call` seconds reaches `slow_rate`.

    The window is the last `window` calls (100; at most 10 million), or the last `window_seconds`. While it is open,
    calls are refused with `CircuitOpen`; where a `@retry` stands above, they wait instead. After `open_for` seconds
    (growing x1.6 to 60 s, with jitter) at most `trials` calls at once try it; when as many have succeeded it closes,
    and a failure opens it again. Votes are attempts below a `@retry`, whole calls above one. Refusals (a rate limit, a
    loading model) do not vote, but for overload where no `@ramp_up` stands in the stack. `name`: what
    `circuitbreaker.CircuitBreakerMonitor` lists it as (default: the first function that it decorates). `classify`
    replaces the reading of errors and returned values.
    """
    check_bare(function, "failure_rate", "breaker(failure_rate=0.5)")
    policy = Breaker(failure_rate, window, window_seconds, min_calls, slow_call, slow_rate, open_for, trials, name,
                     classify)
    return policy if function is None else policy.bare(function)
