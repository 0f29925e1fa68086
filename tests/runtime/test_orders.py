"""Any order of the policies is safe: paced, bounded, in time, nothing lost, nothing kept."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import permutations
from random import Random

import pytest
from scripted import Ended, assert_paced, call_all, read

from llm_guard import CallTimeout, Rejected, bounded, breaker, clock, events, ramp_up, retry, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind, Outcome
from llm_guard.policies.bounded import Bounded
from llm_guard.policies.ramp_up import RampUp
from llm_guard.policies.timeout import Timeout
from llm_guard.runtime.guarded import Guarded
from llm_guard.runtime.policy import Policy
from llm_guard.state.pace import Pace, Start

FIVE = ("ramp_up", "bounded", "timeout", "retry", "breaker")
RATE, LIMIT, SECONDS, HANGS = 12.0, 5, 8.0, 30.0
ITEMS = range(40)
HANGING = (2, 30)


class Moody:
    """Fails, refuses with and without a hint, hangs at the first call for an item of `HANGING`."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self.starts: list[float] = []
        self.kinds: Counter[Kind] = Counter()
        self._hanging = set(HANGING)
        self.running = 0
        self.peak = 0

    def __call__(self, item: int) -> int:
        time, chance = clock.current(), self._random.random()
        self.starts.append(time.now())
        self.running += 1
        self.peak = max(self.peak, self.running)
        error: Ended | None = None
        if chance < 0.10:
            error = Ended(Kind.FAILURE)
        elif chance < 0.18:
            error = Ended(Kind.LIMITED, hint=1.0)
        elif chance < 0.24:
            error = Ended(Kind.OVERLOAD)
        elif chance < 0.27:
            error = Ended(Kind.LOADING, hint=2.0)
        seconds = HANGS if item in self._hanging else self._random.uniform(0.03, 0.8)
        self._hanging.discard(item)
        try:
            time.sleep(seconds)
        finally:
            self.running -= 1
        self.kinds[Kind.SUCCESS if error is None else error.outcome.kind] += 1
        if error is not None:
            raise error
        return item


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Counter[Kind]:
    """The outcomes that reach a pace."""
    counted: Counter[Kind] = Counter()
    end = Pace.end

    def counting(self: Pace, start: Start, now: float, outcome: Outcome, latency: float,
                 timeout: float | None = None, first_item: float | None = None) -> None:
        counted[outcome.kind] += start.load is self._load  # it has not ended
        end(self, start, now, outcome, latency, timeout, first_item)

    monkeypatch.setattr(Pace, "end", counting)
    return counted


def _policy(name: str) -> Policy:
    made: dict[str, Callable[[], Policy]] = {
        "ramp_up": lambda: ramp_up(ceiling=RATE, classify=read),
        "bounded": lambda: bounded(LIMIT),
        "timeout": lambda: timeout(SECONDS),
        "retry": lambda: retry(classify=read),
        "breaker": lambda: breaker(failure_rate=0.6, classify=read),
    }
    return made[name]()


def _guarded(server: Moody, policies: list[Policy]) -> Guarded[[int], int]:
    def ask(item: int) -> int:
        return server(item)

    function: Callable[[int], int] = ask
    for policy in reversed(policies):
        function = policy(function)
    assert isinstance(function, Guarded)
    return function


def _check(policies: list[Policy], seed: int, told: Counter[Kind], items: range = ITEMS) -> None:
    """Runs `items` through the stack and checks all that must hold in any order."""
    names = [policy.name for policy in policies]
    server = Moody(seed)
    ask = _guarded(server, policies)
    attempts: list[events.AttemptEnded] = []
    ask.on_event(lambda event: attempts.append(event) if isinstance(event, events.AttemptEnded) else None)
    with VirtualClock(seed, shuffle=True) as time:
        results = call_all(ask, items, threads=12)
        for policy in policies:
            if isinstance(policy, Bounded):
                in_flight = policy.statistics().in_flight
                assert in_flight == server.running  # what hangs keeps its place
            if isinstance(policy, RampUp):
                assert policy.statistics().pace.in_flight == 0  # but none in the window
        time.sleep(2 * HANGS)
        for policy in policies:
            if isinstance(policy, Bounded):
                assert policy.statistics().in_flight == 0
            if isinstance(policy, Timeout):
                assert policy.statistics().still_running == 0
    # One result an item.
    assert [result.index for result in results] == list(items)
    for result in results:
        assert result.value == result.input if result.error is None else isinstance(
            result.error, Ended | CallTimeout | Rejected)
    assert sum(result.error is None for result in results) > len(items) / 5
    # Every attempt has a permit, of the pace and of the limit.
    assert_paced(server.starts, RATE)
    assert server.peak <= LIMIT
    # Every outcome is heard of.
    assert len(attempts) == len(server.starts)
    if "ramp_up" in names:
        paces = names.count("ramp_up")
        kinds = Counter({kind: count // paces for kind, count in told.items()})
        assert kinds == Counter(attempt.kind for attempt in attempts)
        assert sum((server.kinds - kinds).values()) == kinds[Kind.TIMEOUT] > 0
    # Time is kept, for the call or for the attempt.
    assert all(attempt.seconds <= SECONDS + 1e-6 for attempt in attempts)
    above = [policy.seconds for policy in policies[:names.index("retry")] if isinstance(policy, Timeout)]
    assert all(result.seconds <= min(above, default=math.inf) + 1e-6 for result in results)
    if not above:
        assert any(result.seconds > SECONDS for result in results)  # only attempts are bounded


@pytest.mark.parametrize("order", list(permutations(FIVE)), ids=" ".join)
def test_every_order_of_the_five_is_safe(order: tuple[str, ...], told: Counter[Kind]) -> None:
    _check([_policy(name) for name in order], list(permutations(FIVE)).index(order), told)


REPEATS: dict[str, Callable[[], list[Policy]]] = {
    "a timeout for the call and one for the attempt": lambda: [
        timeout(60), _policy("retry"), _policy("timeout"), bounded(LIMIT), _policy("ramp_up")],
    "all five and a timeout for the call": lambda: [
        _policy("ramp_up"), _policy("bounded"), timeout(60), _policy("retry"), _policy("timeout"), _policy("breaker")],
    "two limits": lambda: [
        bounded(LIMIT + 3), _policy("ramp_up"), _policy("retry"), bounded(LIMIT), _policy("timeout")],
    "a breaker for calls and one for attempts": lambda: [
        _policy("breaker"), _policy("ramp_up"), _policy("retry"), _policy("breaker"), _policy("bounded"),
        _policy("timeout")],
    "a mutex over the call and a limit on attempts": lambda: [
        bounded(7, holds="call"), _policy("retry"), _policy("timeout"), _policy("ramp_up"), _policy("bounded")],
    "two paces": lambda: [
        _policy("ramp_up"), ramp_up(ceiling=2 * RATE), _policy("retry"), _policy("bounded"), _policy("timeout")],
}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", REPEATS)
def test_policies_that_stand_twice_are_safe(name: str, seed: int, told: Counter[Kind]) -> None:
    _check(REPEATS[name](), seed, told)


def test_of_a_policy_that_stands_twice_as_one_object_there_is_one() -> None:
    limit = bounded(2)
    ask = limit(retry(limit(lambda: "answer")))
    assert ask.guards == (limit, ask.guards[1])
    assert ask() == "answer"
