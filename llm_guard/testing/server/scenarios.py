"""The servers with a name."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

from llm_guard import checks
from llm_guard.testing.server.random_scenario import random_scenario
from llm_guard.testing.server.settings import (
    BucketLimit,
    GrowthLimit,
    Load,
    Quota,
    Scaling,
    Scenario,
    Slow,
    Spell,
    Wander,
    WarmUp,
    WindowLimit,
)

_A = Scenario("A", slots=8, median=0.8, sigma=0.4, queue=16, load=Load(20.0), scaling=Scaling())
_C = Scenario("C", slots=100, median=0.8, sigma=0.4, limit=BucketLimit(rate=10.0, burst=10.0))
_D = Scenario("D", slots=16, median=0.5, sigma=0.3, queue=32, warm_up=WarmUp(200))
_E = Scenario("E", slots=8, median=0.5, sigma=0.3)
_STEPS = BucketLimit(rate=10.0, burst=10.0, changes=((100.0, 30.0), (200.0, 3.0)))


def _named(scenario: Scenario, name: str, **changes: object) -> Scenario:
    return replace(scenario, name=name, **changes)  # type: ignore[arg-type]


SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in (
    # Loads, refuses meanwhile, then grows to four replicas.
    _A,
    _named(_A, "A5", load=Load(5.0, estimate_absent=0.3)),
    _named(_A, "A90", load=Load(90.0, estimate_absent=0.3)),
    _named(_A, "A-nohint", load=Load(20.0, estimate_absent=1.0)),
    # Loads, and holds the calls meanwhile.
    _named(_A, "B", load=Load(20.0, holds=100)),
    _named(_A, "B60", load=Load(60.0, holds=100)),
    # Limits the account.
    _C,
    _named(_C, "C-nora", limit=BucketLimit(10.0, 10.0, retry_after=False)),
    _named(_C, "C-cnt", limit=BucketLimit(10.0, 10.0, retry_after=False, refused_cost=1.0)),
    _named(_C, "C-win", limit=WindowLimit(600)),
    _named(_C, "C-win-nora", limit=WindowLimit(600, retry_after=False)),
    # Slow until it is warm.
    _D,
    # Never refuses: its queue has no end.
    _E,
    _named(_E, "E2", slots=2),
    # Weak for a minute, later gone for 20 s.
    _named(_E, "F", queue=32, spells=(Spell(40.0, 100.0, 0.25), Spell(140.0, 160.0))),
    # Refuses traffic that grows too fast.
    _named(_E, "G", growth=GrowthLimit()),
    _named(_E, "G-ra", growth=GrowthLimit(retry_after=5.0)),
    # Now stronger, now weaker.
    _named(_D, "H", warm_up=None, wander=Wander()),
    # A toy: a fifth of its calls is slow, a tenth fails.
    Scenario("S", slots=math.inf, median=0.3, sigma=0.0, noise=0.1, slow=Slow(0.2, 3.0), timeout=2.0, items=100,
             nominal=80.0),
    # Limits the account, now more, now less.
    _named(_C, "C-steps", limit=_STEPS, items=4300),
    _named(_C, "C-steps-nora", limit=replace(_STEPS, retry_after=False), items=4300),
    # Tells with each answer how many calls are left.
    _named(_C, "C-left", limit=WindowLimit(600, remaining=True)),
    # Serves 200 calls, and then this account no more.
    _named(_E, "Q", quota=Quota(200)),
    # Refuses whoever finds no free slot.
    _named(_E, "E-noqueue", queue=0),
    # Some calls take 4 or 12 times as long as others.
    _named(_E, "M", queue=32, lengths=((0.3, 4.0), (0.2, 12.0)), timeout=30.0),
    # The same, and tells with each answer how many tokens it has.
    _named(_E, "M-told", queue=32, lengths=((0.3, 4.0), (0.2, 12.0)), timeout=30.0, usual_tokens=100),
    # Short questions first, then ones whose answers are ten times as long.
    _named(_E, "L", queue=32, longer=((60.0, 10.0),), timeout=60.0, items=1500),
    _named(_E, "L-told", queue=32, longer=((60.0, 10.0),), timeout=60.0, items=1500, usual_tokens=100),
    # Says so when traffic grows too fast.
    _named(_E, "G-told", growth=GrowthLimit(told=True)),
)}


def scenario(name: str) -> Scenario:
    """The scenario of that name; `random-<seed>` draws one. ConfigError where there is none."""
    kind, _, seed = name.partition("-") if isinstance(name, str) else ("", "", "")
    if kind == "random" and seed.isdecimal() and len(seed) <= 100:
        return random_scenario(int(seed))
    checks.one_of("scenario", name, (*SCENARIOS, "random-<seed>"))
    return SCENARIOS[name]


def server_random(seed: int) -> Random:
    """The chance of the server with that seed, apart from that of a client with the same one."""
    return Random(f"server {seed}")
