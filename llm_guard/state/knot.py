"""Whether calls that wait would wait for one another for ever.

A guarded call that calls another holds its own permits while the other waits at the door. Two such calls can each hold
what the other needs. That is a knot in the graph of who waits for whom (Holt 1972): since any one of a gate's holders
may free it, there is a deadlock only where all that can be reached from the one who waits are waiting too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from llm_guard.state.gate import Gate


def is_knot(first: Gate, holders: Callable[[Gate], Iterable[object]],
            waits_at: Callable[[object], Gate | None]) -> bool:
    """Whether nobody who could make room at `first` is able to go on.

    `holders` are the owners of a gate's permits; `waits_at` is the gate at which an owner waits for others to end, None
    for one who runs, or waits for time alone.
    """
    seen: set[int] = set()
    gates = [first]
    while gates:
        owners = list(holders(gates.pop()))
        if not owners:
            return False
        for owner in owners:
            if id(owner) not in seen:
                seen.add(id(owner))
                gate = waits_at(owner)
                if gate is None:
                    return False
                gates.append(gate)
    return True
