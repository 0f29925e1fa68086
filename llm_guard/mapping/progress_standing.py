"""In which state the guards of a mapped function are, asked of the policies that have one."""

from __future__ import annotations

from collections.abc import Iterable

from llm_guard import clock
from llm_guard.mapping.progress import Standing
from llm_guard.policies.breaker import Breaker
from llm_guard.policies.ramp_up import RampUp
from llm_guard.runtime.policy import Policy
from llm_guard.state.pace_snapshot import PaceSnapshot, together


def with_state(policies: Iterable[object]) -> list[Policy]:
    """Those that `standing` can tell of."""
    return [policy for policy in policies if isinstance(policy, (RampUp, Breaker))]


def standing(policies: Iterable[Policy]) -> Standing | None:
    """Of all together; a circuit that holds calls back comes first, as nothing goes on behind it."""
    paces: list[PaceSnapshot] = []
    of_circuit: Standing | None = None
    for policy in policies:
        if isinstance(policy, RampUp):
            paces.append(policy.statistics().pace)
        elif isinstance(policy, Breaker):
            circuit = policy.statistics()
            if circuit.state != "closed":
                of_circuit = Standing(circuit.state, "too many calls failed", circuit.open_in)
    if of_circuit is not None or not paces:
        return of_circuit
    pace = paces[0] if len(paces) == 1 else together(paces)
    until = clock.current().wall() + pace.gate_in if pace.state == "paused" else None
    return Standing(pace.state, pace.why, None if until is not None else pace.next_probe_in, until)
