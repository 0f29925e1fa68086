"""`bounded(8, key=..., per_key=2)`: a limit on all, and of it a fair share for each key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from scripted import Task, call_all

from llm_guard import ConfigError, Saturated, bounded, clock, ramp_up, retry
from llm_guard.clock.virtual import VirtualClock
from llm_guard.policies.bounded import BoundedStatistics


class Users:
    """Calls that take a second; who is in flight, the most there were, and who ended when."""

    def __init__(self) -> None:
        self.running: Counter[str] = Counter()
        self.peaks: Counter[str] = Counter()
        self.most = 0
        self.ended: list[tuple[float, str]] = []

    def __call__(self, user: str) -> str:
        self.running[user] += 1
        self.peaks[user] = max(self.peaks[user], self.running[user])
        self.most = max(self.most, self.running.total())
        clock.current().sleep(1)
        self.running[user] -= 1
        self.ended.append((clock.current().now(), user))
        return user


@pytest.mark.parametrize("holds", ["attempt", "call"])
@pytest.mark.parametrize("seed", range(3))
def test_both_limits_hold(holds: str, seed: int) -> None:
    users, limit = Users(), bounded(8, key="user", per_key=2, holds=holds)
    with VirtualClock(seed, shuffle=True) as time:
        call_all(limit(retry(users)), [f"user {number % 10}" for number in range(80)])
        assert users.most == 8
        assert max(users.peaks.values()) == 2
        assert time.now() == pytest.approx(10)  # no place was ever left empty
        assert limit.statistics().in_flight == 0


def test_a_user_who_waits_for_a_place_of_his_own_holds_up_nobody() -> None:
    users, limit = Users(), bounded(4, key="user", per_key=2)
    ask = limit(users)
    with VirtualClock() as time:
        tasks = [Task(lambda: ask("many")) for _ in range(20)]
        time.sleep(0.1)
        late = [Task(lambda: ask("one")), Task(lambda: ask("another"))]
        for task in late:
            task.wait()
        assert time.now() == pytest.approx(1.1)
        for task in tasks:
            task.wait()
        assert time.now() == pytest.approx(10)
    assert users.peaks == {"many": 2, "one": 1, "another": 1}


def test_among_those_who_can_go_on_whoever_came_first_is_first() -> None:
    users, limit = Users(), bounded(2, key="user", per_key=1)
    ask = limit(users)
    with VirtualClock():
        tasks = [Task(lambda user=user: ask(user)) for user in "aaabcd"]  # type: ignore[misc]
        for task in tasks:
            task.wait()
    assert [user for _, user in users.ended] == ["a", "b", "a", "c", "a", "d"]


@pytest.mark.parametrize(("user", "by_key"), [("a", True), ("b", False)])
def test_a_refusal_tells_whose_limit_it_was(user: str, by_key: bool) -> None:
    ask = bounded(2, key="user", per_key=1, max_wait=0.5)(Users())
    with VirtualClock():
        for busy in ("a", "c"):
            Task(lambda busy=busy: ask(busy))  # type: ignore[misc]
        with pytest.raises(Saturated, match="bounded had no room") as refused:
            ask(user)
        assert (refused.value.policy, refused.value.by_key) == ("bounded", by_key)


@pytest.mark.parametrize(("policy", "by_key"), [(bounded(1, per_key="user", max_wait=0), True),
                                                (bounded(1, max_wait=0), False), (ramp_up(max_wait=0), False)],
                         ids=["per key", "all", "pace"])
def test_a_limit_of_each_alone_is_a_keys_own_and_no_other_is(policy: Any, by_key: bool) -> None:
    ask = policy(Users())
    with VirtualClock():
        for _ in range(40):
            Task(lambda: ask("a"))
        with pytest.raises(Saturated) as refused:
            ask("a")
        assert refused.value.by_key is by_key


def test_what_it_tells() -> None:
    limit = bounded(3, key="user", per_key=2)
    ask = limit(Users())
    with VirtualClock() as time:
        tasks = [Task(lambda user=user: ask(user)) for user in "aaabc"]  # type: ignore[misc]
        time.sleep(0.1)
        assert limit.statistics() == BoundedStatistics(limit=3, in_flight=3, peak=3, waiting=2, keys=3, per_key=2)
        of_a, of_c = limit.statistics_of("a"), limit.statistics_of("c")
        assert (of_a.limit, of_a.in_flight, of_a.waiting, of_a.per_key) == (2, 2, 1, 2)
        assert (of_c.in_flight, of_c.waiting) == (0, 1)
        assert repr(limit) == "bounded(3, per_key=2)"
        for task in tasks:
            task.wait()


def test_both_limits_may_be_set_while_calls_wait() -> None:
    users, limit = Users(), bounded(2, key="user", per_key=1)
    ask = limit(users)
    with VirtualClock() as time:
        tasks = [Task(lambda user=user: ask(user)) for user in "aaaabb"]  # type: ignore[misc]
        limit.n = 6
        assert users.running.total() == 2
        limit.per_key = 4
        for task in tasks:
            task.wait()
        assert time.now() == pytest.approx(1)
        assert (limit.n, limit.per_key) == (6, 4)
        made = limit.anew()
        assert (made.n, made.per_key) == (6, 4)


USER: ContextVar[str] = ContextVar("user")


def test_a_key_function_without_parameters_reads_what_is_around_the_call() -> None:
    users = Users()
    around, pace = bounded(4, key=lambda: USER.get(), per_key=1), ramp_up(key=lambda: USER.get())

    class Asks:
        @around
        @pace
        def ask(self, prompt: str) -> str:
            return users(USER.get())

    def as_user(name: str) -> Callable[[], str]:
        def call() -> str:
            USER.set(name)
            return Asks().ask("prompt")
        return call

    with VirtualClock():
        tasks = [Task(as_user(name)) for name in "aab"]
        assert [task.wait() for task in tasks] == ["a", "a", "b"]
    assert users.peaks == {"a": 1, "b": 1}
    assert (around.statistics().keys, pace.statistics().keys) == (2, 2)


@pytest.mark.parametrize(("options", "parameter", "told"), [
    ({"key": "user"}, "per_key", "a whole number from 1 to n, 8"),
    ({"key": "user", "per_key": 9}, "per_key", "from 1 to n, 8"),
    ({"key": "user", "per_key": 0}, "per_key", "from 1 to n, 8"),
    ({"key": "user", "per_key": True}, "per_key", "from 1 to n, 8"),
    ({"key": "user", "per_key": "user"}, "per_key", "from 1 to n, 8"),
    ({"per_key": 2}, "per_key", "a limit only where key= says"),
    ({"key": 3, "per_key": 2}, "key", "the name of a parameter"),
])
def test_what_cannot_work_is_refused(options: dict[str, Any], parameter: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as refused:
        bounded(8, **options)
    assert refused.value.parameter == parameter


def test_a_limit_of_each_is_not_set_where_there_is_none() -> None:
    limit = bounded(2, per_key="user")
    assert limit.per_key is None
    with pytest.raises(ConfigError, match="given a key"):
        limit.per_key = 3
