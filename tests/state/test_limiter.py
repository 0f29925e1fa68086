"""The limiter: never more than its limit, places handed over in order, one thread woken a release."""

from __future__ import annotations

import gc
import sys
import threading
from functools import partial
from random import Random
from typing import Any

import pytest
from jobs import all_of

from llm_guard.clock.virtual import Deadlock, VirtualClock, VirtualWaiter
from llm_guard.errors import ConfigError
from llm_guard.outcome import SUCCESS
from llm_guard.state.gate import Ending, Request
from llm_guard.state.limiter import Limiter, LimitGate


class _Counted:
    def __init__(self, clock: CountingClock, waiter: VirtualWaiter) -> None:
        self._clock, self._waiter = clock, waiter
        self._parked = False

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.waits += 1
        self._parked = True
        in_time = self._waiter.wait(timeout)
        self._parked = False
        return in_time

    def set(self) -> None:
        self._clock.woken += self._parked and not self._waiter._is_set
        self._waiter.set()


class CountingClock(VirtualClock):
    """Counts waits, and threads woken by others."""

    def __init__(self, seed: int = 0, *, shuffle: bool = False) -> None:
        super().__init__(seed, shuffle=shuffle)
        self.waits = self.woken = 0

    def waiter(self) -> Any:
        return _Counted(self, super().waiter())


def test_a_place_is_handed_over_in_the_order_of_coming() -> None:
    order: list[int] = []
    with VirtualClock(7, shuffle=True) as clock:
        limiter, came = Limiter(1), []

        def job(number: int) -> None:
            clock.sleep(number % 5)
            came.append(number)
            with limiter:
                order.append(number)
                clock.sleep(1.0)

        all_of(clock, [partial(job, number) for number in range(60)])
    assert order == came


def test_a_newcomer_cannot_take_a_place_that_was_just_given_back() -> None:
    with VirtualClock() as clock:
        limiter, order = Limiter(1), []
        limiter.acquire()
        all_waiting = [lambda: (limiter.acquire(), order.append("waited"))] * 3
        for job in all_waiting:
            clock.spawn(job, "waits")
        clock.sleep(1.0)
        for _ in range(3):
            limiter.release()
            assert not limiter.acquire(timeout=0)  # the one who waited has not even run yet
            clock.sleep(1.0)
        assert order == ["waited"] * 3
        limiter.release()
        assert limiter.acquire(timeout=0)


@pytest.mark.parametrize("seed", range(8))
def test_there_are_never_more_than_the_limit_however_they_come_and_go(seed: int) -> None:
    with VirtualClock(seed, shuffle=True) as clock:
        limit = 1 + seed % 4
        limiter, random, entered, gave_up = Limiter(limit), Random(seed), [], []
        inside = [0]

        def job() -> None:
            for _ in range(4):
                if not limiter.acquire(timeout=random.choice([None, None, 0.0, 0.5, 2.0])):
                    gave_up.append(1)
                    continue
                inside[0] += 1
                assert inside[0] <= limit
                clock.sleep(random.choice([0.0, 0.1, 0.5]))
                inside[0] -= 1
                limiter.release()
                entered.append(1)

        all_of(clock, [job] * 80)
        assert len(entered) + len(gave_up) == 320
        assert gave_up
        assert (limiter.in_flight, limiter.waiting) == (0, 0)
        assert all(limiter.acquire(timeout=0) for _ in range(limit))
        assert not limiter.acquire(timeout=0)


def test_one_thread_is_woken_by_one_release() -> None:
    with CountingClock() as clock:
        limiter, number = Limiter(3), 100

        def job() -> None:
            with limiter:
                clock.sleep(1.0)

        all_of(clock, [job] * number)
        assert clock.waits == clock.woken == number - 3
        assert clock.now() == -(-number // 3)


def test_a_release_that_nobody_waits_for_wakes_nobody() -> None:
    with CountingClock() as clock:
        limiter = Limiter(1)
        for _ in range(10):
            with limiter:
                assert limiter.in_flight == 1
        assert (clock.waits, clock.woken) == (0, 0)


def test_a_thousand_may_wait() -> None:
    number = 1000
    with CountingClock() as clock:
        limiter = Limiter(2)

        def job() -> None:
            with limiter:
                clock.sleep(0.001)

        all_of(clock, [job] * number)
        assert clock.waits <= number
        assert clock.woken <= number


def test_a_higher_limit_admits_those_who_wait_at_once_and_no_more_than_it_has_room_for() -> None:
    with CountingClock() as clock:
        limiter, at = Limiter(1), []
        jobs = [lambda: (limiter.acquire(), at.append(clock.now()))] * 10

        def raise_it() -> None:
            clock.sleep(5.0)
            limiter.limit = 4
            assert limiter.in_flight == 4
            clock.sleep(5.0)
            limiter.limit = 10

        all_of(clock, [*jobs, raise_it])
        assert at == [0.0] + [5.0] * 3 + [10.0] * 6
        assert clock.woken == 9
        assert limiter.waiting == 0


def test_a_lower_limit_takes_nothing_away_and_admits_nobody_until_there_is_room() -> None:
    with VirtualClock() as clock:
        limiter, entered = Limiter(3), []
        for _ in range(3):
            limiter.acquire()
        clock.spawn(lambda: (limiter.acquire(), entered.append(clock.now())), "waits")
        clock.sleep(1.0)
        limiter.limit = 1
        for released in range(3):
            assert (limiter.in_flight, entered) == (3 - released, [])
            limiter.release()
            clock.sleep(1.0)
        assert entered == [3.0]
        assert limiter.in_flight == 1


def test_those_who_give_up_in_the_middle_of_the_queue_leave_the_others_in_order() -> None:
    with CountingClock() as clock:
        limiter, entered, gave_up = Limiter(1), [], []

        def job(number: int) -> None:
            timeout = 0.5 + number / 100 if number % 3 == 1 else None
            if limiter.acquire(timeout):
                entered.append(number)
                clock.sleep(1.0)
                limiter.release()
            else:
                gave_up.append((number, clock.now()))

        all_of(clock, [partial(job, number) for number in range(12)])
        assert entered == [0, 2, 3, 5, 6, 8, 9, 11]
        assert gave_up == [(number, 0.5 + number / 100) for number in (1, 4, 7, 10)]
        assert clock.woken == 7
        assert clock.now() == 8.0


def test_a_timeout_at_the_instant_of_a_release_loses_no_place() -> None:
    for seed in range(20):
        with VirtualClock(seed, shuffle=True) as clock:
            limiter, entered = Limiter(1), []

            def holder(clock: VirtualClock = clock, limiter: Limiter = limiter) -> None:
                with limiter:
                    clock.sleep(1.0)

            def impatient(limiter: Limiter = limiter, entered: list[bool] = entered) -> None:
                got = limiter.acquire(timeout=1.0)
                entered.append(got)
                if got:
                    limiter.release()

            all_of(clock, [holder, *[impatient] * 5])
            assert len(entered) == 5
            assert (limiter.in_flight, limiter.waiting) == (0, 0)
            assert limiter.acquire(timeout=0)


def test_a_negative_timeout_is_none_at_all() -> None:
    with VirtualClock() as clock:
        limiter = Limiter(1)
        assert limiter.acquire(timeout=-5.0)
        assert not limiter.acquire(timeout=-5.0)
        assert clock.now() == 0.0


def test_the_with_block_gives_its_place_back_after_an_error() -> None:
    with VirtualClock():
        limiter = Limiter(1)
        with pytest.raises(KeyError), limiter as held:
            raise KeyError(held is limiter)
        assert limiter.in_flight == 0


def test_more_releases_than_places_held_are_an_error_and_make_no_room() -> None:
    with VirtualClock():
        limiter = Limiter(1)
        with pytest.raises(ValueError, match="more often"):
            limiter.release()
        limiter.acquire()
        limiter.release()
        with pytest.raises(ValueError, match="more often"):
            limiter.release()
        assert limiter.acquire(timeout=0)
        assert not limiter.acquire(timeout=0)


def test_two_releases_at_once_of_one_place_make_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look at what is held and the giving back must be one step."""
    with VirtualClock():
        limiter = Limiter(1)
        limiter.acquire()
        leave = limiter._line.leave

        def another_comes_between(*args: Any) -> None:
            monkeypatch.undo()
            with pytest.raises(ValueError, match="more often"):
                limiter.release()
            leave(*args)

        monkeypatch.setattr(limiter._line, "leave", another_comes_between)
        try:
            limiter.release()
        except ValueError:
            pass
        assert limiter.in_flight == 0


def test_a_place_taken_and_given_back_leaves_no_garbage_for_the_collector() -> None:
    with VirtualClock():
        limiter = Limiter(1)
        gc.collect()
        gc.disable()
        try:
            for _ in range(100):
                limiter.acquire()
                limiter.release()
                with limiter:
                    pass
                assert limiter.acquire(timeout=0)
                assert not limiter.acquire(timeout=0)
                limiter.release()
            assert gc.collect() < 50
        finally:
            gc.enable()


def test_blocks_may_be_nested_and_mixed_with_plain_places() -> None:
    with VirtualClock():
        limiter = Limiter(3)
        limiter.acquire()
        with limiter:
            with limiter:
                assert limiter.in_flight == 3
                limiter.release()
                assert limiter.in_flight == 2
            assert limiter.in_flight == 1
        assert limiter.in_flight == 0


def test_a_place_may_be_given_back_by_another_thread() -> None:
    with VirtualClock() as clock:
        limiter = Limiter(1)
        limiter.acquire()
        all_of(clock, [limiter.release])
        assert limiter.acquire(timeout=0)


def test_waiting_for_a_place_that_nobody_gives_back_is_a_deadlock_and_no_busy_wait() -> None:
    with VirtualClock() as clock:
        limiter = Limiter(1)
        limiter.acquire()
        with pytest.raises(Deadlock):
            limiter.acquire()
        assert clock.switches < 5


@pytest.mark.parametrize("limit", [0, -1, 1.5, "3", None, True])
def test_a_limit_that_cannot_be_is_refused_and_changes_nothing(limit: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        Limiter(limit)
    assert refused.value.parameter == "limit"
    limiter = Limiter(2)
    with pytest.raises(ConfigError):
        limiter.limit = limit
    assert limiter.limit == 2


def test_its_repr_tells_its_limit_and_what_is_in_flight() -> None:
    with VirtualClock():
        limiter = Limiter(2)
        limiter.acquire()
        assert repr(limiter) == "Limiter(limit=2, in_flight=1)"


def test_the_gate_remembers_the_most_there_were_and_begins_anew_after_a_fork() -> None:
    gate, request = LimitGate(5), Request([])
    for _ in range(3):
        gate.start(0.0, request)
    gate.end(0.0, None, Ending(SUCCESS, 1.0))
    assert (gate.in_flight, gate.peak) == (2, 3)
    gate.after_fork()
    assert (gate.in_flight, gate.peak) == (0, 0)


@pytest.mark.real
def test_threads_of_the_machine_never_exceed_the_limit() -> None:
    limiter, inside, most, entered = Limiter(3), [], [], []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def job(number: int) -> None:
        random = Random(number)
        for _ in range(60):
            if limiter.acquire(timeout=random.choice([None, 5.0, 0.0, 0.0001])):
                inside.append(1)
                most.append(len(inside))
                inside.pop()
                limiter.release()
                entered.append(1)

    def change() -> None:
        while any(thread.is_alive() for thread in threads):
            for limit in (1, 3, 2):
                limiter.limit = limit
                threads[0].join(0.001)

    threads = [threading.Thread(target=job, args=(number,), daemon=True) for number in range(10)]
    changing = threading.Thread(target=change, daemon=True)
    try:
        for thread in (*threads, changing):
            thread.start()
        for thread in (*threads, changing):
            thread.join(5.0)
    finally:
        sys.setswitchinterval(interval)
    assert not any(thread.is_alive() for thread in threads)
    assert max(most) <= 3
    assert len(entered) > 100
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


def test_a_release_without_room_on_the_stack_can_be_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = Limiter(1)
    limiter.acquire()

    def no_room(*args: object) -> None:
        raise RecursionError

    with monkeypatch.context() as patched:
        patched.setattr(limiter._line, "leave_whole", no_room)
        with pytest.raises(RecursionError):
            limiter.release()
    assert limiter.in_flight == 1
    limiter.release()
    assert limiter.in_flight == 0
