"""The leaky bucket: an even rate in every window, first come, first served, at no cost while it waits."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import all_of

from llm_guard import clock as seam
from llm_guard.call import FOREVER
from llm_guard.clock.virtual import Deadlock, VirtualClock, VirtualWaiter
from llm_guard.errors import ConfigError
from llm_guard.state.bucket import LeakyBucket
from llm_guard.state.leak import CATCH_UP, Leak

MOST_CATCH_UP = 0.010  # seconds: what is promised


def worst_excess(starts: Sequence[float], rate: float) -> float:
    """By how many calls the worst of all windows exceeds rate * (w + 0.010) + 1; at most 0 where the bound holds.

    A window from the i-th start to the j-th holds j - i + 1 of them.
    """
    worst = ahead = -FOREVER
    for number, start in enumerate(starts):
        ahead = max(ahead, start * rate - number)
        worst = max(worst, number - rate * start + ahead - rate * MOST_CATCH_UP)
    return worst


def test_the_measure_of_the_bound_is_that_of_every_window() -> None:
    random = Random(4)
    for _ in range(50):
        starts = sorted(random.uniform(0, 3) for _ in range(20))
        plainly = max(last - first + 1 - (7.0 * (starts[last] - starts[first] + MOST_CATCH_UP) + 1)
                      for first in range(20) for last in range(first, 20))
        assert worst_excess(starts, 7.0) == pytest.approx(plainly)


class _Late:
    """A waiter whose thread gets to run late, as on a busy machine."""

    def __init__(self, waiter: VirtualWaiter, late: Callable[[], float]) -> None:
        self._waiter, self._late = waiter, late

    def wait(self, timeout: float | None = None) -> bool:
        return self._waiter.wait(timeout if timeout is None else timeout + self._late())

    def set(self) -> None:
        self._waiter.set()


class LateClock(VirtualClock):
    def __init__(self, seed: int, late: Callable[[Random], float]) -> None:
        super().__init__(seed, shuffle=True)
        self._late = partial(late, Random(seed))

    def waiter(self) -> Any:
        return _Late(super().waiter(), self._late)


class _Counted:
    def __init__(self, clock: CountingClock, waiter: VirtualWaiter) -> None:
        self._clock, self._waiter = clock, waiter
        self._parked = False

    def wait(self, timeout: float | None = None) -> bool:
        self._parked = True
        in_time = self._waiter.wait(timeout)
        self._parked = False
        self._clock.by_time += not in_time
        return in_time

    def set(self) -> None:
        self._clock.by_others += self._parked and not self._waiter._is_set
        self._waiter.set()


class CountingClock(VirtualClock):
    """Counts waiters, threads, and who wakes: by time, or by others."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.made_waiters = self.by_time = self.by_others = self.spawned = 0

    def waiter(self) -> Any:
        self.made_waiters += 1
        return _Counted(self, super().waiter())

    def spawn(self, function: Callable[[], object], name: str) -> None:
        self.spawned += 1
        super().spawn(function, name)


# The arithmetic


@settings(max_examples=100, deadline=None)
@given(rate=st.floats(0.01, 5000), steps=st.lists(st.tuples(
    st.sampled_from(["at once", "late", "idle"]), st.floats(0, 1), st.booleans()), min_size=2, max_size=60))
def test_however_late_the_starts_no_window_holds_too_many(
        rate: float, steps: list[tuple[str, float, bool]]) -> None:
    leak, now, starts = Leak(), 100.0, []
    came = now
    for kind, share, waited in steps:
        ready = max(now, leak.next_start)
        now = {"at once": ready, "late": ready + share * 0.03, "idle": ready + share * 20 / rate}[kind]
        leak.take(now, came if waited else now, rate)
        starts.append(now)
        came = now
    assert worst_excess(starts, rate) <= 1e-6


def test_a_start_that_comes_late_is_made_up_for_by_those_who_waited_only() -> None:
    late = CATCH_UP / 2
    waited, came_late = Leak(), Leak()
    for leak in (waited, came_late):
        leak.take(0.0, 0.0, 10.0)
    waited.take(0.1 + late, 0.0, 10.0)
    came_late.take(0.1 + late, 0.1 + late, 10.0)
    assert waited.next_start == pytest.approx(0.2)
    assert came_late.next_start == pytest.approx(0.2 + late)


def test_idleness_saves_nothing_up() -> None:
    leak = Leak()
    leak.take(0.0, 0.0, 10.0)
    leak.take(1000.0, 1000.0, 10.0)
    assert leak.next_start == pytest.approx(1000.1)


# Threads


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rate", [0.5, 3.0, 40.0, 2500.0])
def test_no_window_holds_too_many_from_the_first_on(rate: float, seed: int) -> None:
    starts: list[float] = []
    with VirtualClock(seed, shuffle=True) as clock:
        clock.sleep(clock.random.uniform(0, 3))
        bucket, random = LeakyBucket(rate), Random(seed)

        def job() -> None:
            for _ in range(5):
                if random.random() < 0.3:
                    clock.sleep(random.uniform(0, 20 / rate))
                assert bucket.acquire()
                starts.append(clock.now())

        all_of(clock, [job] * 50)
    assert len(starts) == 250
    assert starts == sorted(starts)
    assert worst_excess(starts, rate) <= 1e-6


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("rate", [5.0, 60.0, 1000.0])
def test_the_bound_holds_where_threads_run_late(rate: float, seed: int) -> None:
    starts: list[float] = []
    with LateClock(seed, lambda random: random.choice([0.0, 0.002, 0.009, 0.05])) as clock:
        bucket = LeakyBucket(rate)

        def job() -> None:
            for _ in range(5):
                bucket.acquire()
                starts.append(clock.now())

        all_of(clock, [job] * 50)
    assert len(starts) == 250
    assert worst_excess(sorted(starts), rate) <= 1e-6


@pytest.mark.parametrize("rate", [0.2, 7.0, 90.0])
def test_the_mean_rate_is_kept_where_threads_run_a_little_late(rate: float) -> None:
    with LateClock(1, lambda random: random.uniform(0, 0.9 * MOST_CATCH_UP)) as clock:
        bucket = LeakyBucket(rate)
        all_of(clock, [bucket.acquire] * 101)
        assert clock.now() == pytest.approx(100 / rate, abs=MOST_CATCH_UP)


@pytest.mark.parametrize("seed", range(5))
def test_first_come_first_served(seed: int) -> None:
    came: list[int] = []
    served: list[int] = []
    with VirtualClock(seed, shuffle=True) as clock:
        bucket = LeakyBucket(2.0)

        def job(number: int) -> None:
            clock.sleep(number % 7 * 0.3)
            came.append(number)
            bucket.acquire()
            served.append(number)

        all_of(clock, [partial(job, number) for number in range(100)])
    assert served == came


def test_the_first_starts_at_once_and_the_others_evenly() -> None:
    with VirtualClock() as clock:
        bucket, starts = LeakyBucket(4.0), []
        all_of(clock, [lambda: (bucket.acquire(), starts.append(clock.now()))] * 5)
        assert starts == [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(("before", "after", "starts"), [
    (0.1, 10.0, [0.0, 1.0, 1.1, 1.2]),  # up: whoever waits goes at once, not after the old ten seconds
    (1.0, 0.25, [0.0, 1.0, 5.0, 9.0]),  # down, at the very instant of a start
    (0.5, 0.25, [0.0, 4.0, 8.0, 12.0]),  # down: not at the old instant
    (0.5, 0.8, [0.0, 1.25, 2.5, 3.75]),  # up a little: earlier than the old instant
])
def test_a_change_of_rate_reaches_those_who_wait(before: float, after: float, starts: list[float]) -> None:
    with VirtualClock() as clock:
        bucket, seen = LeakyBucket(before), []

        def change() -> None:
            clock.sleep(1.0)
            bucket.rate = after

        all_of(clock, [*[lambda: (bucket.acquire(), seen.append(clock.now()))] * 4, change])
        assert seen == pytest.approx(starts, abs=MOST_CATCH_UP + 1e-9)
        assert bucket.rate == after


@pytest.mark.parametrize("seed", range(4))
def test_under_a_rate_that_keeps_changing_the_highest_bounds_every_window(seed: int) -> None:
    starts: list[float] = []
    with VirtualClock(seed, shuffle=True) as clock:
        bucket, random = LeakyBucket(5.0), Random(seed)

        def change() -> None:
            for _ in range(100):
                clock.sleep(random.uniform(0, 0.3))
                bucket.rate = random.uniform(0.5, 20.0)

        all_of(clock, [*[lambda: (bucket.acquire(), starts.append(clock.now()))] * 200, change])
    assert len(starts) == 200
    assert worst_excess(starts, 20.0) <= 1e-6


def test_a_rate_of_almost_nothing_waits_and_can_be_raised() -> None:
    with VirtualClock() as clock:
        bucket = LeakyBucket(1e-320)  # one call in more seconds than there are
        assert bucket.try_acquire()
        all_of(clock, [bucket.acquire, lambda: (clock.sleep(3.0), setattr(bucket, "rate", 1.0))])
        assert clock.now() == 3.0


# What it costs


def test_one_thread_is_woken_for_one_start() -> None:
    number = 120
    with CountingClock() as clock:
        bucket = LeakyBucket(10.0)
        all_of(clock, [bucket.acquire] * number)
        assert clock.by_time == number - 1  # whoever starts has slept until its instant
        assert clock.by_others == number - 2  # and wakes the next one, who then knows its own
        assert clock.made_waiters == 2 * (number - 1) - 1  # one in the queue and one at its head
        assert clock.spawned == number


def test_there_is_no_thread_behind_it() -> None:
    with CountingClock() as clock:
        bucket = LeakyBucket(1.0)
        for _ in range(5):
            bucket.acquire()
        bucket.rate = 2.0
        bucket.acquire()
        assert clock.spawned == 0


def test_a_long_wait_costs_no_wake_ups() -> None:
    with CountingClock() as clock:
        bucket = LeakyBucket(1 / 3600)
        bucket.acquire()
        bucket.acquire()
        assert clock.now() == 3600.0
        assert (clock.by_time, clock.by_others) == (1, 0)


def test_a_start_leaves_no_garbage_for_the_collector() -> None:
    with VirtualClock():
        bucket = LeakyBucket(10.0)
        gc.collect()
        gc.disable()
        try:
            for _ in range(100):
                bucket.acquire()
                assert not bucket.try_acquire()
            assert gc.collect() < 50
        finally:
            gc.enable()


def test_a_thousand_may_wait() -> None:
    number = 1000
    with CountingClock() as clock:
        bucket = LeakyBucket(1000.0)
        all_of(clock, [bucket.acquire] * number)
        assert clock.now() == pytest.approx((number - 1) / 1000)
        assert clock.made_waiters < 2 * number
        assert clock.switches < 4 * number


# Giving up


def test_a_timeout_gives_up_in_time_and_leaves_no_trace() -> None:
    with VirtualClock() as clock:
        bucket, starts = LeakyBucket(1.0), []
        tried: list[tuple[bool, float]] = []

        def give_up(seconds: float) -> None:
            tried.append((bucket.acquire(timeout=seconds), clock.now()))

        def job() -> None:
            assert bucket.acquire()
            starts.append(clock.now())

        all_of(clock, [job, partial(give_up, 0.5), partial(give_up, 0.9), job, partial(give_up, 1.5), job])
        assert tried == [(False, 0.5), (False, 0.9), (False, 1.5)]
        assert starts == [0.0, 1.0, 2.0]
        assert bucket.waiting == 0


@pytest.mark.parametrize("seed", range(4))
def test_those_who_give_up_cost_those_who_wait_no_time(seed: int) -> None:
    with VirtualClock(seed, shuffle=True) as clock:
        bucket, random = LeakyBucket(10.0), Random(seed)
        starts: list[float] = []

        def job(timeout: float | None) -> None:
            if bucket.acquire(timeout):
                starts.append(clock.now())

        timeouts = [random.choice([None, 0.0, random.uniform(0, 10)]) for _ in range(150)]
        all_of(clock, [partial(job, timeout) for timeout in timeouts])
        assert starts == pytest.approx([number / 10 for number in range(len(starts))])
        assert len(starts) >= timeouts.count(None)
        assert bucket.waiting == 0


def test_to_try_is_to_start_now_or_not_at_all() -> None:
    with VirtualClock() as clock:
        bucket = LeakyBucket(1.0)
        assert bucket.try_acquire()
        assert not bucket.try_acquire()
        assert clock.now() == 0.0
        clock.sleep(1.0)
        assert bucket.try_acquire()
        assert bucket.waiting == 0


def test_to_try_goes_before_nobody_who_waits() -> None:
    with VirtualClock() as clock:
        bucket = LeakyBucket(1.0)
        bucket.acquire()
        clock.spawn(bucket.acquire, "waits")
        clock.sleep(0.5)
        assert bucket.waiting == 1
        clock.sleep(0.5)
        assert not bucket.try_acquire()


def test_nobody_waits_in_vain_for_a_clock_that_stands() -> None:
    with VirtualClock() as clock:
        bucket = LeakyBucket(1e-320)
        bucket.acquire()
        with pytest.raises(Deadlock):
            bucket.acquire()
        assert clock.switches < 5


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), "5", None, True])
def test_a_rate_that_cannot_be_is_refused_and_changes_nothing(rate: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        LeakyBucket(rate)
    assert refused.value.parameter == "rate"
    with VirtualClock() as clock:
        bucket = LeakyBucket(2.0)
        with pytest.raises(ConfigError):
            bucket.rate = rate
        assert bucket.rate == 2.0
        all_of(clock, [bucket.acquire] * 3)
        assert clock.now() == 1.0


def test_its_repr_tells_its_rate() -> None:
    assert repr(LeakyBucket(2.5)) == "LeakyBucket(rate=2.5)"


@pytest.mark.real
def test_on_the_machines_clock_the_bound_holds_among_fighting_threads() -> None:
    bucket, rate = LeakyBucket(400.0), 400.0
    starts: list[float] = []
    time = seam.current()

    class Noting(Leak):
        """Notes the instants under the line's lock: later ones would be those of the machine's scheduler."""

        def take(self, now: float, since: float, rate: float) -> None:
            starts.append(now)
            super().take(now, since, rate)

    bucket._gate.leak = Noting()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    before = threading.active_count()

    def job() -> None:
        for _ in range(12):
            assert bucket.acquire(timeout=5.0)

    try:
        threads = [threading.Thread(target=job, daemon=True) for _ in range(10)]
        began = time.now()
        for thread in threads:
            thread.start()
        assert threading.active_count() <= before + 10
        for thread in threads:
            thread.join(5.0)
        took = time.now() - began
    finally:
        sys.setswitchinterval(interval)
    assert len(starts) == 120
    assert worst_excess(starts, rate) <= 1e-6
    assert took >= 119 / rate - MOST_CATCH_UP
