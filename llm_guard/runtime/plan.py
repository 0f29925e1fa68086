"""What a stack of policies comes to: the gates, bounds and rules that the runner goes by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from llm_guard.call import FOREVER
from llm_guard.errors import ConfigError
from llm_guard.runtime import reading
from llm_guard.runtime.keys import Asks
from llm_guard.runtime.policy import Policy
from llm_guard.runtime.reading import Classify
from llm_guard.state.cost_gate import Estimate
from llm_guard.state.gate import Gate
from llm_guard.state.keyed import Keyed
from llm_guard.state.limiter import LimitGate
from llm_guard.state.stream_time import Bounds
from llm_guard.state.tries import Rule


class Timed(Protocol):
    """Bounds in time whose calls are cut off when one is reached; `still_running` counts those that went on."""

    bounds: Bounds
    still_running: int


class Plan:
    """A policy adds to it in `join`; afterwards it is only read. Of tuples, for an empty one takes no memory.

    Gates that hold for an attempt are told from those that hold for the whole call, and so are time bounds. Gates are
    asked in the order of their list: limits after those that may refuse, so that nobody waits for a place only to be
    refused then; a pace last, so that it is asked only when all else is ready, and learns only of its own waits. Where
    a family of gates stands in the place of one, each attempt has the gate of its key.
    """

    __slots__ = ("all_gates", "asks", "attempt_gates", "attempt_timeouts", "bounds_time", "call_deadlines",
                 "call_gates", "call_timeouts", "classify", "estimates", "fallback", "has_retry",
                 "is_empty", "is_paced", "is_simple", "joined", "max_wait", "paces", "patience", "plain", "policies",
                 "rule", "simple_gates", "tellers", "timeouts")

    def __init__(self, policies: tuple[Policy, ...], classify: Classify | None = None) -> None:
        self.policies = policies
        self.classify = classify
        self.call_gates: tuple[Gate | Keyed[Any], ...] = ()
        self.attempt_gates: tuple[Gate | Keyed[Any], ...] = ()
        self.paces: tuple[Gate | Keyed[Any], ...] = ()
        self.estimates: tuple[Estimate, ...] = ()  # of what a call will cost
        self.tellers: tuple[Policy, ...] = ()  # those that have news for the log
        self.call_timeouts: tuple[Timed, ...] = ()
        self.attempt_timeouts: tuple[Timed, ...] = ()
        self.call_deadlines: tuple[Callable[[], float], ...] = ()
        self.rule: Rule | None = None
        self.fallback: Callable[[Exception, tuple[Any, ...], dict[str, Any]], Any] | None = None
        self.max_wait = FOREVER
        self.is_empty = not policies
        retry_at = next((at for at, policy in enumerate(policies) if not policy.repeatable and policy.name == "retry"),
                        len(policies))
        self.joined = 0
        self.has_retry = retry_at < len(policies)
        for policy in policies:
            self.joined += 1
            policy.join(self, by_call=self.joined <= retry_at)
        self.call_gates = tuple(sorted(self.call_gates, key=_limits))
        self.attempt_gates = tuple(sorted(self.attempt_gates, key=_limits)) + self.paces
        self.all_gates = self.call_gates + self.attempt_gates
        self.asks: tuple[Asks, ...] = (
            *(gate for gate in self.all_gates if isinstance(gate, Keyed)), *self.estimates)
        self.is_paced = bool(self.paces)  # then the tokens of answers are counted
        self.bounds_time = bool(self.call_timeouts or self.attempt_timeouts or self.call_deadlines)
        self.timeouts = self.call_timeouts + self.attempt_timeouts
        self._look_for_short_way()

    def _look_for_short_way(self) -> None:
        """What `runtime.express` goes by, and whether it may."""
        self.plain = reading.COUNTED_PLAIN if self.is_paced else reading.PLAIN
        rule = self.rule
        self.patience = None if rule is None else rule.max_refusal_wait
        self.is_simple = not (self.is_empty or self.call_gates or self.call_deadlines or self.asks or self.fallback
                              or (rule is not None and rule.budget is not None))
        # A timeout is a gate for the sake of what still runs: where nothing does, it lets everybody in.
        self.simple_gates: tuple[Gate, ...] = self.attempt_gates  # type: ignore[assignment]  # no families: `asks`
        if self.timeouts:
            bounds = set(map(id, self.timeouts))
            self.simple_gates = tuple([gate for gate in self.simple_gates if id(gate) not in bounds])

    def read_with(self, classify: Classify | None) -> None:
        """Sets how ends are read; a stack reads them in one way."""
        if classify is None or classify is self.classify:
            return
        if self.classify is not None:
            raise ConfigError("classify", classify, "one function for the whole stack, given once")
        self.classify = classify

    def wait_at_most(self, seconds: float | None) -> None:
        """Bounds each wait at the door; the shortest bound holds."""
        if seconds is not None:
            self.max_wait = min(self.max_wait, seconds)


def _limits(gate: Gate | Keyed[Any]) -> bool:
    return isinstance(gate, LimitGate | Keyed)  # a family of paces is not among those that are sorted
