"""The virtual clock: one thread at a time, time that jumps, the same every time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from llm_guard import clock as seam
from llm_guard.clock.virtual import ClockClosed, Deadlock, Stalled, TimeUp, VirtualClock


def test_time_jumps_and_sleepers_wake_in_order() -> None:
    woken: list[tuple[str, float]] = []
    with VirtualClock() as clock:
        done = clock.waiter()

        def sleeper(name: str, seconds: float) -> None:
            clock.sleep(seconds)
            woken.append((name, clock.now()))
            if len(woken) == 3:
                done.set()

        for name, seconds in (("slow", 3600.0), ("quick", 1.0), ("middle", 60.0)):
            clock.spawn(lambda name=name, seconds=seconds: sleeper(name, seconds), name)  # type: ignore[misc]
        assert done.wait()
    assert woken == [("quick", 1.0), ("middle", 60.0), ("slow", 3600.0)]


def test_a_waiter_tells_being_set_from_running_out() -> None:
    with VirtualClock() as clock:
        assert clock.waiter().wait(2.0) is False
        assert clock.now() == 2.0
        early = clock.waiter()
        early.set()
        early.set()
        assert early.wait() is True
        late = clock.waiter()
        clock.spawn(lambda: (clock.sleep(1.0), late.set()), "setter")
        assert late.wait(5.0) is True
        assert clock.now() == 3.0
        clock.sleep(10.0)  # the stale timer of that wait must wake nobody
        assert clock.now() == 13.0


def test_wall_time_moves_with_virtual_time() -> None:
    with VirtualClock(wall=100.0) as clock:
        clock.sleep(7.0)
        assert clock.wall() == 107.0


def test_it_is_in_force_inside_its_block_only() -> None:
    before = seam.current()
    with VirtualClock() as clock:
        assert seam.current() is clock
    assert seam.current() is before


def _race(seed: int, shuffle: bool) -> list[int]:
    """The order in which 20 threads that wake at the same instants get to run."""
    order: list[int] = []
    with VirtualClock(seed, shuffle=shuffle) as clock:
        finished = [clock.waiter() for _ in range(20)]

        def racer(number: int) -> None:
            for _ in range(5):
                clock.sleep(1.0)
                order.append(number)
            finished[number].set()

        for number in range(20):
            clock.spawn(lambda number=number: racer(number), f"racer {number}")  # type: ignore[misc]
        for waiter in finished:
            waiter.wait()
    return order


def test_the_same_seed_gives_the_same_order() -> None:
    assert _race(1, shuffle=True) == _race(1, shuffle=True)
    assert _race(1, shuffle=True) != _race(2, shuffle=True)
    assert _race(1, shuffle=False)[:20] == list(range(20))


def test_a_deadlock_is_reported_where_the_threads_stand() -> None:
    def stuck_here(clock: VirtualClock) -> None:
        clock.waiter().wait()

    with VirtualClock() as clock:
        clock.spawn(lambda: stuck_here(clock), "stuck")
        with pytest.raises(Deadlock, match="stuck_here"):
            clock.waiter().wait()


def test_a_deadlock_is_seen_when_the_last_runner_ends() -> None:
    with VirtualClock() as clock:
        clock.spawn(lambda: clock.sleep(1.0), "ends")
        with pytest.raises(Deadlock):
            clock.waiter().wait()


@pytest.mark.real
def test_a_thread_that_blocks_outside_the_clock_is_found() -> None:
    block = threading.Event()
    with VirtualClock(stall=0.05) as clock:
        clock.spawn(lambda: block.wait(5.0), "outside")
        with pytest.raises(Stalled, match="wait"):
            clock.sleep(1.0)
        block.set()


def test_a_thread_without_ticket_is_refused() -> None:
    errors: list[BaseException] = []

    def foreign() -> None:
        try:
            clock.sleep(1.0)
        except RuntimeError as error:
            errors.append(error)

    with VirtualClock() as clock:
        thread = threading.Thread(target=foreign)
        thread.start()
        thread.join()
    assert "adopt" in str(errors[0])


def test_pool_threads_work_under_the_clock_by_adoption() -> None:
    ended: list[float] = []
    with VirtualClock() as clock, ThreadPoolExecutor(8) as pool:
        left = [clock.waiter() for _ in range(8)]

        def loop(number: int, ticket: object) -> None:
            with ticket:  # type: ignore[attr-defined]
                clock.sleep(float(number))
                ended.append(clock.now())
                left[number].set()

        for number in range(8):
            pool.submit(loop, number, clock.adopt())
        for waiter in left:
            waiter.wait()
    assert ended == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


def test_threads_that_still_wait_end_with_the_block() -> None:
    before = threading.active_count()
    with VirtualClock() as clock:
        for _ in range(5):
            clock.spawn(lambda: clock.waiter().wait(), "idle")
        clock.sleep(1.0)
    assert threading.active_count() == before


def test_hundreds_of_threads_pass_the_baton() -> None:
    with VirtualClock() as clock:
        left = [300]
        done = clock.waiter()

        def worker(number: int) -> None:
            for _ in range(10):
                clock.sleep(0.1 + number / 1000)
            left[0] -= 1
            if not left[0]:
                done.set()

        for number in range(300):
            clock.spawn(lambda number=number: worker(number), "worker")  # type: ignore[misc]
        done.wait()
        assert clock.now() == pytest.approx(10 * (0.1 + 299 / 1000))
        assert clock.switches >= 3000


def test_time_does_not_pass_its_end() -> None:
    woken: list[float] = []
    unwound: list[type[BaseException]] = []
    with VirtualClock(until=10.0) as clock:
        def tries_for_ever() -> None:
            try:
                while True:
                    try:
                        clock.sleep(3.0)
                        woken.append(clock.now())
                    except Exception:  # as loops do that try again whatever it was
                        pass
            except BaseException as error:
                unwound.append(type(error))
                raise

        clock.spawn(tries_for_ever, "tries for ever")
        clock.sleep(10.0)  # just at the end is in time
        with pytest.raises(TimeUp, match="after 10 s threads are still at work") as up:
            clock.sleep(1.0)
    assert "tries_for_ever" in str(up.value)
    assert woken == [3.0, 6.0, 9.0]
    assert unwound == [ClockClosed]


def test_its_end_may_be_set_later_and_what_is_over_by_then_is_let_be() -> None:
    with VirtualClock() as clock:
        clock.until = 5.0
        clock.sleep(5.0)
        assert clock.waiter().wait(0.0) is False
    assert clock.now() == 5.0


def test_giving_up_ends_all() -> None:
    with VirtualClock() as clock:
        clock.spawn(lambda: clock.give_up("enough"), "gives up")
        with pytest.raises(TimeUp, match=r"^enough:\n"):
            clock.sleep(1.0)


def test_it_knows_its_threads() -> None:
    known: list[bool] = []
    with VirtualClock() as clock:
        assert clock.has_this_thread()
        other = threading.Thread(target=lambda: known.append(clock.has_this_thread()))
        other.start()
        other.join()
        clock.spawn(lambda: known.append(clock.has_this_thread()), "its own")
        clock.sleep(1.0)
    assert known == [False, True]
