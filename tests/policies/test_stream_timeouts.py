"""`timeout(seconds, first_item=, idle=)`: control returns from the call and from `next` in time, whatever hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from scripted import Task, read
from streaming import Streamer

from llm_guard import (
    CallTimeout,
    Cancelled,
    ConfigError,
    Saturated,
    bounded,
    breaker,
    call,
    deadline,
    events,
    ramp_up,
    retry,
    stream,
    timeout,
)
from llm_guard.call import FOREVER, CutOff
from llm_guard.clock.virtual import VirtualClock, VirtualWaiter
from llm_guard.outcome import Kind
from llm_guard.policies.timeout import TimeoutStatistics

_variable: ContextVar[str] = ContextVar("variable", default="unset")


@pytest.fixture
def time() -> Iterator[VirtualClock]:
    with VirtualClock() as clock:
        yield clock


def late(use: Callable[[], object]) -> CallTimeout:
    """The error of a use that comes too late."""
    with pytest.raises(CallTimeout) as raised:
        use()
    return raised.value


# Which bound


def test_a_first_item_that_does_not_come_is_given_up_in_time(time: VirtualClock) -> None:
    error = late(timeout(60, first_item=5)(Streamer([100.0, "a"]).stream))
    assert time.now() == 5.0
    assert (error.bound, error.seconds, error.still_running) == ("first_item", 5.0, True)
    assert "no first item within 5 s" in str(error)


def test_it_is_tried_again_as_any_attempt(time: VirtualClock) -> None:
    server = Streamer([100.0, "a"], [100.0, "a"], [4.0, "b"])
    ask = retry(wait=1, jitter=None)(timeout(60, first_item=5)(server.stream))
    assert list(ask()) == ["b"]
    assert server.starts == [0.0, 6.0, 12.0]


def test_a_further_item_that_does_not_come_is_given_up_in_time_and_nothing_replayed(time: VirtualClock) -> None:
    server, votes = Streamer([9.0, "a", 2.0, "b", 100.0, "c"]), breaker()
    answer = retry(timeout(idle=3)(votes(server.stream)))()
    assert [next(answer), next(answer)] == ["a", "b"]
    error = late(lambda: next(answer))
    assert (time.now(), error.bound, error.seconds) == (14.0, "idle", 3.0)
    assert votes.statistics().failure_rate == 1.0
    assert list(answer) == []
    assert len(server.starts) == 1


def test_the_whole_is_bounded_by_the_time_that_it_is_waited_for(time: VirtualClock) -> None:
    answer = timeout(10)(Streamer(then=[4.0, "a", 4.0, "b", 4.0, "c"]).stream)()
    assert next(answer) == "a"
    time.sleep(1000)  # a slow consumer is not the stream's fault
    assert next(answer) == "b"
    time.sleep(1000)
    error = late(lambda: next(answer))
    assert (time.now(), error.bound, error.seconds) == (2010.0, "total", 10.0)


def test_a_slow_consumer_meets_no_bound_at_all(time: VirtualClock) -> None:
    items = []
    for item in timeout(10, first_item=5, idle=2)(Streamer(then=[1.0, "a", 1.0, "b", 1.0, "c"]).stream)():
        items.append(item)
        time.sleep(100)
    assert items == ["a", "b", "c"]


def test_above_retry_it_bounds_the_whole_way_to_the_first_item(time: VirtualClock) -> None:
    server = Streamer(then=[3.0, Kind.FAILURE])
    ask = timeout(60, first_item=10)(retry(attempts=9, wait=1, jitter=None, classify=read)(server.stream))
    error = late(ask)
    assert (time.now(), error.bound, error.seconds) == (10.0, "first_item", 10.0)
    assert server.starts == [0.0, 4.0, 8.0]
    error = late(lambda: list(timeout(9)(retry(Streamer([4.0, "a", 4.0, "b", 4.0]).stream))()))
    assert (time.now(), error.bound) == (19.0, "total")


def test_above_retry_the_wait_at_the_door_counts_and_below_it_does_not(time: VirtualClock) -> None:
    limit, server = bounded(1), Streamer(then=["a"])
    bound = timeout(60, first_item=5)
    Task(limit(lambda: time.sleep(30)))
    with pytest.raises(Saturated):
        bound(retry(limit(server.stream)))()
    assert time.now() == 5.0
    assert list(retry(bound(limit(server.stream)))()) == ["a"]
    assert server.starts == [30.0]


def test_the_bound_of_one_call_takes_the_place_of_the_whole(time: VirtualClock) -> None:
    ask = timeout(100, idle=5)(Streamer(then=["a", 4.0, "b", 4.0, "c"]).stream)
    assert late(lambda: list(ask.with_options(timeout=6)())).seconds == 6.0
    assert time.now() == 6.0
    assert list(ask()) == ["a", "b", "c"]
    free = retry(Streamer(then=["a", 4.0, "b"]).stream)
    assert late(lambda: list(free.with_options(timeout=3)())).bound == "total"


def test_a_deadline_counts_the_consumers_time_and_ends_a_stream_between_two_items(time: VirtualClock) -> None:
    votes, server = breaker(), Streamer()
    answer = deadline(10)(bounded(1)(votes(server.stream)))()
    assert next(answer) == "a"
    time.sleep(9)
    assert next(answer) == "b"
    time.sleep(1)
    error = late(lambda: next(answer))
    assert (error.bound, error.seconds, error.still_running) == ("deadline", 10.0, False)
    assert (server.running, votes.statistics().calls) == (0, 0)  # the time was not the server's


def test_a_deadline_cuts_an_item_off_where_a_timeout_stands_too(time: VirtualClock) -> None:
    answer = deadline(10)(timeout(60)(Streamer(["a", 100.0, "b"]).stream))()
    next(answer)
    time.sleep(7)
    assert late(lambda: next(answer)).bound == "deadline"
    assert time.now() == 10.0


def test_the_deadline_of_whoever_reads_is_kept(time: VirtualClock) -> None:
    answer = timeout(600)(Streamer(["a", 100.0, "b"]).stream)()
    next(answer)
    late(deadline(5)(lambda: next(answer)))
    assert time.now() == 5.0


# What hangs


def test_what_hangs_keeps_its_place_until_it_ends_and_is_closed_by_its_own_thread(time: VirtualClock) -> None:
    server, limit, pace, bound = Streamer(["a", 20.0, "b"]), bounded(1), ramp_up(), timeout(60, idle=5)
    ask = limit(pace(bound(server.stream)))
    answer = ask()
    next(answer)
    late(lambda: next(answer))
    assert (limit.statistics().in_flight, bound.statistics().still_running) == (1, 1)
    assert pace.statistics().pace.in_flight == 0
    time.sleep(14.9)
    assert (server.running, limit.statistics().in_flight) == (1, 1)
    time.sleep(0.2)
    assert (server.running, limit.statistics().in_flight, bound.statistics().still_running) == (0, 0, 0)


def test_past_max_still_running_new_streams_are_refused(time: VirtualClock) -> None:
    ask = timeout(first_item=1, max_still_running=1)(Streamer([30.0, "a"]).stream)
    late(ask)
    with pytest.raises(Saturated, match="1 calls that ran out of time still run"):
        ask()


def test_at_its_bound_it_is_cut_off(time: VirtualClock) -> None:
    ends: list[float] = []

    def ask() -> Iterator[str]:
        """A connection that is shut down from outside, as a session's is."""
        progress = call.in_progress()
        assert progress is not None
        assert progress.cut_off is not None
        shut = time.waiter()
        progress.cut_off.watch(shut.set)
        try:
            yield "a"
            shut.wait()
            raise OSError
        finally:
            ends.append(time.now())

    bound = timeout(60, idle=5)
    limit = bounded(1)
    answer = limit(bound(ask))()
    next(answer)
    late(lambda: next(answer))
    time.sleep(0)
    assert ends == [5.0]
    assert (limit.statistics().in_flight, bound.statistics().still_running) == (0, 0)


def test_a_guarded_function_below_is_given_up_with_the_stream(time: VirtualClock) -> None:
    other, errors = bounded(1), []

    @timeout(60, first_item=5)
    def ask() -> Iterator[str]:
        try:
            other(lambda: None)()
        except Cancelled as error:
            errors.append(error)
        yield "a"

    Task(other(lambda: time.sleep(100)))
    late(ask)
    time.sleep(0)
    assert (other.statistics().waiting, len(errors)) == (0, 1)


def test_a_stream_of_a_call_that_was_given_up_gives_no_more(time: VirtualClock) -> None:
    server, errors = Streamer(then=["a", 1.0] * 100), []

    @timeout(10)
    def outer() -> None:
        answer = bounded(1)(server.stream)()
        next(answer)
        time.sleep(20)
        with pytest.raises(Cancelled) as error:
            next(answer)
        errors.append(error)

    late(outer)
    time.sleep(30)
    assert (server.running, len(errors)) == (0, 1)


def test_a_stream_is_cut_off_with_the_call_that_it_was_made_in(time: VirtualClock) -> None:
    cut: list[float] = []
    kept: list[CutOff] = []

    @timeout(60)
    def ask() -> Iterator[str]:
        progress = call.in_progress()
        assert progress is not None
        assert progress.cut_off is not None
        progress.cut_off.watch(lambda: cut.append(time.now()))
        yield "a"
        time.sleep(100)

    @timeout(5)
    def outer(begin: bool) -> None:
        progress = call.in_progress()
        assert progress is not None
        assert progress.cut_off is not None
        kept.append(progress.cut_off)
        for _ in range(3):
            ask().close()  # type: ignore[attr-defined]  # it says Iterator
        if begin:
            list(ask())

    late(lambda: outer(True))
    assert cut == [5.0]
    outer(False)
    assert not kept[1]._watchers  # streams that have ended leave nothing behind


def test_an_item_that_is_there_when_the_time_is_up_is_given(time: VirtualClock,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    answer = timeout(60)(Streamer(then=["a", 1.0, "b", "c"]).stream)()
    next(answer)
    wait = VirtualWaiter.wait

    def just_late(self: VirtualWaiter, seconds: float | None = None) -> bool:
        return wait(self, seconds) and seconds is None

    with monkeypatch.context() as patch:
        patch.setattr(VirtualWaiter, "wait", just_late)
        assert next(answer) == "b"
    assert list(answer) == ["c"]


def test_close_waits_for_the_clean_up_but_no_longer_than_for_an_item(time: VirtualClock) -> None:
    def ask(seconds: float) -> Iterator[str]:
        try:
            yield "a"
        finally:
            time.sleep(seconds)

    limit, bound = bounded(2), timeout(60, idle=5)
    guarded: Any = limit(bound(ask))
    guarded(3.0).close()
    assert (time.now(), limit.statistics().in_flight) == (3.0, 0)
    guarded(30.0).close()
    assert (time.now(), limit.statistics().in_flight, bound.statistics().still_running) == (8.0, 1, 1)
    time.sleep(26)
    assert (limit.statistics().in_flight, bound.statistics().still_running) == (0, 0)


def test_close_after_the_deadline_returns_at_once(time: VirtualClock) -> None:
    server = Streamer()
    answer = deadline(5)(timeout(60)(bounded(1)(server.stream)))()
    time.sleep(10)
    answer.close()
    assert time.now() == 10.0
    time.sleep(0)
    assert server.running == 0
    assert list(answer) == []


def test_what_an_interrupt_leaves_behind_keeps_its_place_until_it_ends(time: VirtualClock,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    limit, bound, votes, server = bounded(1), timeout(60), breaker(), Streamer(["a", 20.0, "b"])
    answer = limit(bound(votes(server.stream)))()
    next(answer)
    wait = VirtualWaiter.wait

    def interrupted(self: VirtualWaiter, seconds: float | None = None) -> bool:
        if seconds is None:
            return wait(self, seconds)
        wait(self, 3.0)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(VirtualWaiter, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(answer)
    assert time.now() == 3.0
    assert (limit.statistics().in_flight, bound.statistics().still_running, server.running) == (1, 1, 1)
    time.sleep(30)
    assert (limit.statistics().in_flight, bound.statistics().still_running, server.running) == (0, 0, 0)
    assert votes.statistics().calls == 0


def test_an_interrupt_between_two_items_leaves_no_worker_behind(time: VirtualClock,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    limit, bound, server = bounded(1), timeout(60), Streamer()
    answer = limit(bound(server.stream))()
    wait = VirtualWaiter.wait

    def interrupted(self: VirtualWaiter, seconds: float | None = None) -> bool:
        found = wait(self, seconds)
        if seconds is not None:
            raise KeyboardInterrupt  # the item was there
        return found

    next(answer)
    with monkeypatch.context() as patch:
        patch.setattr(VirtualWaiter, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(answer)
    time.sleep(1)
    assert (limit.statistics().in_flight, bound.statistics().still_running, server.running) == (0, 0, 0)


def test_an_item_at_the_very_instant_comes_or_is_late_and_nothing_is_kept() -> None:
    seen = set()
    for seed in range(16):
        limit, bound = bounded(1), timeout(60, idle=5)
        with VirtualClock(seed, shuffle=True) as time:
            answer = limit(bound(Streamer(["a", 5.0, "b"]).stream))()
            next(answer)
            try:
                seen.add(next(answer))
            except CallTimeout:
                seen.add("late")
            assert time.now() == 5.0
            answer.close()
            time.sleep(1)
            assert (limit.statistics().in_flight, bound.statistics().still_running) == (0, 0)
    assert seen == {"b", "late"}


# The worker


def test_one_worker_makes_all_items_and_cleans_up(time: VirtualClock) -> None:
    threads: list[int] = []

    def ask() -> Iterator[int]:
        try:
            for number in range(3):
                threads.append(threading.get_ident())
                yield number
        finally:
            threads.append(threading.get_ident())

    guarded = timeout(60)(ask)
    busy = [timeout(60)(ask)() for _ in range(3)]
    assert list(guarded()) == [0, 1, 2]
    assert len(set(threads[3:])) == 1
    del threads[:]
    dropped = guarded()
    del dropped
    time.sleep(0)
    guarded().close()  # type: ignore[attr-defined]  # it says Iterator
    assert len(threads) == 4
    assert threads[0] == threads[1]
    assert threads[2] == threads[3]
    assert threading.get_ident() not in threads
    del busy


def test_workers_go_back_to_their_pool(time: VirtualClock) -> None:
    idents: set[int] = set()

    @timeout(60)
    def ask() -> Iterator[int]:
        idents.add(threading.get_ident())
        yield 1
        yield 2

    def throw(answer: Any) -> None:
        with pytest.raises(KeyError):
            answer.throw(KeyError())

    ends: tuple[Callable[[Any], object], ...] = (list, lambda answer: answer.close(), next, throw)
    for end in ends:
        end(ask())
        time.sleep(0)
    assert len(idents) == 1
    before = threading.active_count()
    time.sleep(100)
    assert threading.active_count() < before


def test_context_variables_go_in_and_the_deadline_with_them(time: VirtualClock) -> None:
    seen: list[Any] = []

    @timeout(60, first_item=5)
    def ask() -> Generator[float, None, None]:
        for _ in range(3):
            progress = call.in_progress()
            assert progress is not None
            seen.append((_variable.get(), time.now(), progress.deadline))
            yield time.now()
            time.sleep(1)

    token = _variable.set("above")
    answer = ask()
    _variable.reset(token)
    next(answer)
    next(answer)
    time.sleep(100)
    next(answer)
    assert seen == [("above", 0.0, 60.0), ("above", 1.0, 60.0), ("above", 102.0, 160.0)]
    progress = call.in_progress()
    assert progress is None


def test_without_bounds_the_items_are_made_where_they_are_asked_for(time: VirtualClock) -> None:
    deadlines: list[float] = []

    @retry
    def ask() -> Iterator[int]:
        progress = call.in_progress()
        assert progress is not None
        deadlines.append(progress.deadline)
        yield threading.get_ident()

    assert next(ask()) == threading.get_ident()
    assert next(deadline(5)(ask)()) == threading.get_ident()
    assert deadlines == [FOREVER, 5.0]


def test_a_marked_function_runs_on_the_worker_too(time: VirtualClock) -> None:
    def items() -> list[str]:
        time.sleep(20)
        return ["a"]

    late(timeout(60, first_item=5)(stream(items)))
    assert time.now() == 5.0
    assert list(timeout(60)(stream(items))()) == ["a"]


# What is told


def test_a_stream_is_told_of_in_order(time: VirtualClock) -> None:
    server = Streamer([3.0, Kind.FAILURE], [2.0, "a", 1.0, "b"])
    ask = retry(wait=1, jitter=None, classify=read)(timeout(60)(server.stream))
    seen: list[events.Event] = []
    ask.on_event(seen.append)
    for _ in ask():
        time.sleep(10)
    name = ask.__qualname__
    assert seen == [
        events.AttemptStarted(0.0, name, attempt=1, waited=0.0),
        events.AttemptEnded(3.0, name, attempt=1, kind=Kind.FAILURE, seconds=3.0, hint=None, error="scripted.Ended"),
        events.RetryScheduled(3.0, name, attempt=1, kind=Kind.FAILURE, wait=1.0),
        events.AttemptStarted(4.0, name, attempt=2, waited=0.0),
        events.FirstItem(6.0, name, attempt=2, seconds=2.0),
        events.AttemptEnded(27.0, name, attempt=2, kind=Kind.SUCCESS, seconds=3.0, hint=None),
        events.CallEnded(27.0, name, attempts=2, kind=Kind.SUCCESS, seconds=27.0),
    ]


@pytest.mark.parametrize("timed", [False, True], ids=["here", "on a worker"])
def test_the_end_of_a_dropped_stream_is_told_by_whoever_comes_next(timed: bool, time: VirtualClock) -> None:
    ask = bounded(1)(Streamer(then=[2.0, "a"]).stream)
    ask = timeout(60)(ask) if timed else ask
    seen: list[events.Event] = []
    ask.on_event(seen.append)
    ask()
    time.sleep(1)
    ask.statistics()
    assert [type(event) for event in seen] == [events.AttemptStarted, events.FirstItem, events.AttemptEnded,
                                               events.CallEnded]
    assert seen[2] == events.AttemptEnded(seen[2].at, ask.__qualname__, attempt=1, kind=Kind.SUCCESS, seconds=2.0,
                                           hint=None)


def test_the_pace_hears_a_late_first_item_as_a_latency_and_nothing_of_later_lateness(time: VirtualClock) -> None:
    pace = ramp_up()
    server = Streamer(["a", 1.0], *[[1.0, "a"]] * 3, [1.0, "a", 500.0], [500.0])
    ask = pace(timeout(100, first_item=8, idle=50)(server.stream))
    for _ in range(4):
        list(ask())
    before = pace.statistics().pace.latency
    assert before is not None
    late(lambda: list(ask()))
    assert pace.statistics().pace.latency == pytest.approx(before)
    late(ask)
    assert (pace.statistics().pace.latency or 0.0) > 1.1 * before


# Its settings


def test_settings_can_be_seen_and_changed_while_streams_are_open(time: VirtualClock) -> None:
    bound = timeout(60, first_item=5)
    assert repr(bound) == "timeout(60, first_item=5)"
    assert repr(timeout(idle=5)) == "timeout(None, idle=5)"
    assert bound.statistics() == TimeoutStatistics(60.0, 0, 5.0, None)
    ask = bound(Streamer(then=["a", 8.0, "b"]).stream)
    before = ask()
    bound.idle = 3
    bound.first_item = None
    assert bound.statistics() == TimeoutStatistics(60.0, 0, None, 3.0)
    assert late(lambda: list(ask())).bound == "idle"
    assert list(before) == ["a", "b"]
    with pytest.raises(ConfigError):
        bound.idle = 0


def test_without_a_bound_on_the_whole_there_is_none(time: VirtualClock) -> None:
    assert timeout(first_item=5).seconds is None
    assert timeout().seconds == 20.0
    assert list(timeout(first_item=5)(Streamer(then=["a", 5000.0, "b"]).stream)()) == ["a", "b"]
    assert time.now() == 5000.0


@pytest.mark.parametrize("name", ["first_item", "idle"])
def test_a_bound_on_items_is_at_most_that_on_the_whole(name: str) -> None:
    options: dict[str, Any] = {name: 30}
    with pytest.raises(ConfigError, match="at most the bound on the whole") as error:
        timeout(20, **options)
    assert error.value.parameter == name


def test_no_bound_at_all_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        timeout(None)
    assert error.value.parameter == "seconds"
