"""What `@timeout` runs on a worker behaves as if it ran in the caller's thread."""

from __future__ import annotations

import threading
from contextlib import suppress
from contextvars import ContextVar

import pytest
from scripted import Ended, Server, Task

from llm_guard import CallTimeout, Cancelled, bounded, breaker, ramp_up, retry, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind
from llm_guard.state.workers import Job

_variable: ContextVar[str] = ContextVar("variable", default="unset")


def test_context_variables_go_in_and_come_back() -> None:
    @timeout(5)
    def ask(fails: bool) -> str:
        seen = _variable.get()
        _variable.set("below")
        if fails:
            raise Ended(Kind.INVALID)
        return seen

    with VirtualClock():
        for fails in (False, True):
            token = _variable.set("above")
            if fails:
                with pytest.raises(Ended):
                    ask(True)
            else:
                assert ask(False) == "above"
            assert _variable.get() == "below"
            _variable.reset(token)


def test_what_runs_on_after_its_time_changes_no_context_variable() -> None:
    @timeout(5)
    def ask() -> None:
        time.sleep(10)
        _variable.set("late")

    with VirtualClock() as time:
        with pytest.raises(CallTimeout):
            ask()
        time.sleep(10)
        assert _variable.get() == "unset"


def test_errors_come_through_as_they_were() -> None:
    error = Ended(Kind.INVALID)
    ask = timeout(5)(Server(error))
    with VirtualClock(), pytest.raises(Ended) as raised:
        ask()
    assert raised.value is error
    names = [entry.name for entry in raised.traceback]
    assert names[-1] == "__call__"  # it shows where the function raised


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_exits_come_through_and_give_all_back(error: BaseException) -> None:
    limit, pace, votes = bounded(1), ramp_up(), breaker()
    server = Server(error)
    ask = limit(pace(retry(timeout(5)(votes(lambda: server())))))
    with VirtualClock():
        with pytest.raises(type(error)) as raised:
            ask()
        assert raised.value is error
        assert len(server.starts) == 1
        assert limit.statistics().in_flight == pace.statistics().pace.in_flight == votes.statistics().calls == 0
        assert ask() == "answer"


def test_an_interrupt_while_waiting_for_the_worker_leaves_the_place_with_the_function(
        monkeypatch: pytest.MonkeyPatch) -> None:
    limit, bound, pace, other = bounded(1), timeout(60), ramp_up(), bounded(1)
    server = Server(20.0)

    @limit
    @pace
    @bound
    def ask() -> None:
        with suppress(Cancelled):
            other(lambda: None)()
        server()

    with VirtualClock() as time:
        Task(other(lambda: time.sleep(1000)))

        def interrupted(self: Job, timeout: float) -> bool:
            time.sleep(3)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Job, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                ask()
        assert (limit.statistics().in_flight, bound.statistics().still_running) == (1, 1)
        assert pace.statistics().pace.in_flight == 0
        time.sleep(1)
        assert other.statistics().waiting == 0  # what it waited for is given up
        assert server.running == 1
        time.sleep(30)
        assert (limit.statistics().in_flight, bound.statistics().still_running) == (0, 0)


def test_workers_are_used_again_and_go_when_idle() -> None:
    idents: set[int] = set()

    @timeout(5)
    def ask() -> None:
        idents.add(threading.get_ident())

    with VirtualClock() as time:
        for _ in range(20):
            ask()
        assert len(idents) == 1
        assert threading.get_ident() not in idents
        before = threading.active_count()
        time.sleep(100)
        assert threading.active_count() < before
