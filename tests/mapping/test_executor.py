"""`BlockingExecutor`: a `ThreadPoolExecutor` whose `submit` waits for room. That it is one in all else:
test_executor_cpython.py."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Future,
    ThreadPoolExecutor,
    as_completed,
    wait,
)

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_guard import BlockingExecutor, ConfigError

pytestmark = pytest.mark.real


class Gate:
    """Calls that run until they are let go."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.started: list[int] = []

    def __call__(self, item: int = 0) -> int:
        self.started.append(item)
        assert self._open.wait(10)
        return item

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


class Background:
    """A call on a thread of its own, and how it ended."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.value: object = None
        self.error: BaseException | None = None
        self._function = function
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.value = self._function()
        except BaseException as error:
            self.error = error

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> Background:
        self._thread.join(5)
        assert not self.waits
        return self


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def submitting(executor: BlockingExecutor, function: Callable[..., object], *args: object) -> Background:
    """A submit that waits for room."""
    before = executor._places.waiting
    blocked = Background(lambda: executor.submit(function, *args))
    until(lambda: executor._places.waiting == before + 1)
    return blocked


def test_it_is_a_thread_pool_executor() -> None:
    with BlockingExecutor(2, thread_name_prefix="mine") as executor:
        assert isinstance(executor, ThreadPoolExecutor)
        future = executor.submit(lambda: threading.current_thread().name)
        assert type(future) is Future
        assert future.result().startswith("mine")
        assert list(executor.map(pow, range(9), itertools.repeat(2))) == [x * x for x in range(9)]


@pytest.mark.parametrize(("workers", "buffer"), [(1, 0), (2, 0), (2, 3)])
def test_submit_blocks_while_it_is_full_and_goes_on_when_a_call_ends(workers: int, buffer: int, gate: Gate) -> None:
    with BlockingExecutor(workers, buffer) as executor:
        futures = [executor.submit(gate, item) for item in range(workers + buffer)]
        blocked = submitting(executor, gate, 99)
        assert blocked.waits
        assert sorted(gate.started) == list(range(workers))
        gate.open()
        future = blocked.join().value
        assert isinstance(future, Future)
        assert future.result() == 99
        assert [future.result() for future in futures] == list(range(workers + buffer))


def test_submits_that_wait_are_served_in_the_order_in_which_they_came(gate: Gate) -> None:
    order: list[int] = []
    with BlockingExecutor(1) as executor:
        executor.submit(gate)
        waiting = [submitting(executor, order.append, item) for item in range(5)]
        gate.open()
        for blocked in waiting:
            blocked.join()
    assert order == list(range(5))


def test_a_call_that_fails_and_one_that_is_cancelled_make_room(gate: Gate) -> None:
    def fail() -> None:
        raise ValueError("no")

    with BlockingExecutor(1, buffer=1) as executor:
        for _ in range(5):
            with pytest.raises(ValueError, match="no"):
                executor.submit(fail).result()
        executor.submit(gate)
        for _ in range(5):
            assert executor.submit(abs, 1).cancel()
        kept = executor.submit(gate)
        blocked = submitting(executor, abs, -3)
        assert kept.cancel()
        future = blocked.join().value
        gate.open()
        assert isinstance(future, Future)
        assert future.result() == 3


@settings(max_examples=25, deadline=None)
@given(workers=st.integers(1, 4), buffer=st.integers(0, 4), fails=st.sets(st.integers(0, 39)))
def test_never_more_at_once_than_there_is_room_for_and_nothing_is_lost(workers: int, buffer: int,
                                                                      fails: set[int]) -> None:
    lock = threading.Lock()
    inside = peak_inside = running = peak_running = 0

    def function(item: int) -> int:
        nonlocal running, peak_running, inside
        with lock:
            running += 1
            peak_running = max(running, peak_running)
        time.sleep(0)
        with lock:
            running -= 1
            inside -= 1
        if item in fails:
            raise KeyError(item)
        return item

    with BlockingExecutor(workers, buffer) as executor:
        futures = []
        for item in range(40):
            futures.append(executor.submit(function, item))
            with lock:
                inside += 1
                peak_inside = max(inside, peak_inside)
    assert [future.exception() is None for future in futures] == [item not in fails for item in range(40)]
    assert [future.result() for future in futures if not future.exception()] == sorted({*range(40)} - fails)
    assert peak_running <= workers
    assert peak_inside <= workers + buffer
    assert executor._places.in_flight == 0


def test_many_threads_may_submit() -> None:
    def submit_all(start: int) -> list[int]:
        return [executor.submit(abs, -item).result() for item in range(start, start + 30)]

    with BlockingExecutor(2, buffer=1) as executor:
        tasks = [Background(lambda start=start: submit_all(start)) for start in range(0, 180, 30)]  # type: ignore[misc]
        values = [task.join().value for task in tasks]
    assert values == [list(range(start, start + 30)) for start in range(0, 180, 30)]


def test_waiting_for_its_futures_works_as_ever() -> None:
    with BlockingExecutor(2) as executor:
        futures = [executor.submit(abs, -item) for item in range(9)]
        assert wait(futures, timeout=5).not_done == set()
        assert sorted(future.result() for future in as_completed(futures, timeout=5)) == list(range(9))


@pytest.mark.parametrize("waits", [True, False])
def test_a_submit_that_waits_when_it_is_shut_down_is_refused(waits: bool, gate: Gate) -> None:
    executor = BlockingExecutor(1)
    future = executor.submit(gate, 7)
    blocked = [submitting(executor, abs, 1) for _ in range(3)]
    closing = Background(lambda: executor.shutdown(wait=waits))
    for submit in blocked:
        assert "after shutdown" in str(submit.join().error)
        assert isinstance(submit.error, RuntimeError)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)  # at once, though it is still full
    if waits:
        assert closing.waits
    gate.open()
    closing.join()
    assert future.result() == 7
    executor.shutdown()


def test_shut_down_it_can_cancel_what_has_not_begun(gate: Gate) -> None:
    executor = BlockingExecutor(1, buffer=2)
    running, *queued = [executor.submit(gate, item) for item in range(3)]
    until(lambda: gate.started)
    executor.shutdown(wait=False, cancel_futures=True)
    gate.open()
    assert running.result() == 0
    for future in queued:
        with pytest.raises(CancelledError):
            future.result()


def test_a_pool_whose_initializer_fails_refuses_those_who_wait() -> None:
    entered, leave = threading.Event(), threading.Event()

    def initializer() -> None:
        entered.set()
        leave.wait(5)
        raise LookupError

    executor = BlockingExecutor(1, 0, "", initializer)
    future = executor.submit(abs, 1)
    blocked = submitting(executor, abs, 2)
    assert entered.wait(5)
    leave.set()
    assert isinstance(future.exception(5), BrokenExecutor)
    assert isinstance(blocked.join().error, BrokenExecutor)
    for _ in range(3):
        assert isinstance(Background(lambda: executor.submit(abs, 3)).join().error, BrokenExecutor)


@pytest.mark.parametrize("kept", ["its future", "nothing"])
def test_a_dropped_executor_ends_its_threads_when_its_calls_have_ended(kept: str, gate: Gate) -> None:
    executor = BlockingExecutor(2)
    futures = [executor.submit(gate, item) for item in range(2)]
    threads, gone = list(executor._threads), weakref.ref(executor)
    if kept == "nothing":
        futures.clear()
    del executor
    gate.open()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert gone() is None


@pytest.mark.skipif(os.name != "posix", reason="interrupts are sent as signals")
def test_an_interrupt_of_a_submit_that_waits_takes_no_room() -> None:
    script = """if True:
        import signal, threading, time
        from llm_guard import BlockingExecutor
        executor = BlockingExecutor(1)
        go_on = threading.Event()
        executor.submit(go_on.wait)
        main = threading.main_thread().ident
        def interrupt():
            while not executor._places.waiting:
                time.sleep(0.001)
            signal.pthread_kill(main, signal.SIGINT)
        threading.Thread(target=interrupt).start()
        try:
            executor.submit(print, "never")
        except KeyboardInterrupt:
            go_on.set()
            print(executor.submit(abs, -5).result(), executor._places.waiting)
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stdout, done.stderr) == (0, "5 0\n", "")


def test_the_interpreter_ends_when_its_calls_have_ended_as_with_any_executor() -> None:
    script = """if True:
        import concurrent.futures.thread, threading, time
        from llm_guard import BlockingExecutor
        executor = BlockingExecutor(1)
        def call():
            while not concurrent.futures.thread._shutdown:
                time.sleep(0.001)
            print("done")
        def submit():
            try:
                executor.submit(print, "never")
            except RuntimeError as error:
                print("refused")
        executor.submit(call)
        threading.Thread(target=submit).start()
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\nrefused\n", "")


@pytest.mark.parametrize("buffer", [-1, 1.0, True, None, "2"])
def test_a_buffer_that_cannot_work_is_refused(buffer: int) -> None:
    with pytest.raises(ConfigError) as refused:
        BlockingExecutor(2, buffer=buffer)
    assert refused.value.parameter == "buffer"


def test_the_number_of_workers_is_checked_and_chosen_as_by_its_base_class() -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        BlockingExecutor(0)
    assert BlockingExecutor()._max_workers == ThreadPoolExecutor()._max_workers
