"""One thread, calls that succeed: each decorator beside its peers, as benchmarks/peers.py times them."""

from __future__ import annotations

from contextlib import ExitStack

from overhead import Cost, measure
from peers import GOALS, LIMITERS, OF_FOUR, Goal, subjects

from speed_rows.row import Effort, Row

#: Those of the peers' limiters that enforce a rate otherwise than by counting within fixed windows, which let twice the
#: rate pass at the border of two: a cell rate (an even pace, as @ramp_up keeps), and a sliding log of calls.
EVEN = ("throttled-py, GCRA", "pyrate-limiter")


def rows(effort: Effort) -> list[Row]:
    with ExitStack() as open_until_the_end:
        costs = {cost.name: cost for cost in measure(subjects(open_until_the_end), max(effort.rounds, 5),
                                                     0.03 * max(effort.scale, 0.3))}
    found = [_row(goal, costs) for goal in GOALS]
    even = min(EVEN, key=lambda name: costs[name].us.cpu)
    found.append(Row("@ramp_up", f"CPU, times {even}, the fastest that keeps an even pace or a sliding window",
                     costs["@ramp_up"].ratios[even].cpu, steady=True))
    found.append(Row("@retry @ramp_up @bounded @breaker", f"CPU, times {OF_FOUR} together",
                     costs["@retry @ramp_up @bounded @breaker"].ratios[OF_FOUR].cpu, steady=True))
    return found


def _row(goal: Goal, costs: dict[str, Cost]) -> Row:
    peer, reached = goal.reached(costs)
    own = costs[goal.subject]
    beside = f"us a call {own.us.cpu:.2f}, of the peer {costs[peer].us.cpu:.2f}; wall ratio {own.ratios[peer].wall:.2f}"
    others = [name for name in own.ratios if name != peer]
    if len(goal.peers) > 1 or goal.subject in ("@breaker", "@timeout"):
        beside += "".join(f"; {own.ratios[name].cpu:.2f} of {name}" for name in others)
    which = f"{peer}, the fastest of {len(LIMITERS)} limiters" if goal.peers is LIMITERS else peer
    return Row(goal.subject, f"CPU, times {which}", reached, goal.most, beside=beside, steady=True)
