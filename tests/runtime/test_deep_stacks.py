"""Calls near the recursion limit: whether one has room on the stack to begin, to run or to end, nothing stays held.

Each call is made at every depth from which a guarded call has room to one at which it has none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from llm_guard import Limiter, bounded, breaker, ramp_up, retry, stack, timeout
from llm_guard.runtime.policy import Policy

#: Frames that a call has room for at first; at last it has none.
ROOM = 120


@pytest.fixture(autouse=True)
def _little_room() -> Iterator[None]:
    before = sys.getrecursionlimit()
    frame, depth = sys._getframe(), 0
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    sys.setrecursionlimit(depth + ROOM)
    yield
    sys.setrecursionlimit(before)


def at_each_depth(act: Callable[[], object]) -> None:
    """From one at which it has room to one at which it cannot even begin."""
    def deeper(frames: int) -> None:
        if frames:
            deeper(frames - 1)
        else:
            act()

    short = 0
    for frames in range(ROOM + 20):
        try:
            deeper(frames)
        except RecursionError:
            short += 1
        except TypeError:
            pass
    assert short > 20


def answers() -> str:
    return "answer"


def fails() -> str:
    raise TypeError


def recurses() -> str:
    return recurses()


MAKERS: dict[str, Callable[[], tuple[Policy, ...]]] = {
    "bounded": lambda: (bounded(1000),),
    "bounded for the whole call": lambda: (bounded(1000, holds="call"), retry(attempts=1)),
    "bounded by key": lambda: (bounded(1000, per_key=lambda: "key"),),
    "pace and bounded": lambda: (ramp_up(start=1e9), bounded(1000)),
    "cost": lambda: (ramp_up(start=1e9, cost=lambda: 1.0, cost_ceiling=1e9), bounded(1000)),
    "retry above": lambda: (retry(attempts=1), ramp_up(start=1e9), bounded(1000), breaker(min_calls=100, window=100)),
    "breaker above": lambda: (breaker(min_calls=100, window=100), bounded(1000), retry(attempts=1)),
    "on a worker": lambda: (bounded(1000), timeout(60)),
    "all five": lambda: (ramp_up(start=1e9), bounded(1000), retry(attempts=1), timeout(60), breaker(min_calls=100)),
}


@pytest.mark.parametrize("function", [answers, fails, recurses])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_nothing_stays_held(make: Callable[[], tuple[Policy, ...]], function: Callable[[], str]) -> None:
    policies = make()
    ask = stack(*policies)(function)
    at_each_depth(ask)
    with suppress(TypeError, RecursionError):
        ask()  # does what was put off
    assert {policy.name: held for policy in policies if (held := _in_flight(policy))} == {}


def test_a_block_of_a_limiter_leaves_nothing_held() -> None:
    limiter = Limiter(1000)

    def block() -> None:
        with limiter:
            answers()

    at_each_depth(block)
    assert limiter.in_flight == 0


def _in_flight(policy: Policy) -> int:
    found: Any = policy.statistics()
    if policy.name == "ramp_up":
        return int(found.pace.in_flight)
    return int(getattr(found, "in_flight", 0) or getattr(found, "still_running", 0))
