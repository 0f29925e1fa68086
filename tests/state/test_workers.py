"""The workers: threads that are used again, results that come back, jobs that are left to themselves."""

from __future__ import annotations

import contextvars
import gc
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from llm_guard import clock as seam
from llm_guard.clock.virtual import VirtualClock
from llm_guard.state import workers as workers_module
from llm_guard.state.workers import IDLE, Job, Workers, _Worker, around_each_job, workers


class CountingClock(VirtualClock):
    """Counts the threads that are spawned."""

    def __init__(self, seed: int = 0, *, shuffle: bool = False) -> None:
        super().__init__(seed, shuffle=shuffle)
        self.spawned = 0

    def spawn(self, function: Callable[[], object], name: str) -> None:
        self.spawned += 1
        super().spawn(function, name)


def on_worker(function: Callable[[], Any]) -> Any:
    """What a patient caller does."""
    job = workers().start(function)
    assert job.wait(1e6)
    return job.result()


def settle(clock: VirtualClock) -> None:
    """Lets everybody go on who can, without time passing."""
    for _ in range(20):
        clock.sleep(0)


class Result:
    """Something that can be seen to go."""


# Results


def test_what_the_function_returns_comes_back_from_another_thread() -> None:
    with VirtualClock():
        assert on_worker(lambda: 42) == 42
        assert on_worker(lambda: None) is None
        assert on_worker(threading.get_ident) != threading.get_ident()


def _fails() -> None:
    raise KeyError("what went wrong")


@pytest.mark.parametrize("error", [KeyError("a"), KeyboardInterrupt(), SystemExit(3), GeneratorExit(),
                                   StopIteration(1)])
def test_what_the_function_raises_is_raised_in_the_caller(error: BaseException) -> None:
    def fails() -> None:
        raise error

    with VirtualClock():
        with pytest.raises(type(error)) as raised:
            on_worker(fails)
        assert raised.value is error
        assert on_worker(lambda: "the worker lives") == "the worker lives"


def test_the_traceback_shows_where_in_the_function_it_happened() -> None:
    with VirtualClock(), pytest.raises(KeyError) as raised:
        on_worker(_fails)
    names = [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert "_fails" in names
    assert names.index("on_worker") < names.index("_fails")


def test_a_wait_ends_in_time_whatever_the_function_does() -> None:
    with VirtualClock() as clock:
        job = workers().start(lambda: clock.sleep(100.0))
        assert not job.wait(3.0)
        assert clock.now() == 3.0
        assert job.leave(lambda: None)


# Context variables


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
other: contextvars.ContextVar[str] = contextvars.ContextVar("other", default="default")


def in_fresh_context(test: Callable[[], None]) -> None:
    contextvars.Context().run(test)


def test_context_variables_go_in_and_come_back() -> None:
    def test() -> None:
        variable.set("mine")

        def function() -> str:
            seen = variable.get()
            variable.set("its")
            other.set("new")
            return seen

        assert on_worker(function) == "mine"
        assert (variable.get(), other.get()) == ("its", "new")

    with VirtualClock():
        in_fresh_context(test)


def test_context_variables_come_back_with_an_error_too() -> None:
    def test() -> None:
        def function() -> None:
            variable.set("its")
            raise KeyError

        with pytest.raises(KeyError):
            on_worker(function)
        assert variable.get() == "its"

    with VirtualClock():
        in_fresh_context(test)


def test_a_variable_that_was_never_set_stays_unset_and_one_reset_within_is_as_before() -> None:
    def test() -> None:
        other.set("mine")

        def function() -> None:
            token = variable.set("for a moment")
            variable.reset(token)
            other.reset(other.set("for a moment"))

        on_worker(function)
        assert variable.get(None) is None
        assert other.get() == "mine"

    with VirtualClock():
        in_fresh_context(test)


def test_a_worker_used_again_knows_nothing_of_its_last_callers_context() -> None:
    with VirtualClock() as clock:
        in_fresh_context(lambda: (variable.set("the first one's"), on_worker(lambda: variable.set("its")))[0])
        settle(clock)
        seen: list[object] = []
        in_fresh_context(lambda: seen.append(on_worker(lambda: variable.get(None))))
        assert seen == [None]


def test_what_a_job_left_behind_sets_stays_with_it() -> None:
    def test() -> None:
        variable.set("mine")
        job = workers().start(lambda: (clock.sleep(5.0), variable.set("its")))
        assert not job.wait(1.0)
        assert job.leave(lambda: None)
        clock.sleep(10.0)
        assert variable.get() == "mine"

    with VirtualClock() as clock:
        in_fresh_context(test)


# Threads


def test_no_thread_is_there_before_it_is_needed() -> None:
    before = threading.active_count()
    with CountingClock() as clock:
        pool = workers()
        assert clock.spawned == 0
        assert threading.active_count() == before
        assert workers() is pool


def test_each_clock_has_workers_of_its_own() -> None:
    with VirtualClock():
        first = workers()
    with VirtualClock():
        assert workers() is not first


def test_one_call_after_the_other_needs_one_thread() -> None:
    with CountingClock() as clock:
        idents = set()
        for _ in range(50):
            idents.add(on_worker(threading.get_ident))
            settle(clock)
        assert clock.spawned == 1
        assert len(idents) == 1


def test_the_last_one_idle_is_used_first_so_that_the_others_can_go() -> None:
    short = IDLE / 10  # so that none ends of idleness while the test looks
    with CountingClock() as clock:
        jobs = [workers().start(lambda seconds=seconds: (clock.sleep(seconds), threading.get_ident())[1])  # type: ignore[misc]
                for seconds in (short, 3 * short, 2 * short)]
        clock.sleep(4 * short)
        idents = [job.result() for job in jobs]
        assert clock.spawned == 3
        for _ in range(5):
            assert on_worker(threading.get_ident) == idents[1]
            settle(clock)
        held = workers().start(lambda: clock.sleep(short))
        assert on_worker(threading.get_ident) == idents[2]
        held.wait(IDLE)


def test_an_idle_worker_ends_after_a_while_and_a_busy_one_does_not() -> None:
    assert 1.0 <= IDLE < 3.0  # three seconds after the last call no thread is left of it
    with CountingClock() as clock:
        before = threading.active_count()
        for _ in range(3):
            workers().start(lambda: clock.sleep(1.0))
        busy = workers().start(lambda: clock.sleep(10 * IDLE))
        clock.sleep(1.0 + IDLE / 2)
        assert threading.active_count() == before + 4
        for thread in clock._spawned[:3]:
            assert thread.is_alive()
        clock.sleep(IDLE)
        for thread in clock._spawned[:3]:
            thread.join(2.0)
        assert threading.active_count() == before + 1
        assert busy.wait(20 * IDLE)
        assert on_worker(lambda: "again") == "again"
        assert clock.spawned == 4


@pytest.mark.parametrize("seed", range(30))
def test_a_job_given_at_the_instant_at_which_its_worker_would_end_is_run(seed: int) -> None:
    with VirtualClock(seed, shuffle=True) as clock:
        done: list[object] = []

        def caller() -> None:
            clock.sleep(IDLE)
            done.append(on_worker(lambda: "run"))

        for _ in range(4):
            workers().start(lambda: None)
        for _ in range(4):
            clock.spawn(caller, "caller")
        clock.sleep(2 * IDLE)
        assert done == ["run"] * 4


def test_a_worker_that_was_picked_waits_for_its_job_though_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller has taken it out of the pool and comes to hand the job over a moment too late."""
    with VirtualClock() as clock:
        on_worker(lambda: None)
        settle(clock)
        slot: Any = _Worker.job

        def hand_over(worker: _Worker, job: Job | None) -> None:
            if job is not None:
                clock.sleep(1.0)
            slot.__set__(worker, job)

        monkeypatch.setattr(_Worker, "job", property(slot.__get__, hand_over))
        clock.sleep(IDLE - 0.5)
        assert on_worker(lambda: "run") == "run"


@pytest.mark.parametrize("seed", range(5))
def test_many_callers_get_each_their_own_result(seed: int) -> None:
    with CountingClock(seed, shuffle=True) as clock:
        results: list[tuple[int, int]] = []
        callers = 40

        def caller(number: int) -> None:
            for turn in range(5):
                seconds = clock.random.choice([0.0, 0.1, 0.7])
                mine = 100 * turn + number
                results.append((mine, on_worker(lambda mine=mine, seconds=seconds: (clock.sleep(seconds), mine)[1])))

        for number in range(callers):
            clock.spawn(lambda number=number: caller(number), "caller")  # type: ignore[misc]
        clock.sleep(100.0)
        assert len(results) == 5 * callers
        assert all(mine == got for mine, got in results)
        assert clock.spawned <= 2 * callers + callers  # at most one a caller, and one that is on its way to be idle


# Jobs left behind


def test_a_job_left_behind_calls_what_follows_once_when_it_ends() -> None:
    for error in (None, KeyError("late")):
        with VirtualClock() as clock:
            followed: list[float] = []

            def function(clock: VirtualClock = clock, error: KeyError | None = error) -> str:
                clock.sleep(5.0)
                if error is not None:
                    raise error
                return "late"

            job = workers().start(function)
            assert not job.wait(1.0)
            assert job.leave(lambda clock=clock, followed=followed: followed.append(clock.now()))  # type: ignore[misc]
            assert followed == []
            clock.sleep(100.0)
            assert followed == [5.0]
            assert job.value is None
            assert job.error is None
            assert on_worker(lambda: "again") == "again"


def test_a_job_that_has_ended_cannot_be_left() -> None:
    with VirtualClock() as clock:
        job = workers().start(lambda: "ended")
        clock.sleep(1.0)
        assert not job.leave(_never)
        assert job.result() == "ended"


def _never() -> None:
    raise AssertionError("it must not be called")


def test_a_job_that_ends_in_the_instant_of_the_timeout_is_either_there_or_left_but_never_both() -> None:
    outcomes = set()
    for seed in range(40):
        with VirtualClock(seed, shuffle=True) as clock:
            followed: list[str] = []
            job = workers().start(lambda clock=clock: (clock.sleep(1.0), "there")[1])  # type: ignore[misc]
            if job.wait(1.0):
                outcome = job.result()
            elif job.leave(lambda followed=followed: followed.append("left")):  # type: ignore[misc]
                outcome = "left"
            else:
                outcome = job.result()
            clock.sleep(1.0)
            assert followed == (["left"] if outcome == "left" else [])
            outcomes.add(outcome)
    assert outcomes == {"there", "left"}


def test_a_job_names_the_waiter_that_its_caller_waits_on_and_ends_once() -> None:
    with VirtualClock() as clock:
        waiter = clock.waiter()
        job = Job(lambda: "run", waiter)
        assert not job.wait(0)
        assert job.run() is waiter
        assert not job.leave(_never)
        assert job.result() == "run"


# What stays alive


def test_nothing_of_a_call_stays_alive_in_an_idle_worker() -> None:
    with VirtualClock() as clock:
        argument, value = Result(), Result()
        gone = [weakref.ref(argument), weakref.ref(value)]
        gc.disable()
        try:
            def call(argument: Result, value: list[Result]) -> None:
                assert on_worker(lambda: (argument, value.pop())[1]) is not None

            held = [value]
            del value
            call(argument, held)
            del argument
            settle(clock)
            assert [ref() for ref in gone] == [None, None]
        finally:
            gc.enable()


def test_an_error_and_what_its_frames_hold_goes_with_its_last_user() -> None:
    class Failure(Exception):
        pass

    def call() -> None:
        argument = Result()
        gone.append(weakref.ref(argument))

        def fails() -> None:
            error = Failure(argument is None)
            gone.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error

        try:
            on_worker(fails)
        except Failure:
            pass

    gone: list[weakref.ref[Any]] = []
    with VirtualClock() as clock:
        gc.disable()
        try:
            call()
            settle(clock)
            assert [ref() for ref in gone] == [None, None]
        finally:
            gc.enable()


def test_the_result_of_a_job_left_behind_goes_at_once() -> None:
    gone: list[weakref.ref[Any]] = []
    with VirtualClock() as clock:
        def function() -> Result:
            result = Result()
            gone.append(weakref.ref(result))
            clock.sleep(5.0)
            return result

        gc.disable()
        try:
            job = workers().start(function)
            job.wait(1.0)
            seen: list[object] = []
            job.leave(lambda: seen.append(gone[0]()))
            clock.sleep(5.0)
            settle(clock)
            assert gone[0]() is None
            assert seen == [None]
        finally:
            gc.enable()


def test_a_clock_that_is_over_goes_with_its_workers() -> None:
    with VirtualClock() as clock:
        on_worker(lambda: None)
    gone = weakref.ref(clock)
    del clock
    gc.collect()
    assert gone() is None


def test_a_pool_is_fresh_after_a_fork() -> None:
    with CountingClock() as clock:
        pool = Workers()
        pool.start(lambda: None)
        clock.sleep(1.0)
        pool.after_fork()
        job = pool.start(lambda: "run")
        assert job.wait(1.0)
        assert clock.spawned == 2


# The machine's clock


@pytest.mark.real
def test_on_the_machines_clock_workers_are_daemons_and_are_used_again() -> None:
    assert on_worker(lambda: threading.current_thread().daemon)
    seen = set()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    results: list[tuple[int, int]] = []

    def caller(number: int) -> None:
        for turn in range(20):
            mine = 1000 * number + turn
            results.append((mine, on_worker(lambda mine=mine: mine)))

    try:
        threads = [threading.Thread(target=caller, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5.0)
        for _ in range(20):
            seen.add(on_worker(threading.get_ident))
    finally:
        sys.setswitchinterval(interval)
    assert len(results) == 120
    assert all(mine == got for mine, got in results)
    assert len(seen) < 20


@pytest.mark.real
def test_on_the_machines_clock_a_job_that_ends_about_the_timeout_is_there_or_left_and_never_both() -> None:
    sleep = seam.current().sleep
    for number in range(60):
        followed = threading.Event()
        job = workers().start(lambda: sleep(0.001))
        if job.wait(0.0009 + number * 4e-6) or not job.leave(followed.set):
            job.result()
            assert not followed.wait(0.0)
        else:
            assert followed.wait(2.0)


HANGS_ON_TO_THE_END = """
import threading
from llm_guard.clock import current
from llm_guard.state.bucket import LeakyBucket
from llm_guard.state.limiter import Limiter
from llm_guard.state.workers import workers

limiter, bucket = Limiter(1), LeakyBucket(1e-6)
limiter.acquire()
bucket.acquire()
idle = workers().start(lambda: None)
assert idle.wait(5)
jobs = [workers().start(function) for function in
        (limiter.acquire, bucket.acquire, current().waiter().wait, lambda: current().sleep(1e6))]
left = workers().start(lambda: current().sleep(1e6))
assert left.leave(lambda: None)
assert not jobs[0].wait(0.05)
print(limiter.waiting, bucket.waiting, "ends")
"""


@pytest.mark.real
def test_the_end_of_the_interpreter_never_hangs_on_workers_that_are_parked_or_busy() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS_ON_TO_THE_END], capture_output=True, text=True, timeout=10,
                           check=False, env={"PYTHONPATH": ":".join(filter(None, sys.path))})
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1 1 ends\n", "")


def test_a_job_runs_within_what_was_made_where_it_was_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "_around", [])
    told: list[tuple[str, bool]] = []
    here = threading.get_ident()

    def tell(what: str) -> None:
        told.append((what, threading.get_ident() == here))

    @contextmanager
    def within() -> Iterator[None]:
        tell("enters")
        try:
            yield
        finally:
            tell("leaves")

    def surroundings() -> AbstractContextManager[None]:
        tell("made")
        return within()

    def fails() -> None:
        tell("runs")
        raise KeyError("x")

    with VirtualClock():
        for _ in range(2):
            around_each_job(surroundings)
        job = workers().start(fails)
        assert told == [("made", True)]
        assert job.wait(1)
        with pytest.raises(KeyError):
            job.result()
    assert told[1:] == [("enters", False), ("runs", False), ("leaves", False)]
