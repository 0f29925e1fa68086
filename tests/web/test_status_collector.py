"""The collector: a record for each guarded function, while both live."""

from __future__ import annotations

import gc
import os
import select
import signal
import threading
import weakref
from typing import Any

import pytest

from llm_guard import bounded, clock, events, ramp_up, retry, stack
from llm_guard.clock.virtual import VirtualClock
from llm_guard.runtime.registry import registry
from llm_guard.web.status.collector import Collector


def answer(seconds: float = 0.0) -> str:
    clock.current().sleep(seconds)
    return "answer"


def outcomes(collector: Collector, function: Any) -> dict[str, int]:
    found: dict[str, int] = collector.record_of(function).figures(clock.current().now(), None)["outcomes"]
    return found


def test_functions_made_before_and_after_it_are_heard_each_apart() -> None:
    with VirtualClock():
        before = bounded(1)(answer)
        collector = Collector()
        after = bounded(1)(answer)  # of the same name
        before()
        before()
        after()
        assert outcomes(collector, before) == {"success": 2}
        assert outcomes(collector, after) == {"success": 1}


def test_methods_other_settings_and_calls_of_a_stack_are_heard() -> None:
    class Client:
        @retry
        def ask(self) -> str:
            return "answer"

    guard = stack(bounded(1))
    with VirtualClock():
        collector = Collector()
        Client().ask()
        Client.ask.with_options(timeout=5)(Client())
        guard.call(answer)
        assert outcomes(collector, Client.ask) == {"success": 2}
        guard.call(answer)
        assert outcomes(collector, guard) == {"success": 2}


def test_nothing_keeps_a_function_alive() -> None:
    collector = Collector()
    ask = ramp_up(bounded(1)(answer))
    ask()
    gone = weakref.ref(ask)
    record = weakref.ref(collector.record_of(ask))
    del ask
    assert gone() is None
    gc.collect()
    assert record() is None


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "dropped"])
def test_after_its_end_nobody_listens_any_more(closed: bool) -> None:
    ask = bounded(1)(answer)
    collector = Collector()
    gone = weakref.ref(collector)
    assert ask._listeners
    if closed:
        collector.close()
        collector.close()
    else:
        del collector
        gc.collect()
        assert gone() is None
    assert not ask._listeners
    assert not bounded(1)(answer)._listeners
    assert not events.everywhere


def test_two_collectors_do_not_disturb_one_another() -> None:
    ask = bounded(1)(answer)
    first, second = Collector(), Collector()
    ask()
    first.close()
    ask()
    assert (outcomes(first, ask), outcomes(second, ask)) == ({"success": 1}, {"success": 2})


def test_after_a_fork_all_figures_begin_anew_and_are_heard_on() -> None:
    ask = bounded(1)(answer)
    collector = Collector()
    ask()
    busy = threading.Thread(target=collector._adding.acquire)  # a thread that the child does not have
    busy.start()
    busy.join()
    collector.after_fork()
    ask()
    assert outcomes(collector, ask) == {"success": 1}
    new = bounded(1)(answer)
    new()
    assert outcomes(collector, new) == {"success": 1}


@pytest.mark.real
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_its_own_figures_and_its_own_thread() -> None:
    ask = bounded(1)(answer)
    collector = Collector()
    ask()
    assert collector._sampler._runs
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        ask()
        ask()
        mine = (outcomes(collector, ask), len(sampling()))
        os.write(write_end, repr(mine).encode())
        os._exit(0)
    os.close(write_end)
    try:
        assert select.select([read_end], [], [], 5)[0]
        assert os.read(read_end, 1000).decode() == repr(({"success": 2}, 1))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read_end)
        collector.close()
    assert outcomes(collector, ask) == {"success": 1}


def test_whether_anything_was_answered() -> None:
    def broken() -> str:
        raise KeyError

    with VirtualClock():
        fails, ask = bounded(1)(broken), bounded(1)(answer)
        collector = Collector()
        with pytest.raises(KeyError):
            fails()
        assert not collector.has_answered()
        ask()
        assert collector.has_answered()


def test_in_virtual_time_there_is_no_thread_that_would_never_end() -> None:
    with VirtualClock():
        ask = bounded(1)(answer)
        collector = Collector()
        ask()
        collector.look()
        assert not collector._sampler._runs


def sampling() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "llm_guard status"]


@pytest.mark.real
def test_who_waits_is_seen_while_nobody_looks_and_the_thread_ends_with_its_work() -> None:
    door = threading.Event()
    ask = bounded(1)(lambda: door.wait(10))
    before = sampling()
    collector = Collector(width=0.02, bins=10)
    assert sampling() == before
    callers = [threading.Thread(target=ask) for _ in range(3)]
    for caller in callers:
        caller.start()
    [mine] = _soon(lambda: [each for each in sampling() if each not in before])
    record = collector.record_of(ask)
    assert _soon(lambda: 2 in record._at(clock.current().now()).since(None)["waiting"])  # type: ignore[operator]
    assert mine.is_alive()
    door.set()
    for caller in callers:
        caller.join()
    mine.join(5)  # once there is nothing left to be seen
    assert not mine.is_alive()
    ask()
    [again] = [each for each in sampling() if each not in before]
    collector.close()
    again.join(5)
    assert not again.is_alive()


def _soon(condition: Any) -> Any:
    """What `condition` returns once that is true; within five seconds."""
    time, found = clock.current(), condition()
    until = time.now() + 5
    while not found and time.now() < until:
        time.waiter().wait(0.005)
        found = condition()
    assert found
    return found


def test_the_registry_forgets_a_collector_that_is_gone() -> None:
    collector = Collector()
    watching = len(registry._watching)
    collector.close()
    assert len(registry._watching) == watching - 1
