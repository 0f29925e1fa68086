"""After a fork: the child starts fresh, and the parent does not notice."""

from __future__ import annotations

import gc
import os
import select
import signal
import threading
import time
import weakref
from collections.abc import Callable

import pytest

from llm_guard import clock, fork
from llm_guard.events import CallEnded, Listeners
from llm_guard.fork import renew_after_fork
from llm_guard.outcome import SUCCESS
from llm_guard.state.bucket import LeakyBucket
from llm_guard.state.gate import Ending, Request
from llm_guard.state.limiter import Limiter, LimitGate
from llm_guard.state.line import Line
from llm_guard.state.workers import workers

pytestmark = [pytest.mark.real, pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")]


def in_child(check: Callable[[], object]) -> str:
    """What `check` returns in a forked child, as text; the error where it raises; "hangs" where it does not end."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = repr(check())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write_end, said.encode())
        os._exit(0)
    os.close(write_end)
    try:
        ready, _, _ = select.select([read_end], [], [], 1.0)
        if not ready:
            os.kill(pid, signal.SIGKILL)
            return "hangs"
        return os.read(read_end, 65536).decode()
    finally:
        os.waitpid(pid, 0)
        os.close(read_end)


class _State:
    def __init__(self) -> None:
        self.renewed = 0

    def after_fork(self) -> None:
        self.renewed += 1


def test_a_state_begins_anew_in_the_child_and_not_in_the_parent() -> None:
    state = _State()
    renew_after_fork(state)
    assert in_child(lambda: state.renewed) == "1"
    assert state.renewed == 0


def test_a_state_is_not_kept_alive_for_the_sake_of_forks() -> None:
    state = _State()
    renew_after_fork(state)
    gone = weakref.ref(state)
    del state
    gc.collect()
    assert gone() is None
    fork._renew_all()


def test_the_child_has_all_places_though_the_parent_holds_them_and_others_wait() -> None:
    limiter = Limiter(1)
    limiter.acquire()
    waiting = threading.Thread(target=limiter.acquire, daemon=True)
    waiting.start()
    _until(lambda: limiter.waiting == 1)
    said = in_child(lambda: (limiter.in_flight, limiter.waiting, limiter.acquire(timeout=0), limiter.in_flight))
    assert said == "(0, 0, True, 1)"
    assert (limiter.in_flight, limiter.waiting) == (1, 1)
    limiter.release()
    waiting.join(1.0)
    limiter.release()
    assert limiter.in_flight == 0


def test_a_lock_that_another_thread_held_is_free_in_the_child() -> None:
    limiter = Limiter(1)
    with limiter._line.locked():
        assert in_child(lambda: limiter.acquire(timeout=0)) == "True"


def test_a_permit_of_before_the_fork_is_void_in_the_child() -> None:
    line, gate = Line(), LimitGate(2)
    old = Request([gate])
    line.enter(old)

    def check() -> tuple[int, ...]:
        new = Request([gate])
        line.enter(new)
        seen = [gate.in_flight]
        line.leave(old, [(gate, old.permits[0])], Ending(SUCCESS, 1.0))
        seen.append(gate.in_flight)
        line.leave(new, [(gate, new.permits[0])], Ending(SUCCESS, 1.0))
        return (*seen, gate.in_flight)

    assert in_child(check) == "(1, 1, 0)"
    line.leave(old, [(gate, old.permits[0])], Ending(SUCCESS, 1.0))
    assert gate.in_flight == 0


def test_the_child_leaves_a_with_block_of_the_parent_quietly() -> None:
    limiter = Limiter(1)

    def check() -> str:
        limiter.__exit__(None, None, None)
        return "left"

    with limiter:
        assert in_child(check) == "'left'"
    assert limiter.in_flight == 0


def test_a_place_of_before_the_fork_does_not_free_one_of_the_childs() -> None:
    limiter = Limiter(1)

    def check() -> tuple[bool, bool]:
        held: list[bool] = []
        other = threading.Thread(target=lambda: held.append(limiter.acquire(timeout=0)))
        other.start()
        other.join()
        limiter.__exit__(None, None, None)  # the block that the parent entered
        return held[0], limiter.acquire(timeout=0)

    with limiter:
        assert in_child(check) == "(True, False)"


def test_the_child_gives_back_its_own_place_and_not_a_void_one() -> None:
    limiter = Limiter(1)
    limiter.acquire()

    def check() -> tuple[bool, bool]:
        first = limiter.acquire(timeout=0)
        limiter.release()
        return first, limiter.acquire(timeout=0)

    assert in_child(check) == "(True, True)"
    limiter.release()
    assert limiter.in_flight == 0


def test_a_bucket_is_fresh_in_the_child() -> None:
    """As the pace is, which holds the same arithmetic."""
    bucket = LeakyBucket(0.01)
    assert bucket.try_acquire()
    assert not bucket.try_acquire()
    assert in_child(lambda: (bucket.try_acquire(), bucket.try_acquire())) == "(True, False)"


def test_the_child_has_workers_of_its_own() -> None:
    def once() -> object:
        job = workers().start(lambda: "done")
        return job.wait(1.0) and job.result()

    assert once() == "done"  # now one is idle here, which the child does not have
    assert in_child(once) == "'done'"
    assert once() == "done"


def test_parent_and_children_draw_different_chance() -> None:
    """Else all processes of a server that forks its workers come back after a refusal at the very same instants."""
    def draw() -> list[float]:
        return [clock.current().random.random() for _ in range(3)]

    drawn = [in_child(draw), in_child(draw), repr(draw())]
    assert len(set(drawn)) == 3


def test_the_child_can_listen_though_the_fork_came_while_listeners_were_told() -> None:
    listeners, said = Listeners(), list[str]()
    listeners.add(lambda event: said.append(in_child(lambda: listeners.add(print) is not None)))
    listeners.tell(CallEnded(0.0, "ask", 1, None, 1.0))
    assert said == ["True"]


def _until(true: Callable[[], bool]) -> None:
    """For real threads: nothing tells when one has come to wait. It sleeps as long as that is not so, 2 s at most."""
    end = time.monotonic() + 2.0
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)
