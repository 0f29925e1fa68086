"""One thread, calls that succeed: each decorator beside its peers, as benchmarks/peers.py times them."""

from __future__ import annotations

from contextlib import ExitStack

from overhead import Cost, measure
from peers import FOUR, GOALS, LIMITERS, OF_FOUR, Goal, subjects

from speed_rows.row import Effort, Row

#: Those of the peers' limiters that enforce a rate otherwise than by counting within fixed windows, which let twice the
#: rate pass where two meet: a cell rate (an even pace, as @ramp_up keeps one), and a sliding log of calls.
EVEN = ("throttled-py, GCRA", "pyrate-limiter")

#: Rather many short rounds than few long ones: so fewer of them meet a moment in which the machine has others.
ROUNDS = 25


def rows(effort: Effort) -> list[Row]:
    with ExitStack() as open_until_the_end:
        costs = {cost.name: cost for cost in measure(subjects(open_until_the_end), max(effort.rounds, ROUNDS),
                                                     0.03 * effort.scale)}
    found = [_row(goal, costs) for goal in GOALS]
    even = min(EVEN, key=lambda name: costs[name].us.cpu)
    found.append(Row("@ramp_up", "CPU, times the fastest limiter that does not count by fixed windows",
                     costs["@ramp_up"].ratios[even].cpu, beside=even, steady=True))
    found.append(Row(FOUR, "CPU, times all four peers together", costs[FOUR].ratios[OF_FOUR].cpu, beside=OF_FOUR,
                     steady=True))
    return found


def _row(goal: Goal, costs: dict[str, Cost]) -> Row:
    peer, ratio = goal.reached(costs)
    own = costs[goal.subject]
    beside = (f"us a call {own.us.cpu:.2f}, of {peer} {costs[peer].us.cpu:.2f}; by the wall "
              f"{own.ratios[peer].wall:.2f} times")
    others = [name for name in own.ratios if name not in (peer, *_WITH_GOALS)]
    if goal.most >= 0.7:  # the first of its subject
        beside += "".join(f"; {own.ratios[name].cpu:.2f} of {name}" for name in others)
    which = f"the fastest of {len(LIMITERS)} limiters" if goal.peers is LIMITERS else peer
    return Row(goal.subject, f"CPU, times {which}", ratio, goal.most, beside=beside, steady=True)


#: The peers that have a row of their own.
_WITH_GOALS = {goal.peers[0] for goal in GOALS if len(goal.peers) == 1}
