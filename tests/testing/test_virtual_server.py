"""The server as a function to call, in virtual time."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
from at_once import in_threads

from llm_guard.clock import Waiter
from llm_guard.clock.virtual import VirtualClock
from llm_guard.errors import ConfigError
from llm_guard.outcome import FAILURE, SUCCESS, TIMEOUT, Kind, Outcome
from llm_guard.testing.server import REFUSAL_SECONDS, SCENARIOS, Reason, Scenario, best_time
from llm_guard.testing.server.settings import BucketLimit, GrowthLimit, Quota, Spell, WarmUp, WindowLimit
from llm_guard.testing.simulation import simulate
from llm_guard.testing.virtual_server import (
    Answer,
    ServerFailed,
    ServerRefused,
    ServerTimeout,
    Snapshot,
    VirtualServer,
    outcome_of,
)

STEADY = Scenario("steady", slots=2, median=1.0, sigma=0.0)


def batch(scenario: Scenario, seed: int, threads: int = 64) -> tuple[float, Snapshot, list[str]]:
    """Sends all items from a pool of threads that insist: when it was over, what the server saw, the answers."""
    with VirtualClock(seed) as clock:
        server = VirtualServer(scenario, seed)
        todo = list(reversed(range(scenario.items)))
        answers = [""] * scenario.items

        def work(_: int) -> None:
            while todo:
                item = todo.pop()
                while not answers[item]:
                    try:
                        answers[item] = server.call(item)
                    except (ServerRefused, ServerFailed) as end:
                        clock.sleep(getattr(end, "hint", None) or clock.random.uniform(0.1, 1.0))

        in_threads(clock, threads, work)
        return clock.now(), server.stats(), answers


@pytest.mark.parametrize("name", ["A", "B", "C", "D", "E", "F", "H"])
def test_each_item_gets_its_own_answer_and_the_counts_add_up(name: str) -> None:
    scenario = replace(SCENARIOS[name], items=600, noise=0.05)
    _, stats, answers = batch(scenario, seed=1)
    assert answers == [f"echo: {item}" for item in range(600)]
    assert stats.successes == 600
    assert stats.failures > 0
    assert stats.calls == stats.successes + stats.failures + sum(stats.refusals.values())
    assert stats.in_flight == 0
    assert sum(answered for _, _, answered, _ in stats.timeline) == 600


def test_it_takes_the_time_that_the_model_takes() -> None:
    scenario = replace(SCENARIOS["E"], items=500)
    took, _, _ = batch(scenario, seed=2)
    assert took == pytest.approx(best_time(scenario, 2), rel=0.02)


def test_the_same_seed_gives_the_same_run() -> None:
    scenario = replace(SCENARIOS["A"], items=300)
    assert batch(scenario, seed=3) == batch(scenario, seed=3)
    assert batch(scenario, seed=3)[0] != batch(scenario, seed=4)[0]


def test_a_refusal_answers_soon_and_says_how_long_to_wait() -> None:
    with VirtualClock() as clock:
        server = VirtualServer("A")
        clock.sleep(1000.0)  # its time begins with its first call
        with pytest.raises(ServerRefused) as refused:
            server.call("hello")
        assert clock.now() == pytest.approx(1000.0 + REFUSAL_SECONDS)
        assert refused.value.kind is Kind.LOADING
        assert refused.value.hint is not None
        clock.sleep(25.0)
        assert server.call("hello") == "echo: hello"


def test_a_call_that_comes_later_may_end_first() -> None:
    with VirtualClock() as clock:
        server = VirtualServer(replace(STEADY, warm_up=WarmUp(1)))
        ends: dict[int, float] = {}

        def work(item: int) -> None:
            clock.sleep(0.5 * item)
            server.call(item)
            ends[item] = clock.now()

        in_threads(clock, 2, work)
    assert ends[0] == pytest.approx(10.0)
    assert ends[1] == pytest.approx(1.5, abs=0.1)


def test_speed_divides_times_and_hints() -> None:
    with VirtualClock() as clock:
        server = VirtualServer("C-win", speed=10)
        for item in range(2):
            start = clock.now()
            usual, fast = VirtualServer(STEADY), VirtualServer(STEADY, speed=10)
            usual.call(item)
            middle = clock.now()
            fast.call(item)
            assert middle - start == pytest.approx(10 * (clock.now() - middle))
        hints: list[float | None] = []

        def work(item: int) -> None:
            start = clock.now()
            try:
                server.call(item)
            except ServerRefused as refused:
                assert clock.now() - start == pytest.approx(REFUSAL_SECONDS / 10)
                hints.append(refused.hint)

        in_threads(clock, 601, work)
        assert hints == [pytest.approx(6.0)]
        assert server.stats().seconds < 6.0
    with pytest.raises(ConfigError, match="speed"):
        VirtualServer("A", speed=0)


@pytest.mark.parametrize("woken_first", [False, True])
@pytest.mark.parametrize("interrupted", range(9))
def test_a_caller_that_is_interrupted_does_not_hold_up_the_others(interrupted: int, woken_first: bool) -> None:
    class Interrupted(BaseException):
        pass

    class Interrupting(VirtualClock):
        made = 0

        def waiter(self) -> Waiter:  # type: ignore[override]
            self.made += 1
            waiter = super().waiter()
            return Raising(waiter) if self.made == interrupted + 1 else waiter

    class Raising:
        def __init__(self, waiter: Waiter) -> None:
            self.waiter = waiter

        def wait(self, timeout: float | None = None) -> bool:
            if woken_first:
                self.waiter.wait(timeout)
            raise Interrupted

        def set(self) -> None:
            self.waiter.set()

    answers: list[str] = []
    with Interrupting() as clock:
        server = VirtualServer(STEADY)
        clock.made = -1  # the waiter of in_threads is not counted

        def work(item: int) -> None:
            try:
                answers.append(server.call(item))
            except Interrupted:
                pass

        in_threads(clock, 6, work)
        assert clock.now() <= 3.01
        # The call itself stays in the server, and is worked on all the same.
        clock.sleep(3.0)
        assert server.stats().successes == 6
    assert len(answers) == 5


def test_ends_become_outcomes() -> None:
    assert outcome_of("echo: x") == SUCCESS
    assert outcome_of(None) is None
    assert outcome_of(ServerFailed()) == Outcome(Kind.FAILURE)
    assert outcome_of(ServerRefused(Reason.LIMITED, 2.0)) == Outcome(Kind.LIMITED, 2.0)
    assert outcome_of(ServerRefused(Reason.GROWTH)) == Outcome(Kind.LIMITED)
    assert outcome_of(ServerRefused(Reason.OVERLOAD)) == Outcome(Kind.OVERLOAD)
    assert outcome_of(ServerRefused(Reason.CONNECTION)) == FAILURE
    assert outcome_of(ServerRefused(Reason.QUOTA, 9.0)) == Outcome(Kind.QUOTA, 9.0)
    assert outcome_of(ServerRefused(Reason.GROWTH, 5.0, tells_growth=True)) == Outcome(Kind.GROWTH_LIMITED, 5.0)
    assert outcome_of(ServerRefused(Reason.LIMITED, tells_growth=True)) == Outcome(Kind.LIMITED)
    assert outcome_of(ServerTimeout("...")) == TIMEOUT
    assert outcome_of(TimeoutError()) is None
    assert outcome_of(ValueError()) is None


def test_its_errors_pickle_and_quote_no_prompt() -> None:
    with VirtualClock():
        server = VirtualServer(replace(STEADY, spells=(Spell(0.0, 10.0),)))
        with pytest.raises(ServerRefused) as refused:
            server.call("secret")
    again = pickle.loads(pickle.dumps(refused.value))
    assert (again.reason, again.hint) == (Reason.CONNECTION, None)
    assert "secret" not in repr(refused.value)
    assert isinstance(pickle.loads(pickle.dumps(ServerFailed())), ServerFailed)


# What is left, quotas, growth


def test_answers_and_errors_tell_what_is_left_where_the_server_does() -> None:
    limit = WindowLimit(4, 60.0, remaining=True)
    with VirtualClock() as clock:
        server = VirtualServer(replace(STEADY, limit=limit), speed=10)
        first = server.call("x")
        assert isinstance(first, Answer)
        assert (first, first.remaining, first.reset) == ("echo: x", 3, pytest.approx(5.9))
        assert outcome_of(first) == Outcome(Kind.SUCCESS, remaining=3, reset=first.reset)
        in_threads(clock, 2, server.call)
        last = server.call("y")
        assert isinstance(last, Answer)
        assert last.remaining == 0
        with pytest.raises(ServerRefused) as refused:
            server.call("z")
        assert outcome_of(refused.value) == Outcome(Kind.LIMITED, refused.value.hint, remaining=0,
                                                    reset=refused.value.hint)
        assert pickle.loads(pickle.dumps(refused.value)).reset == refused.value.reset
        again = pickle.loads(pickle.dumps(last))
        assert (again, again.remaining, again.reset) == (last, last.remaining, last.reset)
        failing = VirtualServer(replace(STEADY, limit=limit, noise=0.999_999))
        with pytest.raises(ServerFailed) as failed:
            failing.call("x")
        assert outcome_of(failed.value) == Outcome(Kind.FAILURE, remaining=3, reset=59.0)


def test_it_is_told_as_it_stands_when_the_answer_leaves() -> None:
    with VirtualClock() as clock:
        server = VirtualServer(replace(STEADY, slots=9, limit=BucketLimit(0.5, 8.0, remaining=True)))
        told: list[tuple[float | None, float | None]] = []

        def work(_: int) -> None:
            answer = server.call("x")
            assert isinstance(answer, Answer)
            told.append((answer.remaining, answer.reset))

        in_threads(clock, 4, work)
    assert told == [(4, 7.0)] * 4


def test_where_nothing_is_told_an_answer_is_a_plain_string() -> None:
    with VirtualClock():
        server = VirtualServer(replace(STEADY, limit=WindowLimit(1), noise=0.0))
        assert type(server.call("x")) is str
        with pytest.raises(ServerRefused) as refused:
            server.call("x")
        assert (refused.value.remaining, refused.value.reset) == (None, None)
        gone = VirtualServer(replace(STEADY, limit=WindowLimit(1, remaining=True), spells=(Spell(0.0, 9.0),)))
        with pytest.raises(ServerRefused) as refused:
            gone.call("x")
        assert (refused.value.remaining, refused.value.reset) == (None, None)


def test_a_quota_that_is_used_up_is_a_kind_of_its_own_with_its_hint() -> None:
    with VirtualClock():
        server = VirtualServer(replace(STEADY, quota=Quota(1, retry_after=100.0)), speed=10)
        server.call("x")
        with pytest.raises(ServerRefused) as refused:
            server.call("x")
        assert outcome_of(refused.value) == Outcome(Kind.QUOTA, 10.0)
        assert server.stats().refusals["quota"] == 1


def test_a_batch_under_a_quota_answers_as_many_as_it_has() -> None:
    assert simulate("Q", seed=1, items=260).answered == 200


@pytest.mark.parametrize(("told", "kind"), [(True, Kind.GROWTH_LIMITED), (False, Kind.LIMITED)])
def test_growth_is_told_or_not(told: bool, kind: Kind) -> None:
    with VirtualClock():
        server = VirtualServer(replace(STEADY, growth=GrowthLimit(least=0.0, told=told)))
        with pytest.raises(ServerRefused) as refused:
            server.call("x")
        assert refused.value.kind is kind
        assert pickle.loads(pickle.dumps(refused.value)).kind is kind
        assert server.stats().refusals["growth"] == 1
