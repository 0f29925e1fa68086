"""A policy or a stack as new: the same settings, and a state of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llm_guard import bounded, breaker, deadline, fallback, ramp_up, retry, stack, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.errors import QuotaExhausted
from llm_guard.outcome import Kind
from llm_guard.runtime.policy import Policy

MADE: dict[str, Callable[[], Policy]] = {
    "ramp_up": lambda: ramp_up(start=2.0, ceiling=5.0, ramp_time=10.0, max_wait=3.0),
    "bounded": lambda: bounded(3, max_wait=1.0, holds="call"),
    "breaker": lambda: breaker(window=7, min_calls=2, slow_call=3.0),
    "retry": lambda: retry(attempts=3, max_refusal_wait=7.0, budget=0.2),
    "timeout": lambda: timeout(7.0, max_still_running=3),
    "deadline": lambda: deadline(9.0),
    "fallback": lambda: fallback("sorry", on=ValueError),
}


@pytest.mark.parametrize("name", MADE)
def test_it_has_the_same_settings(name: str) -> None:
    with VirtualClock():
        policy = MADE[name]()
        made = policy.anew()
        assert type(made) is type(policy)
        assert made is not policy
        assert made.statistics() == policy.statistics()


def test_it_knows_nothing_of_what_the_other_learned() -> None:
    with VirtualClock():
        pace, limit = ramp_up(classify=lambda end: Kind.QUOTA), bounded(2)
        guard = stack(pace, limit)
        guard.call(repr, 3)
        assert limit.statistics().peak == 1
        with pytest.raises(QuotaExhausted):
            guard.call(repr, 3)
        made = guard.anew()
        assert [type(policy) for policy in made.policies] == [type(pace), type(limit)]
        assert made.statistics()["ramp_up"].pace.state == "cold"
        assert made.statistics()["bounded"].peak == 0
        assert made.call(repr, 3) == "3"


@pytest.mark.parametrize(("policy", "setting", "value"), [
    (ramp_up(), "ceiling", 3.0), (ramp_up(ceiling=2.0), "ceiling", None), (bounded(2), "n", 5),
    (timeout(3), "seconds", 9.0), (deadline(3), "seconds", 9.0)], ids=str)
def test_a_setting_that_was_changed_is_as_it_is_now(policy: Policy, setting: str, value: Any) -> None:
    setattr(policy, setting, value)
    made = policy.anew()
    assert getattr(made, setting) == value
    assert made.statistics() == policy.statistics()


def test_a_stack_keeps_its_own_reading() -> None:
    def read(end: object) -> None:
        return None

    assert stack(retry(), classify=read).anew().classify is read
