"""Settings of a server that cannot be are refused as they are made, wherever they are given."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from llm_guard.errors import ConfigError
from llm_guard.testing.cold_server import ColdServer
from llm_guard.testing.cold_server.__main__ import main as serve
from llm_guard.testing.server import SCENARIOS, random_scenario
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
from llm_guard.testing.simulation import simulate
from llm_guard.testing.simulation.__main__ import main
from llm_guard.testing.virtual_server import VirtualServer

E = SCENARIOS["E"]


@pytest.mark.parametrize(("made", "named"), [
    (lambda: Load(-1.0), "seconds"), (lambda: Load(math.inf), "seconds"), (lambda: Load(1.0, spread=2.0), "spread"),
    (lambda: Load(1.0, estimate_absent=1.1), "estimate_absent"), (lambda: Load(1.0, holds=-1), "holds"),
    (lambda: Load(1.0, unload_after=0.0), "unload_after"),
    (lambda: Scaling(most=0), "most"), (lambda: Scaling(busy=0.0), "busy"), (lambda: Scaling(after=-1.0), "after"),
    (lambda: Scaling(takes=math.nan), "takes"),
    (lambda: BucketLimit(0.0, 1.0), "rate"), (lambda: BucketLimit(1.0, 0.5), "burst"),
    (lambda: BucketLimit(1.0, 1.0, refused_cost=-1.0), "refused_cost"),
    (lambda: BucketLimit(1.0, 1.0, floor=1.0), "floor"),
    (lambda: BucketLimit(1.0, 1.0, changes=((5.0, 0.0),)), "changes"),
    (lambda: BucketLimit(1.0, 1.0, changes=((5.0, 1.0), (4.0, 2.0))), "changes"),
    (lambda: WindowLimit(-1), "calls"), (lambda: WindowLimit(1.5), "calls"),  # type: ignore[arg-type]
    (lambda: WindowLimit(1, 0.0), "seconds"), (lambda: WindowLimit(1, changes=((1.0, 0),)), "changes"),
    (lambda: Quota(-1), "calls"), (lambda: Quota(0, renews_after=60.0), "calls"),
    (lambda: Quota(1, retry_after=-1.0), "retry_after"), (lambda: Quota(1, renews_after=0.0), "renews_after"),
    (lambda: GrowthLimit(least=-1.0), "least"), (lambda: GrowthLimit(factor=0.0), "factor"),
    (lambda: GrowthLimit(span=0.0), "span"), (lambda: GrowthLimit(history=0.0), "history"),
    (lambda: GrowthLimit(retry_after=-1.0), "retry_after"),
    (lambda: WarmUp(0), "calls"), (lambda: WarmUp(1, extra=-1.0), "extra"),
    (lambda: Spell(-1.0, 2.0), "start"), (lambda: Spell(2.0, 2.0), "end"), (lambda: Spell(1.0, 2.0, 1.5), "share"),
    (lambda: Wander(mean=0.0), "mean"), (lambda: Wander(every=0.0), "every"), (lambda: Wander(pull=2.0), "pull"),
    (lambda: Wander(noise=-1.0), "noise"), (lambda: Wander(low=-1.0), "low"),
    (lambda: Wander(low=0.9, high=0.8), "high"),
    (lambda: Slow(1.5, 1.0), "share"), (lambda: Slow(0.5, 0.0), "seconds"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_parts_of_a_server(made: Callable[[], object], named: str) -> None:
    with pytest.raises(ConfigError, match=f"^{named}="):
        made()


@pytest.mark.parametrize(("named", "value"), [
    ("name", 3), ("slots", 0), ("slots", math.nan), ("slots", "many"), ("median", 0.0), ("median", math.inf),
    ("sigma", -0.1), ("sigma", 50.0), ("queue", -1), ("queue", 1.5), ("noise", 1.0), ("noise", -0.1), ("noise", "half"),
    ("noise", True), ("lengths", ((0.5, -1.0),)), ("lengths", ((-0.5, 1.0),)), ("lengths", ((0.6, 1.0), (0.6, 2.0))),
    ("timeout", 0.0), ("items", 0), ("items", 2.5), ("nominal", 0.0)])
def test_a_server(named: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{named}="):
        replace(E, **{named: value})


def test_what_has_no_end_may_have_none() -> None:
    assert replace(E, slots=math.inf, queue=None).slots == math.inf
    assert Spell(1.0, math.inf).end == math.inf
    assert Load(1.0, unload_after=math.inf).unload_after == math.inf


def test_all_servers_there_are_can_be_made() -> None:
    assert all(replace(server) == server for server in SCENARIOS.values())
    assert len({random_scenario(seed) for seed in range(300)}) == 300


ALLOWED = "noise=1.0 is not allowed: a finite number at least 0 and below 1"


@pytest.mark.parametrize("made", [
    lambda: Scenario("mine", 4, 1.0, 0.0, noise=1.0), lambda: simulate("E", noise=1.0),
    lambda: VirtualServer(replace(E, noise=1.0)), lambda: ColdServer("E", noise=1.0)],
    ids=["Scenario", "simulate", "VirtualServer", "ColdServer"])
def test_failures_alone_are_refused_everywhere(made: Callable[[], object]) -> None:
    with pytest.raises(ConfigError) as refused:
        made()
    assert str(refused.value) == ALLOWED


def test_failures_alone_are_refused_on_the_command_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["E", "--noise", "1"]) == 2
    assert capsys.readouterr().err == ALLOWED + "\n"
    with pytest.raises(SystemExit) as ended:
        serve(["--noise", "1"])
    assert ended.value.code == 2
    assert ALLOWED in capsys.readouterr().err
