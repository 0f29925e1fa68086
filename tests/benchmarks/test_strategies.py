from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

for library in ("tenacity", "pyrate_limiter", "botocore", "adaptive_concurrency"):  # they come with the extra "bench"
    pytest.importorskip(library)
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from strategies import STRATEGIES, TOLD, fixed, tries  # noqa: E402
from strategies.adaptive_concurrency import Workers  # noqa: E402
from strategies.aimd import AIMD  # noqa: E402
from strategies.botocore_adaptive import Adaptive, event_of  # noqa: E402
from strategies.cookbook import Loop  # noqa: E402
from strategies.envoy import GradientController  # noqa: E402
from strategies.gradient2 import Gradient2  # noqa: E402
from strategies.limits import End, Limit  # noqa: E402
from strategies.seed import Throttle  # noqa: E402
from strategies.sre import AdaptiveThrottling  # noqa: E402
from strategies.waiting import Condition, DeadlinePassed, Turnstile, within  # noqa: E402

from llm_guard.clock.virtual import VirtualClock  # noqa: E402
from llm_guard.testing.server import Scenario  # noqa: E402
from llm_guard.testing.server.settings import Load  # noqa: E402
from llm_guard.testing.server.stats import Reason  # noqa: E402
from llm_guard.testing.simulation import Arrivals, simulate  # noqa: E402
from llm_guard.testing.virtual_server import ServerFailed, ServerRefused, ServerTimeout  # noqa: E402

pytestmark = pytest.mark.figures

EASY = Scenario("easy", slots=100, median=0.2, sigma=0.1)
DROP = ServerRefused(Reason.OVERLOAD)
PEOPLE = [name for name in STRATEGIES if not name.endswith(", patient")]
#: Most calls that one item costs as people use it.
TRIES = dict.fromkeys(PEOPLE, 5) | {"seed": 3, "botocore adaptive": 3}


def loads(seconds: float) -> Scenario:
    """A server that tells no estimate while it loads."""
    return replace(EASY, name="loads", load=Load(seconds, spread=0.0, estimate_absent=1.0, unload_after=1000.0))


def feed(limit: Limit, calls: int, took: float = 1.0, in_flight: int = 1000, error: BaseException | None = None,
         at: float = 0.0, every: float = 0.0) -> None:
    for _ in range(calls):
        at += every
        limit.ended(End(at, took, in_flight, error, limit.started()))


def test_each_strategy_is_there_in_both_forms() -> None:
    assert set(STRATEGIES) == {form for name in PEOPLE for form in (name, f"{name}, patient")}
    assert len(PEOPLE) == 10
    assert {name.removesuffix(", patient") for name in TOLD} == {"pyrate-limiter", "OpenAI cookbook"}


@pytest.mark.parametrize("name", STRATEGIES)
def test_all_items_of_an_easy_server_are_answered_with_one_call_each(name: str) -> None:
    run = simulate(EASY, STRATEGIES[name], items=60, threads=8)
    assert (run.success, run.calls_per_answer) == (1.0, 1.0)


@pytest.mark.parametrize("name", STRATEGIES)
def test_runs_can_be_repeated(name: str) -> None:
    first, second = (simulate("A5", STRATEGIES[name], items=40, threads=16, seed=3) for _ in range(2))
    assert first.called_at == second.called_at


@pytest.mark.parametrize("name", PEOPLE)
def test_as_people_use_it_it_gives_up_after_its_tries(name: str) -> None:
    run = simulate(loads(60.0), STRATEGIES[name], items=1, threads=1)
    assert run.success == 0
    calls = len(run.called_at)
    assert calls == TRIES[name] or (name == "SRE throttling" and 1 <= calls < 5)  # some of its tries stay here


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name not in PEOPLE])
def test_with_patience_it_waits_600_seconds_for_a_server_that_loads(name: str) -> None:
    run = simulate(loads(640.0), STRATEGIES[name], items=1, threads=1)
    assert run.success == 0
    assert 600 <= run.seconds < 620
    assert simulate(loads(300.0), STRATEGIES[name], items=1, threads=1).success == 1


def test_patience_counts_failures_and_ends_with_the_eighth() -> None:
    calls = 0

    def fails(item: object) -> str:
        nonlocal calls
        calls += 1
        raise DROP if calls % 2 else ServerFailed

    with VirtualClock(), pytest.raises(ServerFailed):
        tries.patient(fails)(0)
    assert calls == 16


def test_patience_takes_a_hint_as_a_floor_and_leaves_at_once_where_it_is_too_long() -> None:
    at: list[float] = []
    hints = [20.0, 601.0]

    with VirtualClock() as clock:
        def refused(item: object) -> str:
            at.append(clock.now())
            raise ServerRefused(Reason.LIMITED, hints[len(at) - 1])

        with pytest.raises(ServerRefused):
            tries.patient(refused)(0)
        assert len(at) == 2
        assert 20 <= at[1] <= 20.5
        assert clock.now() == at[1]


def test_an_exhausted_account_is_not_called_again_with_patience() -> None:
    run = simulate("Q", STRATEGIES["tenacity pool, patient"], items=203, threads=1)
    assert (run.answered, len(run.called_at)) == (200, 203)


@pytest.mark.parametrize("name", STRATEGIES)
def test_an_item_with_a_deadline_is_given_up_at_it(name: str) -> None:
    run = simulate(loads(60.0), STRATEGIES[name], workload=Arrivals([0.0] * 12, deadline=3.0))
    assert run.success == 0
    assert max(item.ended - item.offered for item in run.items) <= 3.0 + 0.03  # a refusal's time
    assert all(at <= 3.0 for at in run.called_at)


def test_a_condition_wakes_first_who_came_first_and_passes_on_what_comes_too_late() -> None:
    woken: list[object] = []
    with VirtualClock() as clock:
        condition = Condition()

        def wait(name: str, seconds: float | None) -> None:
            with within(seconds), condition:
                try:
                    condition.wait()
                    woken.append((name, clock.now()))
                except DeadlinePassed:
                    woken.append((name, "late"))

        for name, seconds in (("short", 1.0), ("first", None), ("second", None)):
            clock.spawn(partial(wait, name, seconds), name)
        clock.sleep(2.0)
        for _ in range(2):
            with condition:
                condition.notify()
            clock.sleep(1.0)
    assert woken == [("short", "late"), ("first", 2.0), ("second", 3.0)]


def test_a_condition_passes_on_a_notification_that_comes_at_the_deadline() -> None:
    woken: list[tuple[str, float]] = []
    with VirtualClock() as clock:
        condition = Condition()

        def wait(name: str, seconds: float | None) -> None:
            with within(seconds), condition:
                condition.wait()
                woken.append((name, clock.now()))

        def late() -> None:
            with pytest.raises(DeadlinePassed):
                wait("late", 1.0)

        clock.spawn(late, "late")
        clock.spawn(lambda: wait("next", None), "next")
        clock.sleep(1.0)  # ends before the deadline, in the same instant
        with condition:
            condition.notify()
        clock.sleep(1.0)
    assert woken == [("next", 1.0)]


def test_a_turnstile_lets_in_one_at_a_time_in_order_and_skips_who_left() -> None:
    passed: list[tuple[int, float]] = []
    with VirtualClock() as clock:
        turnstile = Turnstile()

        def go(number: int) -> None:
            with within(1.5 if number == 1 else None):
                try:
                    with turnstile:
                        passed.append((number, clock.now()))
                        clock.sleep(2.0)
                except DeadlinePassed:
                    passed.append((number, -clock.now()))

        for number in range(4):
            clock.spawn(partial(go, number), "go")
        clock.sleep(10.0)
    assert passed == [(0, 0.0), (1, -1.5), (2, 2.0), (3, 4.0)]


# What the papers say


def test_aimd_takes_a_tenth_off_at_a_drop_and_adds_one_where_the_limit_is_used() -> None:
    aimd = AIMD()
    seen = []
    for in_flight, took, error in ((10, 1.0, None), (9, 1.0, None), (20, 6.0, None), (20, 1.0, DROP),
                                   (20, 5.0, ServerTimeout()), (20, 1.0, ServerFailed())):
        feed(aimd, 1, took, in_flight, error)
        seen.append(aimd.limit)
    assert seen == [21, 21, 18, 16, 14, 14]
    feed(aimd, 100, error=DROP)
    assert aimd.limit == 1
    feed(aimd, 300)
    assert aimd.limit == 200


def test_gradient2_grows_by_less_than_one_a_window_and_shrinks_when_latency_rises() -> None:
    limit = Gradient2()
    for _ in range(20):
        limit.window(1.0, in_flight=100)
    assert limit.limit == pytest.approx(20 + 20 * 0.8)
    before, long = limit.limit, limit.long
    limit.window(4.0, in_flight=100)
    long += 2 / 601 * (4 - long)
    gradient = max(0.5, 1.5 * long / 4)
    assert gradient == 0.5
    assert limit.limit == pytest.approx(0.8 * before + 0.2 * (before * gradient + 4))
    idle = limit.limit
    limit.window(1.0, in_flight=5)
    assert limit.limit == idle


def test_gradient2_takes_the_mean_of_a_second_with_ten_samples() -> None:
    limit = Gradient2()
    feed(limit, 1, at=0.0)  # closes the window before
    feed(limit, 9, took=1.0, at=0.1)
    feed(limit, 1, took=11.0, at=1.5)
    assert limit.long == 2.0
    feed(limit, 5, at=3.0)
    assert limit.long == 2.0


def test_sre_rejects_once_half_of_the_requests_were_refused_and_forgets_after_two_minutes() -> None:
    state = AdaptiveThrottling()
    for _ in range(10):
        state.requested(0.0)
    for _ in range(5):
        state.accepted(0.5)
    assert state.rejects_with(1.0) == 0
    for _ in range(10):
        state.requested(60.0)
    assert state.rejects_with(60.0) == pytest.approx((20 - 2 * 5) / 21)
    assert state.rejects_with(119.0) > 0
    assert state.rejects_with(120.5) == pytest.approx(10 / 11)
    assert state.rejects_with(181.0) == 0


def test_envoy_measures_with_three_then_follows_the_gradient_and_measures_again() -> None:
    with VirtualClock():
        limit = GradientController()
        feed(limit, 49, took=1.0, every=0.01)
        assert (limit.allowed(0.5), limit.measures) == (3, True)
        feed(limit, 1, took=1.0, at=0.5)
        assert (limit.min_rtt, limit.measures) == (1.0, False)
        feed(limit, 1, took=1.0, at=0.55)
        assert limit.allowed(0.55) == 3
        assert limit.allowed(0.65) == int(3 * 1.25 + (3 * 1.25) ** 0.5) == 5
        feed(limit, 1, took=10.0, at=0.7)
        assert limit.allowed(0.85) == int(2.5 + 2.5 ** 0.5) == 4
        assert limit.allowed(30.0) == 4
        assert limit.allowed(67.0) == 3
        assert limit.measures


def test_envoy_measures_again_where_the_limit_stays_at_its_least() -> None:
    with VirtualClock():
        limit = GradientController()
        feed(limit, 50, took=0.1)
        for step in range(5):
            assert not limit.measures
            feed(limit, 1, took=10.0, at=0.05 + 0.1 * step)
            limit.allowed(0.11 + 0.1 * step)
        assert limit.measures


def test_botocore_sends_at_seven_tenths_of_the_measured_rate_after_a_throttling_error() -> None:
    with VirtualClock() as clock:
        state = Adaptive()
        bucket = state.limiter._token_bucket
        for _ in range(400):
            clock.sleep(0.05)  # 20 a second
            state.limiter.on_receiving_response(**event_of("answer", 1, {}))
        assert not state.limiter._enabled
        measured = state.limiter._rate_clocker.measured_rate
        assert measured == pytest.approx(20, rel=0.1)
        state.limiter.on_receiving_response(**event_of(DROP, 1, {}))
        assert state.limiter._enabled
        assert bucket.max_rate == pytest.approx(0.7 * measured, rel=0.01)
        began = clock.now()
        for _ in range(50):
            state.limiter.on_sending_request(None)
        burst = bucket.max_capacity
        assert clock.now() - began == pytest.approx(50 / bucket.max_rate, abs=burst / bucket.max_rate)


@pytest.mark.parametrize("name", ["botocore adaptive", "botocore adaptive, patient"])
def test_botocore_learns_a_limit_where_a_pool_runs_against_it(name: str) -> None:
    adaptive, pool = (simulate("C", STRATEGIES[way], items=300, threads=32)
                      for way in (name, "tenacity pool, patient"))
    assert adaptive.success == 1
    assert adaptive.calls_per_answer - 1 < 0.5 * (pool.calls_per_answer - 1)


def test_botocore_retries_twice_and_no_more_once_its_quota_is_gone() -> None:
    with VirtualClock():
        state = Adaptive()

        def delays(ended: Exception) -> list[bool]:
            return [state.handler.needs_retry(**event_of(ended, number, {})) is not None for number in (1, 2, 3)]

        for end in (DROP, ServerRefused(Reason.LOADING), ServerRefused(Reason.CONNECTION), ServerTimeout(),
                    ServerFailed()):
            assert delays(end) == [True, True, False]
        left = state.quota._quota.available_capacity
        assert left == 500 - 4 * 5 - 6 * 14
        for _ in range(left // 14):
            assert state.handler.needs_retry(**event_of(ServerFailed(), 1, {})) is not None
        assert state.handler.needs_retry(**event_of(ServerFailed(), 1, {})) is None


def test_botocore_waits_for_a_hint_in_its_own_header_for_five_seconds_more_at_the_most() -> None:
    with VirtualClock():
        handler = Adaptive().handler
        assert handler.needs_retry(**event_of(ServerRefused(Reason.LIMITED, 3.0), 1, {})) == 3.0
        assert 5 <= handler.needs_retry(**event_of(ServerRefused(Reason.LIMITED, 60.0), 1, {})) <= 6


def test_the_cookbook_lets_out_a_minutes_worth_at_once_then_its_rate_and_pauses_15_s() -> None:
    loop = Loop(120.0)
    now = 0.0
    for _ in range(120):
        assert loop.wait(now) == 0
        now += 0.001
    assert loop.wait(now) == pytest.approx(0.5, abs=0.15)
    assert loop.wait(1.0) == 0
    loop.rate_limit_error(1.5)
    assert loop.wait(2.0) == pytest.approx(14.5)
    assert loop.wait(16.5) == 0


@pytest.mark.parametrize(("rate", "calls", "milliseconds"), [(9.0, 9, 1000), (33.26, 33, 992), (0.25, 1, 4000)])
def test_the_fixed_limit_is_the_rate_it_is_told(rate: float, calls: int, milliseconds: int) -> None:
    told = fixed.rate_of(rate)
    assert (told.limit, told.interval) == (calls, milliseconds)
    with VirtualClock() as clock:
        limit = fixed.FixedRate(rate)
        for _ in range(3 * calls + 1):
            limit.acquire()
        assert clock.now() == pytest.approx(3 * milliseconds / 1000, abs=0.2)


def test_the_seed_starts_one_each_half_second_for_ten_seconds_then_one_each_tenth() -> None:
    throttle = Throttle()
    starts = [throttle.reserve(0.0) for _ in range(23)]
    assert starts[:3] == [0.0, 0.5, 1.0]
    assert starts[20:] == pytest.approx([10.0, 10.1, 10.2])


def test_adaptive_concurrency_adds_one_worker_at_a_time_and_takes_off_three_tenths() -> None:
    workers = Workers(64)
    assert workers.allowed(0.0) == 2
    feed(workers, 5)
    assert workers.allowed(0.0) == 3
    for _ in range(40):
        feed(workers, 64)
    before = workers.allowed(0.0)
    assert before > 10
    feed(workers, 1, error=DROP)
    assert workers.allowed(0.0) == int(before * 0.7)


def test_the_figures_of_a_pool_and_of_aimd_are_of_the_known_order() -> None:
    pool = simulate("A", STRATEGIES["tenacity pool"])
    assert (pool.success, pool.calls_per_answer, pool.against_best) == pytest.approx((0.91, 2.29, 0.98), rel=0.03)
    aimd = simulate("A", STRATEGIES["AIMD"])
    assert (aimd.success, aimd.calls_per_answer, aimd.against_best) == pytest.approx((0.967, 1.48, 0.99), rel=0.05)


@pytest.mark.parametrize("name", STRATEGIES)
def test_only_those_that_are_told_look_at_the_capacity(name: str) -> None:
    small, large = (simulate(replace(EASY, nominal=nominal), STRATEGIES[name], items=40, threads=8)
                    for nominal in (0.5, 500.0))
    assert (small.called_at == large.called_at) == (name not in TOLD)
