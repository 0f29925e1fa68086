"""The parts of the law can be taken out, one by one, and come back."""

from __future__ import annotations

import pytest
from ablation import NAMED
from law_parts import PARTS, without
from stacks import STACKS

from llm_guard.testing.server import SCENARIOS
from llm_guard.testing.simulation import simulate

pytestmark = pytest.mark.figures


@pytest.mark.parametrize("part", PARTS)
def test_without_a_part_all_still_runs_and_afterwards_it_is_back(part: str) -> None:
    before = simulate("C-nora", items=60)
    with without(part):
        assert simulate("C-nora", items=60).answered == 60
    assert simulate("C-nora", items=60).called_at == before.called_at


@pytest.mark.parametrize(("part", "server", "items"), [
    ("window", "A", 400),
    ("latency gradient", "random-47", 150),
    ("single probe", "F", 2600),
    ("learned rate", "C-nora", 800),
    ("fixed windows learned", "C-win-nora", 3000),
    ("remaining calls told by the server", "C-left", 800),
    ("spacing of starts after a refused burst", "random-85", 300),
    ("waits between probes grow", "A-nohint", 100),
    ("latency per token, or to the first item", "L-told", 1500),
    ("a base doubted where one call is in flight", "L", 1500),
    ("no burst when a gate opens", "random-135", 300),
])
def test_a_part_makes_a_difference_where_it_is_meant_to(part: str, server: str, items: int) -> None:
    whole = simulate(server, seed=1, items=items)
    with without(part):
        lacking = simulate(server, seed=1, items=items)
    assert len(lacking.called_at) > len(whole.called_at) or lacking.seconds > whole.seconds


@pytest.mark.parametrize("name", STACKS)
def test_each_stack_answers_an_easy_server(name: str) -> None:
    assert simulate("E", STACKS[name], items=100).answered == 100


def test_the_servers_of_the_ablation_exist() -> None:
    assert set(NAMED) < set(SCENARIOS)
