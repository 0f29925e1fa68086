"""A guarded streaming function: the call is over when its first item is there; what it holds is held by the stream."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import pytest
from scripted import Ended, Task, read
from streaming import Streamer

from llm_guard import (
    ConfigError,
    Saturated,
    Stream,
    bounded,
    breaker,
    call,
    disabled,
    fallback,
    map_with_backpressure,
    ramp_up,
    retry,
    stack,
    stream,
    timeout,
)
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind


@pytest.fixture
def time() -> Iterator[VirtualClock]:
    with VirtualClock() as clock:
        yield clock


@bounded(3)
@retry
def letters(text: str, pause: float = 0.0) -> Iterator[str]:
    yield from text


def in_flight(guarded: Any) -> int:
    found: int = guarded.statistics()["bounded"].in_flight
    return found


# The call


def test_it_is_over_when_the_first_item_is_there(time: VirtualClock) -> None:
    server = Streamer([3.0, "a", 4.0, "b"])
    ask = bounded(1)(server.stream)
    answer = ask()
    assert time.now() == 3.0
    assert next(answer) == "a"
    assert time.now() == 3.0
    assert list(answer) == ["b"]
    assert time.now() == 7.0


def test_the_door_is_passed_by_the_call_and_a_refusal_raised_there(time: VirtualClock) -> None:
    ask = bounded(1, max_wait=5)(Streamer().stream)
    first = ask()
    with pytest.raises(Saturated):
        ask()
    assert time.now() == 5.0
    first.close()
    assert "".join(ask()) == "abc"


def test_what_fails_before_the_first_item_is_tried_again(time: VirtualClock) -> None:
    server = Streamer([Kind.FAILURE], [1.0, Kind.LOADING], [OSError()], ["a", "b"])
    ask = retry(wait=2, jitter=None, classify=read)(server.stream)
    assert "".join(ask()) == "ab"
    assert len(server.starts) == 4


def test_when_retries_end_the_last_error_is_raised_by_the_call(time: VirtualClock) -> None:
    error = OSError("the last")
    ask = retry(attempts=3, wait=0, jitter=None)(Streamer([OSError()], [OSError()], [error]).stream)
    with pytest.raises(OSError, match="the last") as raised:
        ask()
    assert raised.value is error
    assert "after 3 attempts" in raised.value.__notes__[0]


def test_what_fails_after_the_first_item_is_raised_as_it_is_and_not_replayed(time: VirtualClock) -> None:
    error = OSError("broke")
    server = Streamer(["a", error])
    answer = retry(wait=0, jitter=None)(server.stream)()
    assert next(answer) == "a"
    with pytest.raises(OSError, match="broke") as raised:
        next(answer)
    assert raised.value is error
    assert not hasattr(error, "__notes__")
    assert len(server.starts) == 1
    assert list(answer) == []  # as a generator is over


def test_a_stream_without_items_is_an_answer(time: VirtualClock) -> None:
    votes = breaker()
    ask = bounded(1)(retry(votes(Streamer(then=[1.0]).stream)))
    answer = ask()
    assert in_flight(ask) == 0
    with pytest.raises(StopIteration) as end:
        next(answer)
    assert end.value.value == "all"
    assert list(answer) == []
    assert (votes.statistics().calls, votes.statistics().failure_rate) == (1, 0.0)


# What it holds


def exhaust(answer: Stream[str]) -> None:
    list(answer)


def close(answer: Stream[str]) -> None:
    next(answer)
    answer.close()
    answer.close()


def close_unread(answer: Stream[str]) -> None:
    answer.close()


def leave_block(answer: Stream[str]) -> None:
    with answer as items:
        assert items is answer
        next(items)


def throw(answer: Stream[str]) -> None:
    with pytest.raises(KeyError):
        answer.throw(KeyError())


def drop(answer: Stream[str]) -> None:
    """Its caller holds it no longer."""


ENDS = [exhaust, close, close_unread, leave_block, throw, drop]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("holds", ["attempt", "call"])
@pytest.mark.parametrize("timed", [False, True], ids=["here", "on a worker"])
def test_permits_are_held_until_it_ends_in_whatever_way(end: Callable[[Any], None], holds: str, timed: bool,
                                                        time: VirtualClock) -> None:
    server = Streamer()
    limit, pace, votes = bounded(1, holds=holds), ramp_up(), breaker()
    ask = limit(pace(retry(votes(server.stream))))
    if timed:
        ask = timeout(60)(ask)
    answers = [ask()]
    time.sleep(100)
    assert (limit.statistics().in_flight, pace.statistics().pace.in_flight, server.running) == (1, 1, 1)
    assert votes.statistics().calls == 0
    end(answers.pop())
    time.sleep(0)  # a worker may have to clean up
    assert (limit.statistics().in_flight, pace.statistics().pace.in_flight, server.running) == (0, 0, 0)
    # Whoever ends it early was well served until then: else one who always does would never be let go faster.
    assert (votes.statistics().calls, votes.statistics().failure_rate) == (1, 0.0)
    assert pace.statistics().pace.state == "ramping"


@pytest.mark.parametrize("timed", [False, True], ids=["here", "on a worker"])
def test_an_error_in_the_midst_is_its_end_and_told_to_all(timed: bool, time: VirtualClock) -> None:
    limit, pace, votes = bounded(1), ramp_up(), breaker()
    ask = limit(pace(retry(votes(Streamer(["a", 2.0, OSError()]).stream))))
    answer = timeout(60)(ask)() if timed else ask()
    with pytest.raises(OSError):  # noqa: PT011 - which one it is is told elsewhere
        list(answer)
    assert limit.statistics().in_flight == pace.statistics().pace.in_flight == 0
    assert votes.statistics().failure_rate == 1.0


def test_a_refusal_in_the_midst_holds_the_pace_back(time: VirtualClock) -> None:
    pace = ramp_up(classify=read)
    ask = pace(retry(Streamer(["a", Kind.LOADING]).stream))
    with pytest.raises(Ended):
        list(ask())
    assert pace.statistics().pace.why == "the model is loading"


@pytest.mark.parametrize("timed", [False, True], ids=["here", "on a worker"])
def test_an_interrupt_in_the_midst_is_no_verdict(timed: bool, time: VirtualClock) -> None:
    limit, votes = bounded(1), breaker()
    ask = limit(votes(Streamer(["a", KeyboardInterrupt()]).stream))
    answer = timeout(60)(ask)() if timed else ask()
    with pytest.raises(KeyboardInterrupt):
        list(answer)
    assert (limit.statistics().in_flight, votes.statistics().calls) == (0, 0)


def test_an_interrupt_before_anything_was_asked_gives_all_back(time: VirtualClock) -> None:
    def interrupts(event: object) -> None:
        raise KeyboardInterrupt

    server = Streamer()
    ask = bounded(1)(server.stream)
    take_off = ask.on_event(interrupts)
    with pytest.raises(KeyboardInterrupt):
        ask()
    take_off()
    assert (in_flight(ask), server.starts) == (0, [])


def test_a_probe_that_is_read_only_in_part_opens_the_gate(time: VirtualClock) -> None:
    pace = ramp_up(classify=read)
    ask = pace(retry(Streamer([Kind.LOADING]).stream))
    for item in ask():
        assert item == "a"
        break
    assert pace.statistics().pace.state == "ramping"


def test_those_who_wait_are_let_in_as_streams_end(time: VirtualClock) -> None:
    server = Streamer(then=["a", 2.0, "b", 3.0])
    ask = bounded(2)(server.stream)
    tasks = [Task(lambda: list(ask())) for _ in range(6)]
    assert [task.wait() for task in tasks] == [["a", "b"]] * 6
    assert server.starts == [0, 0, 5, 5, 10, 10]


def test_the_pace_hears_of_the_first_item_not_of_how_much_was_read(time: VirtualClock) -> None:
    pace = ramp_up()
    ask = pace(Streamer(then=[2.0, "a", 500.0, "b"]).stream)
    for _ in range(3):
        answer = ask()
        time.sleep(50)
        answer.close()
    list(ask())
    assert pace.statistics().pace.latency == pytest.approx(2.0)


def test_a_slow_consumer_makes_no_slow_call(time: VirtualClock) -> None:
    votes = breaker(slow_call=3)
    ask = votes(Streamer(then=[1.0, "a", 1.0, "b"]).stream)
    for _ in ask():
        time.sleep(100)
    assert (votes.statistics().calls, votes.statistics().slow_rate) == (1, 0.0)
    assert list(votes(Streamer([2.0, "a", 2.0]).stream)()) == ["a"]
    assert votes.statistics().slow_rate == 0.5


# What a generator can do


def sums() -> Generator[int, int, str]:
    total = 0
    while total < 10:
        try:
            total += (yield total) or 0
        except KeyError:
            total = -1
    return "enough"


@pytest.mark.parametrize("timed", [False, True], ids=["here", "on a worker"])
def test_values_and_errors_can_be_sent_in(timed: bool, time: VirtualClock) -> None:
    limit = bounded(1)
    ask = limit(sums)
    answer = timeout(60)(ask)() if timed else ask()
    with pytest.raises(TypeError, match="before the first item"):
        answer.send(3)
    assert answer.send(None) == 0  # type: ignore[arg-type]  # as a generator is begun
    assert answer.send(4) == 4
    assert next(answer) == 4
    assert answer.throw(KeyError) == -1
    assert answer.throw(KeyError("why")) == -1
    assert limit.statistics().in_flight == 1
    with pytest.raises(StopIteration) as end:
        answer.send(11)
    assert end.value.value == "enough"
    assert limit.statistics().in_flight == 0
    with pytest.raises(StopIteration):
        answer.send(1)
    with pytest.raises(ZeroDivisionError):
        answer.throw(ZeroDivisionError)
    with pytest.raises(TypeError, match="exception"):
        answer.throw("no error")  # type: ignore[call-overload]


def test_an_error_that_answers_a_thrown_one_is_a_failure(time: VirtualClock) -> None:
    def ask() -> Iterator[int]:
        try:
            yield 1
        except KeyError:
            pass
        raise OSError

    votes = breaker()
    with pytest.raises(OSError):  # noqa: PT011 - there is one
        votes(ask)().throw(KeyError())  # type: ignore[attr-defined]  # it says Iterator
    assert votes.statistics().failure_rate == 1.0


def test_it_can_be_delegated_to(time: VirtualClock) -> None:
    def outer() -> Generator[int, int, None]:
        results.append((yield from bounded(1)(sums)()))

    results: list[str] = []
    generator = outer()
    assert next(generator) == 0
    assert generator.send(3) == 3
    assert generator.throw(KeyError()) == -1
    assert list(iter(lambda: next(generator) if not results else None, -1)) == []
    with pytest.raises(StopIteration):
        generator.send(100)
    assert results == ["enough"]


def test_it_can_be_a_context_managers_generator(time: VirtualClock) -> None:
    limit, seen = bounded(1), []

    @contextmanager
    @limit
    def opened(name: str) -> Iterator[str]:
        try:
            yield name
        except KeyError:
            seen.append("error")
        finally:
            seen.append("closed")

    with opened("it") as it:
        assert (it, limit.statistics().in_flight) == ("it", 1)
    with opened("it"):
        raise KeyError
    assert seen == ["closed", "error", "closed"]
    assert limit.statistics().in_flight == 0


@pytest.mark.parametrize("timed", [False, True], ids=["here", "on a worker"])
def test_what_its_clean_up_raises_is_raised_by_close(timed: bool, time: VirtualClock) -> None:
    @bounded(1)
    def ask() -> Generator[int, None, None]:
        try:
            yield 1
        finally:
            raise KeyError("clean-up")

    answer = timeout(60)(ask)() if timed else ask()
    with pytest.raises(KeyError, match="clean-up"):
        answer.close()
    assert in_flight(ask) == 0


@pytest.mark.parametrize("timed", [False, True], ids=["here", "on a worker"])
def test_two_consumers_at_once_are_told_and_break_nothing(timed: bool, time: VirtualClock) -> None:
    server = Streamer(["a", 5.0, "b"])
    ask = bounded(1)(server.stream)
    answer = timeout(60)(ask)() if timed else ask()
    assert next(answer) == "a"
    reader = Task(lambda: next(answer))
    for use in (lambda: next(answer), answer.close, partial(answer.send, "x"), partial(answer.throw, KeyError())):
        with pytest.raises(ValueError, match="being read already"):
            use()
    assert reader.wait() == "b"
    assert in_flight(ask) == 1
    assert list(answer) == []


def test_a_generator_that_reads_itself_is_told(time: VirtualClock) -> None:
    @bounded(1)
    def ask() -> Iterator[int]:
        yield 1
        yield next(answers[0])

    answers = [ask()]
    assert next(answers[0]) == 1
    with pytest.raises(ValueError, match="being read already"):
        next(answers[0])
    assert in_flight(ask) == 0


def test_a_stream_tells_what_it_is_and_cannot_be_copied(time: VirtualClock) -> None:
    answer = letters("secret")
    assert isinstance(answer, Stream)
    assert isinstance(answer, Generator)
    assert iter(answer) is answer
    assert repr(answer) == "<stream, open>"
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            copied(answer)
    answer.close()
    assert repr(answer) == "<stream, at its end>"
    assert pickle.loads(pickle.dumps(letters)) is letters


# Which functions stream


class Counting:
    """An iterator that is no generator, and can be closed."""

    def __init__(self, *items: Any) -> None:
        self._items = list(items)
        self.closed = 0

    def __iter__(self) -> Counting:
        return self

    def __next__(self) -> str:
        if not self._items:
            raise StopIteration
        item = self._items.pop(0)
        if isinstance(item, Exception):
            raise item
        return str(item)

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("timed", [False, True], ids=["here", "on a worker"])
def test_a_marked_function_streams_what_it_returns(timed: bool, time: VirtualClock) -> None:
    items = Counting("a", "b", "c")
    limit = bounded(1)
    ask = limit(stream(lambda: items))
    answer = timeout(60)(ask)() if timed else ask()
    assert next(answer) == "a"
    assert limit.statistics().in_flight == 1
    with pytest.raises(TypeError, match="no generator"):
        answer.send("x")
    answer.close()
    assert (limit.statistics().in_flight, items.closed) == (0, 1)


def test_what_is_thrown_into_a_stream_that_is_no_generator_closes_it(time: VirtualClock) -> None:
    items = Counting("a", "b")
    answer = stream(lambda: items)()
    with pytest.raises(KeyError):
        answer.throw(KeyError())
    assert items.closed == 1


def test_an_iterator_that_fails_is_closed(time: VirtualClock) -> None:
    broken, whole = Counting(OSError()), Counting("a", OSError())
    sources = [broken, whole]
    ask = retry(wait=0, jitter=None)(stream(lambda: sources.pop(0)))
    answer = ask()
    assert (next(answer), broken.closed) == ("a", 1)
    with pytest.raises(OSError):  # noqa: PT011 - there is one
        next(answer)
    assert whole.closed == 1


def test_any_iterable_can_be_streamed_and_nothing_else(time: VirtualClock) -> None:
    assert list(retry(stream(lambda: ["a", "b"]))()) == ["a", "b"]
    with pytest.raises(TypeError, match=r"@stream must return an iterable, not int"):
        retry(stream(lambda: 5))()  # type: ignore[arg-type, return-value]


def test_a_marked_function_that_raises_stop_iteration_is_no_end(time: VirtualClock) -> None:
    def ask() -> list[str]:
        raise StopIteration

    with pytest.raises(RuntimeError, match="raised StopIteration"):
        stream(ask)()


def test_a_returned_refusal_is_tried_again_and_the_last_returned_as_it_came(time: VirtualClock) -> None:
    refused = [Counting() for _ in range(3)]
    sources: list[Any] = [*refused[:2], ["a"], refused[2]]
    ask = retry(attempts=3, wait=0, jitter=None, max_refusal_wait=5,
                classify=lambda end: Kind.OVERLOAD if end in refused else None)(stream(lambda: sources.pop(0)))
    assert list(ask()) == ["a"]
    assert [each.closed for each in refused] == [1, 1, 0]
    one = retry(attempts=1, max_refusal_wait=0, classify=lambda end: Kind.OVERLOAD)(stream(lambda: refused[2]))
    assert one() is refused[2]  # type: ignore[comparison-overlap]  # what was refused is no stream
    assert refused[2].closed == 0


def test_without_a_mark_an_iterator_is_left_alone(time: VirtualClock) -> None:
    items = Counting("a")
    ask = bounded(1)(lambda: items)
    assert ask() is items
    assert in_flight(ask) == 0


def test_a_mark_may_be_called_or_repeated_and_stands_right_on_the_function(time: VirtualClock) -> None:
    @stream()
    @stream
    def ask() -> list[str]:
        return ["a"]

    assert list(ask()) == ["a"]
    assert stream(letters) is letters  # a generator function needs none
    assert ask.guards == ()
    for guarded in (retry(lambda: [1]), bounded(1)(stack(retry())(lambda: [1]))):
        with pytest.raises(ConfigError, match="put @stream beneath") as error:
            stream(guarded)
        assert error.value.parameter == "function"


class Client:
    limit = bounded(1)

    def __init__(self, name: str) -> None:
        self.name = name

    @limit
    @retry
    def ask(self, prompt: str) -> Iterator[str]:
        yield self.name
        yield prompt

    @retry
    @stream
    def items(self) -> list[str]:
        return [self.name]

    @classmethod
    @retry
    def of_class(cls) -> Iterator[str]:
        yield cls.__name__


class Callable_:
    def __call__(self, prompt: str) -> Iterator[str]:
        yield prompt


def test_methods_partials_and_callables_stream_too(time: VirtualClock) -> None:
    client: Any = Client("me")
    assert list(client.ask("hello")) == ["me", "hello"]
    answer = client.ask("hello")
    assert Client.limit.statistics().in_flight == 1
    answer.close()
    assert list(Client.ask(client, "hello")) == ["me", "hello"]
    assert list(client.items()) == ["me"]
    assert list(client.of_class()) == ["Client"]
    for function in (partial(letters, "ab"), partial(letters.__wrapped__, "ab"), partial(Callable_(), "ab"),
                     partial(client.ask, "ab")):
        assert isinstance(retry(function)(), Stream)
    assert list(retry(Callable_())("ab")) == ["ab"]


def test_a_single_call_through_a_stack_streams(time: VirtualClock) -> None:
    limit = bounded(1)
    guard = stack(limit, retry())
    for function in (letters.__wrapped__, letters, stream(sorted)):
        answer = guard.call(function, "ab")
        assert limit.statistics().in_flight == 1
        assert list(answer) == ["a", "b"]
        assert limit.statistics().in_flight == 0
    assert guard.call(len, "ab") == 2


def test_one_stack_guards_functions_of_both_kinds(time: VirtualClock) -> None:
    limit = bounded(1)
    guard = stack(limit)
    plain, streams = guard(lambda: "answer"), guard(letters.__wrapped__)
    answer = streams("ab")
    waits = Task(plain)
    time.sleep(5)
    assert list(answer) == ["a", "b"]
    assert (waits.wait(), waits.ended_at) == ("answer", 5.0)


def test_other_settings_hold_for_one_stream(time: VirtualClock) -> None:
    ask = retry(wait=0, jitter=None)(Streamer(then=[OSError()]).stream)
    with pytest.raises(OSError) as error:  # noqa: PT011 - there is one
        ask.with_options(attempts=2)()
    assert "after 2 attempts" in error.value.__notes__[0]


def test_each_key_has_its_places(time: VirtualClock) -> None:
    @bounded(1, per_key="model", max_wait=0)
    def ask(prompt: str, model: str = "small") -> Iterator[str]:
        yield prompt

    small = ask("a")
    large = ask("a", model="large")
    with pytest.raises(Saturated):
        ask("b")
    assert list(small) == list(large) == ["a"]


# With others


def test_recursion_passes_through_what_the_stream_holds(time: VirtualClock) -> None:
    @bounded(1, max_wait=0)
    @retry
    def walk(depth: int) -> Iterator[int]:
        if depth:
            yield depth
            yield from walk(depth - 1)

    assert list(walk(4)) == [4, 3, 2, 1]
    assert in_flight(walk) == 0


def test_a_guarded_function_below_knows_what_the_stream_and_its_reader_hold(time: VirtualClock) -> None:
    limit, other = bounded(1, max_wait=0), bounded(1, max_wait=0)
    below = limit(other(lambda: "below"))

    @limit
    def ask() -> Generator[str, None, None]:
        while True:
            yield below()

    answer = ask()
    assert next(answer) == "below"
    assert other(lambda: next(answer))() == "below"  # its reader holds the other
    with pytest.raises(Saturated):
        below()  # but not here
    answer.close()
    assert below() == "below"


def test_a_stream_that_outlives_the_call_it_was_made_in_holds_its_own_alone(time: VirtualClock) -> None:
    limit = bounded(1, max_wait=0)
    inner = stream(lambda: (limit(lambda: "in")() for _ in range(9)))
    answer = limit(lambda: inner())()
    taken = limit(stream(sorted))("ab")
    next(answer)
    with pytest.raises(Saturated):
        next(answer)  # its maker held the place when it was made, and no longer
    taken.close()


def test_a_call_that_would_wait_for_a_stream_of_its_own_is_refused(time: VirtualClock) -> None:
    limit = bounded(1)
    ask = limit(letters.__wrapped__)

    @bounded(1)
    def outer() -> str:
        first = ask("ab")
        return next(first) + next(ask("cd"))

    with pytest.raises(Saturated, match="never have room"):
        outer()
    assert limit.statistics().in_flight == 0


@pytest.mark.parametrize("instead", [letters, lambda text: ["a", "b"], ["a", "b"], stream(sorted)],
                         ids=["guarded", "function", "items", "marked"])
def test_a_fallback_answers_before_the_first_item_with_a_stream(instead: Any, time: VirtualClock) -> None:
    server = Streamer([OSError()], ["x", OSError()])
    ask = fallback(instead)(retry(attempts=1)(server.stream))
    with closing(ask("ab")) as answer:
        assert isinstance(answer, Stream)
        assert list(answer) == ["a", "b"]
    answer = ask("ab")
    assert next(answer) == "x"
    with pytest.raises(OSError):  # noqa: PT011 - a part of the answer has been read
        next(answer)


@pytest.mark.parametrize("instead", [5, "sorry", b"sorry", None])
def test_a_fallback_without_items_is_refused_for_a_stream(instead: Any) -> None:
    with pytest.raises(ConfigError) as error:
        fallback(instead)(letters)
    assert error.value.parameter == "instead"
    assert fallback(instead)(lambda: 1)() == 1


def test_bounds_on_items_are_for_streams_alone() -> None:
    for policy in (timeout(20, first_item=5), timeout(idle=5), stack(retry(), timeout(first_item=5))):
        with pytest.raises(ConfigError, match="marked with @stream") as error:
            policy(lambda: 1)
        assert error.value.parameter in ("first_item", "idle")
        assert list(policy(letters.__wrapped__)("ab")) == ["a", "b"]
    with pytest.raises(ConfigError, match="marked with @stream"):
        stack(timeout(first_item=5)).call(len, "ab")


def test_switched_off_it_is_a_stream_all_the_same(time: VirtualClock) -> None:
    with disabled():
        with letters("ab") as answer, stream(sorted)("cd") as other:  # type: ignore[attr-defined]  # it says Iterator
            assert in_flight(letters) == 0
            assert (next(answer), next(other)) == ("a", "c")
        assert list(answer) == []
        assert list(letters.with_options(timeout=5)("ab")) == ["a", "b"]
        for each in (letters, letters.__wrapped__):
            assert isinstance(called := stack(bounded(1)).call(each, "ab"), Stream)
            assert list(called) == ["a", "b"]
        dropped = letters("ab")
        del dropped
    within = letters("ab")
    with disabled():
        assert in_flight(letters) == 1
        assert list(within) == ["a", "b"]
    assert in_flight(letters) == 0


def test_a_mapping_takes_no_streams_that_are_left_open(time: VirtualClock) -> None:
    with pytest.raises(ConfigError, match="reads its stream to the end") as error:
        map_with_backpressure(letters, ["ab"])
    assert error.value.parameter == "function"
    errors = list(map_with_backpressure(lambda text: letters(text), ["ab"] * 9, on_error="return"))
    assert all(isinstance(each, ConfigError) for each in errors)
    assert in_flight(letters) == 0
    assert list(map_with_backpressure(lambda text: list(letters(text)), ["ab"] * 9)) == [["a", "b"]] * 9


# The call in progress


def test_it_is_the_call_in_progress_in_its_frame_and_nowhere_else(time: VirtualClock) -> None:
    seen: dict[str, set[object]] = {"a": set(), "b": set()}

    @bounded(2)
    def ask(name: str) -> Iterator[str]:
        for _ in range(3):
            seen[name].add(call.in_progress())
            yield name
        try:
            yield name
        finally:
            seen[name].add(call.in_progress())

    streams = [ask("a"), ask("b")]
    for _ in range(4):
        for each in streams:
            assert call.in_progress() is None
            next(each)
    assert call.in_progress() is None
    streams[0].close()  # type: ignore[attr-defined]  # it says Iterator
    del streams, each
    assert [len(calls) for calls in seen.values()] == [1, 1]
    assert None not in seen["a"] | seen["b"]
    assert not seen["a"] & seen["b"]
    assert not any(each.active for calls in seen.values() for each in calls)  # type: ignore[attr-defined]


def test_nothing_is_left_for_the_collector(time: VirtualClock) -> None:
    ask = bounded(1)(retry(wait=0, jitter=None)(Streamer([OSError], then=["a", "b"]).stream))
    timed = bounded(1)(timeout(60)(retry(wait=0, jitter=None)(Streamer([OSError], then=["a", "b"]).stream)))
    broken = retry(Streamer(then=["a", OSError]).stream)

    def use() -> None:
        for each in (ask, timed):
            list(each())
            each().close()
            next(each())
            try:
                each().throw(KeyError())
            except KeyError:
                pass
        try:
            list(broken())
        except OSError:
            pass
        time.sleep(0)

    use()
    gc.collect()
    gc.disable()
    try:
        use()
        assert gc.collect() == 0
    finally:
        gc.enable()
