"""All guarded functions of this process as plain data for JSON: how each stands and what became of its calls."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from llm_guard import clock
from llm_guard.policies.bounded import Bounded
from llm_guard.policies.breaker import Breaker
from llm_guard.policies.ramp_up import RampUp
from llm_guard.policies.timeout import Timeout
from llm_guard.runtime.registry import Member, registry
from llm_guard.web.status.collector import Collector

#: So many functions are shown.
MOST = 200


def snapshot(collector: Collector, since: int | None = None) -> dict[str, Any]:
    """What `status.json` has; the curves from the bin `since` on. Times in seconds, `now` since the epoch."""
    collector.look()
    now = clock.current().now()
    named = registry.named()
    shown = dict(sorted(named.items(), key=lambda item: item[0].lower())[:MOST])
    labels = _labels(shown)
    functions = []
    for name, member in shown.items():
        mine = paces_of(member)
        shares = [labels[other] for other, theirs in shown.items()
                  if other != name and not set(mine).isdisjoint(paces_of(theirs))]
        facts = {"name": name, "label": labels[name], "policies": [policy.name for policy in member.guards],
                 "shares": shares}
        functions.append(facts | _standing(member) | {"waiting": member.waiting()}
                         | collector.record_of(member).figures(now, since))
    return {"process": os.getpid(), "now": round(clock.current().wall(), 3), "bin": math.floor(now / collector.width),
            "into_bin": round(now % collector.width, 3), "width": collector.width, "bins": collector.bins,
            "left_out": len(named) - len(shown), "functions": functions}


def paces_of(member: Member) -> list[RampUp]:
    """What can be paused of it."""
    return [policy for policy in member.guards if isinstance(policy, RampUp)]


def _standing(member: Member) -> dict[str, Any]:
    """What its policies tell. None: it has no such policy."""
    paces, found = paces_of(member), dict[str, Any]()
    found["pace"] = _pace(paces[0]) if paces else None
    breakers = [policy.statistics() for policy in member.guards if isinstance(policy, Breaker)]
    worst = max(breakers, key=lambda circuit: ("closed", "half_open", "open").index(circuit.state), default=None)
    found["breaker"] = None if worst is None else {"state": worst.state, "open_in": _finite(worst.open_in),
                                                   "failure_rate": round(worst.failure_rate, 3)}
    limits = [policy for policy in member.guards if isinstance(policy, Bounded)]
    found["limit"] = min((policy.n for policy in limits if policy.for_all), default=None)
    shares = [policy.per_key if policy.for_all else policy.n for policy in limits]
    found["share"] = min((share for share in shares if share is not None), default=None)
    found["still_running"] = sum(policy.statistics().still_running for policy in member.guards
                                 if isinstance(policy, Timeout))
    return found


def _pace(ramp_up: RampUp) -> dict[str, Any]:
    statistics = ramp_up.statistics()
    pace = statistics.pace
    return {"state": pace.state, "why": pace.why, "since": _finite(pace.since), "gate_in": _finite(pace.gate_in),
            "next_probe_in": _finite(pace.next_probe_in), "rate": _finite(pace.rate), "window": _finite(pace.window),
            "latency": _finite(pace.latency), "limit": _finite(pace.limit), "capacity": pace.capacity,
            "ceiling": _finite(ramp_up.ceiling), "keys": statistics.keys}


def _finite(value: float | None) -> float | None:
    """None, too, for what JSON has no number for."""
    return None if value is None or not math.isfinite(value) else round(value, 3)


def _labels(named: Mapping[str, Member]) -> dict[str, str]:
    """The names as short as they can be told apart."""
    short = {name: _short(name, member) for name, member in named.items()}
    times = Counter(short.values())
    return {name: name if times[label] > 1 else label for name, label in short.items()}


def _short(name: str, member: Member) -> str:
    qualified = getattr(member, "__qualname__", None)
    return qualified.rpartition("<locals>.")[2] if isinstance(qualified, str) else name
