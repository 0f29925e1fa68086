"""How a mapping ends before its input does: nothing further begins, what waits is given up, what is in flight ends."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time as real_time
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

import pytest

from llm_guard import (
    CallTimeout,
    Cancelled,
    bounded,
    call,
    clock,
    map_with_backpressure,
    retry,
    timeout,
)
from llm_guard.clock.virtual import VirtualClock

R = TypeVar("R")


def after(seconds: float, value: R) -> R:
    """`value`, so much later."""
    clock.current().sleep(seconds)
    return value


class Calls:
    """A function that takes `seconds`, or those of its item, and knows what started and ended when."""

    def __init__(self, seconds: float = 1.0, **of_item: float) -> None:
        self._seconds = seconds
        self._of_item = of_item
        self.started: list[Any] = []
        self.ended: list[float] = []

    def __call__(self, item: R) -> R:
        self.started.append(item)
        try:
            clock.current().sleep(self._of_item.get(f"item{item}", self._seconds))
        finally:
            self.ended.append(clock.current().now())
        if isinstance(item, BaseException):
            raise item
        return item

    @property
    def running(self) -> int:
        return len(self.started) - len(self.ended)


def assert_over(mapping: Iterator[object], calls: Calls) -> None:
    """Nothing runs, nothing begins later, and the iterator is at its end."""
    assert calls.running == 0
    started = len(calls.started)
    clock.current().sleep(1000)
    assert len(calls.started) == started
    assert list(mapping) == []


seeds = pytest.mark.parametrize("seed", range(4))
both_orders = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "as they end"])


# Closed


@seeds
@both_orders
def test_closing_begins_nothing_further_and_waits_for_what_is_in_flight(seed: int, ordered: bool) -> None:
    calls = Calls(10)
    with VirtualClock(seed, shuffle=True) as time:
        mapping = map_with_backpressure(calls, itertools.count(), workers=3, ordered=ordered)
        next(mapping)
        time.sleep(5)
        mapping.close()
        assert time.now() == 20.0
        assert sorted(calls.started) == list(range(6))
        mapping.close()
        assert_over(mapping, calls)


def test_a_mapping_that_never_began_can_be_closed() -> None:
    with VirtualClock():
        mapping = map_with_backpressure(str, [1])
        mapping.close()
        assert list(mapping) == []


def test_leaving_its_with_block_closes_it() -> None:
    calls = Calls(10)
    with VirtualClock() as time:
        with map_with_backpressure(calls, itertools.count(), workers=2) as mapping:
            for item in mapping:
                if item == 3:
                    break
            assert calls.running == 2
        assert time.now() == 30.0
        assert_over(mapping, calls)


def test_closing_a_generator_that_yields_from_it_closes_it() -> None:
    calls = Calls(10, item1=15.0)

    def answers() -> Generator[int, None, None]:
        yield from map_with_backpressure(calls, itertools.count(), workers=2)

    with VirtualClock() as time:
        generator = answers()
        next(generator)
        generator.close()
        assert time.now() == 20.0
        assert calls.running == 0
        assert len(calls.started) == 3


@seeds
def test_calls_that_wait_at_the_door_are_given_up(seed: int) -> None:
    limit, calls = bounded(1), Calls(10)
    ends: list[BaseException] = []

    def function(item: int) -> None:
        try:
            limit(calls)(item)
        except Cancelled as error:
            ends.append(error)
            raise

    with VirtualClock(seed, shuffle=True) as time:
        mapping = map_with_backpressure(function, itertools.count(), workers=5)
        next(mapping)
        time.sleep(1)
        mapping.close()
        assert time.now() == 20.0  # one was in flight
        assert len(ends) == 4
        assert limit.statistics().in_flight == limit.statistics().waiting == 0
        assert_over(mapping, calls)


def test_calls_that_wait_between_attempts_are_given_up() -> None:
    waits = Calls(0)
    ask = retry(attempts=9, wait=500, jitter=None)(lambda item: waits(ConnectionError() if item else item))
    with VirtualClock() as time:
        mapping = map_with_backpressure(ask, range(10), workers=4)
        next(mapping)
        time.sleep(1)
        mapping.close()
        assert time.now() == 1.0
        assert_over(mapping, waits)


@seeds
def test_another_thread_may_close_it_and_its_consumer_sees_its_end(seed: int) -> None:
    calls = Calls(10)
    with VirtualClock(seed, shuffle=True) as time:
        mapping = map_with_backpressure(calls, itertools.count(), workers=2)
        closed: list[float] = []
        both = [time.waiter(), time.waiter()]

        def close(waiter: clock.Waiter) -> None:
            time.sleep(15)
            mapping.close()
            closed.append(time.now())
            waiter.set()

        for waiter in both:
            time.spawn(lambda waiter=waiter: close(waiter), "closer")  # type: ignore[misc]
        taken = list(mapping)
        for waiter in both:
            waiter.wait()
        assert len(taken) == 2
        assert closed == [20.0, 20.0]
        assert_over(mapping, calls)


@seeds
def test_another_thread_may_close_it_while_its_consumer_waits_for_the_input(seed: int) -> None:
    calls, pulled = Calls(1), []

    def items() -> Iterator[int]:
        for item in itertools.count():
            pulled.append(item)
            yield item
            time.sleep(10)

    with VirtualClock(seed, shuffle=True) as time:
        mapping = map_with_backpressure(calls, items(), workers=2)
        time.spawn(lambda: (time.sleep(25), mapping.close()), "closer")  # type: ignore[func-returns-value]
        assert list(mapping) == [0, 1]
        assert pulled == [0, 1, 2, 3]
        assert_over(mapping, calls)
        assert len(calls.started) == 3


# Dropped


@seeds
def test_dropping_it_begins_nothing_further_and_does_not_wait(seed: int) -> None:
    limit, calls = bounded(2), Calls(10)
    with VirtualClock(seed, shuffle=True) as time:
        for _ in map_with_backpressure(limit(calls), itertools.count(), workers=4):
            time.sleep(1)
            assert (len(calls.started), limit.statistics().waiting) == (4, 2)
            break
        assert time.now() == 11.0
        time.sleep(100)
        assert len(calls.started) == 4
        assert calls.running == limit.statistics().in_flight == limit.statistics().waiting == 0


def test_nothing_is_kept_of_one_that_was_dropped_inside_a_guarded_call() -> None:
    kept: list[weakref.ref[object]] = []

    def outer(item: int) -> None:
        above = call.in_progress()
        assert above is not None
        assert above.cut_off is not None
        before = len(above.cut_off._watchers)
        mapping = map_with_backpressure(str, range(9))
        next(mapping)
        kept.append(weakref.ref(mapping._crew))
        del mapping
        assert len(above.cut_off._watchers) == before

    gc.disable()
    try:
        with VirtualClock() as time:
            for _ in map_with_backpressure(outer, range(3), workers=1, buffer=0):
                pass
            time.sleep(1)
            assert [reference() for reference in kept] == [None] * 3
    finally:
        gc.enable()


def test_the_threads_of_one_that_was_dropped_end_though_its_errors_are_kept() -> None:
    """The traceback of an error refers to the frames of its worker."""
    threads: list[threading.Thread] = []

    def function(item: int) -> None:
        threads.append(threading.current_thread())
        raise KeyError(item)

    gc.disable()
    try:
        with VirtualClock():
            kept = [next(map_with_backpressure(function, itertools.count(), workers=2, on_error="return"))]
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive()
        assert isinstance(kept[0], KeyError)
    finally:
        gc.enable()


def test_results_that_were_not_taken_are_not_kept() -> None:
    kept: list[weakref.ref[object]] = []

    class Failure(Exception):
        pass

    def function(item: int) -> None:
        time.sleep(item)
        error = Failure()
        kept.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    gc.disable()
    try:
        with VirtualClock() as time:
            for closed in (True, False):
                mapping = map_with_backpressure(function, range(1, 5), workers=4, on_error="return")
                next(mapping)
                time.sleep(1)  # two have ended, two are in flight
                if closed:
                    mapping.close()
                else:
                    del mapping
                time.sleep(100)
                assert [reference() for reference in kept] == [None] * 4
                kept.clear()
    finally:
        gc.enable()


# An error of an item


@seeds
def test_an_error_comes_at_its_place_and_ends_the_mapping(seed: int) -> None:
    calls = Calls(10, item2=1.0, item4=1.0)
    taken: list[int] = []

    def function(item: int) -> int:
        calls(item)
        if item in (2, 3):
            raise KeyError(item)
        return item

    with VirtualClock(seed, shuffle=True) as time:
        mapping = map_with_backpressure(function, itertools.count(), workers=4)
        with pytest.raises(KeyError) as error:
            taken.extend(mapping)
        assert taken == [0, 1]
        assert error.value.args == (2,)  # though others ended before it, and failed too
        assert_over(mapping, calls)
        assert 10 <= max(calls.ended) <= time.now() - 1000  # what was in flight was waited for


@seeds
def test_without_order_an_error_comes_when_it_happens(seed: int) -> None:
    calls = Calls(10, item1=3.0, item2=1.0)

    def function(item: int) -> int:
        if calls(item) == 1:
            raise KeyError(item)
        return item

    with VirtualClock(seed, shuffle=True) as time:
        mapping = map_with_backpressure(function, itertools.count(), workers=3, buffer=0, ordered=False)
        assert next(mapping) == 2
        with pytest.raises(KeyError):
            next(mapping)
        assert time.now() == 11.0  # item 3 began at second 1
        assert sorted(calls.started) == [0, 1, 2, 3]
        assert_over(mapping, calls)


@pytest.mark.parametrize("results", [True, False])
def test_stop_iteration_from_the_function_does_not_look_like_the_end(results: Any) -> None:
    function = iter("ab").__next__
    with VirtualClock():
        mapping = map_with_backpressure(lambda item: function(), range(9), workers=1, results=results)
        assert [next(mapping), next(mapping)]
        with pytest.raises(RuntimeError, match="StopIteration") as error:
            next(mapping)
        assert isinstance(error.value.__cause__, StopIteration)
        assert list(mapping) == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, type("Own", (BaseException,), {})])
@pytest.mark.parametrize("results", [True, False])
@pytest.mark.parametrize("on_error", ["raise", "return"])
def test_an_interrupt_or_exit_from_the_function_is_raised_whatever_was_asked_for(
        kind: type[BaseException], results: Any, on_error: Any) -> None:
    items: list[Any] = ["first", kind(), *range(20)]
    calls = Calls(2)
    with VirtualClock():
        mapping = map_with_backpressure(calls, items, workers=2, on_error=on_error, results=results)
        next(mapping)
        with pytest.raises(kind) as raised:
            next(mapping)
        assert raised.value is items[1]
        assert_over(mapping, calls)


@pytest.mark.parametrize("results", [True, False])
def test_an_error_that_was_raised_is_freed_when_it_has_been_dealt_with(results: Any) -> None:
    class Failure(Exception):
        pass

    def function(item: int) -> None:
        raise Failure

    gc.disable()
    try:
        with VirtualClock():
            mapping = map_with_backpressure(function, range(9), workers=2, results=results)
            try:
                next(mapping)
            except Failure as error:
                kept = [weakref.ref[object](error), weakref.ref[object](mapping)]
            del mapping
            assert [reference() for reference in kept] == [None, None]
    finally:
        gc.enable()


# The input


@seeds
@both_orders
def test_an_error_of_the_input_comes_after_all_results_before_it(seed: int, ordered: bool) -> None:
    calls = Calls(10)
    taken: list[int] = []

    def items() -> Iterator[int]:
        yield from range(5)
        raise LookupError("the input")

    with VirtualClock(seed, shuffle=True):
        mapping = map_with_backpressure(calls, items(), workers=2, ordered=ordered)
        with pytest.raises(LookupError, match="the input"):
            taken.extend(mapping)
        assert sorted(taken) == list(range(5))
        assert_over(mapping, calls)


def test_an_input_that_cannot_be_iterated_says_so_at_once() -> None:
    class Broken:
        def __iter__(self) -> Iterator[int]:
            raise LookupError("no input")

    with pytest.raises(LookupError, match="no input"):
        map_with_backpressure(str, Broken())


def test_an_interrupt_in_the_input_is_raised_at_once() -> None:
    calls = Calls(10)

    def items() -> Iterator[int]:
        yield from range(5)
        raise KeyboardInterrupt

    with VirtualClock() as time:
        mapping = map_with_backpressure(calls, items(), workers=2, buffer=9)
        with pytest.raises(KeyboardInterrupt):
            next(mapping)
        assert time.now() <= 10.0
        assert_over(mapping, calls)


def test_the_input_belongs_to_the_caller_and_stays_open() -> None:
    closed: list[bool] = []

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(True)

    with VirtualClock():
        mine = items()
        mapping = map_with_backpressure(str, mine, workers=2, buffer=1)
        assert next(mapping) == "0"
        mapping.close()
        assert not closed
        assert next(mine) == 3
        with pytest.raises(ZeroDivisionError):
            list(map_with_backpressure(lambda item: 1 / 0, mine, workers=1, buffer=0))
        assert not closed
        assert next(mine) == 5


# The call around it


@seeds
@pytest.mark.parametrize("guarded", [True, False], ids=["at the door", "unguarded"])
def test_a_mapping_whose_guarded_call_is_given_up_ends(seed: int, guarded: bool) -> None:
    calls, limit = Calls(1), bounded(1)
    ends: list[Cancelled] = []
    inner: Callable[[int], object] = limit(calls) if guarded else calls

    @timeout(5.5)
    def outer() -> None:
        try:
            for _ in map_with_backpressure(inner, itertools.count(), workers=2, on_error="return"):
                pass
        except Cancelled as error:
            ends.append(error)
            raise

    with VirtualClock(seed, shuffle=True) as time:
        with pytest.raises(CallTimeout):
            outer()
        time.sleep(2)
        assert len(ends) == 1
        assert calls.running == limit.statistics().waiting == 0
        assert max(calls.ended) <= 6.0


@seeds
def test_a_consumer_that_waits_for_a_result_learns_that_its_call_was_given_up(seed: int) -> None:
    calls = Calls(100)
    ended: list[float] = []

    @timeout(5)
    def outer() -> None:
        mapping = map_with_backpressure(calls, range(9), workers=2)
        try:
            next(mapping)
        finally:
            ended.append(time.now())

    with VirtualClock(seed, shuffle=True) as time:
        with pytest.raises(CallTimeout):
            outer()
        time.sleep(1000)
        assert ended == [100.0]  # when what was in flight had ended
        assert len(calls.started) == 2


def test_a_mapping_refuses_to_start_in_a_call_that_was_given_up() -> None:
    calls = Calls()
    items = iter(range(9))
    ended: list[Cancelled] = []

    @timeout(5)
    def outer() -> None:
        time.sleep(6)
        try:
            list(map_with_backpressure(calls, items))
        except Cancelled as error:
            ended.append(error)

    with VirtualClock() as time:
        with pytest.raises(CallTimeout):
            outer()
        time.sleep(10)
    assert len(ended) == 1
    assert calls.started == []
    assert next(items) == 0


def test_what_is_queued_does_not_begin_when_the_call_around_it_was_given_up() -> None:
    """Though its consumer is busy elsewhere and has not heard of it."""
    calls = Calls(2)

    @timeout(5)
    def outer() -> None:
        for _ in map_with_backpressure(calls, range(99), workers=2, buffer=50):
            time.sleep(100)

    with VirtualClock() as time:
        with pytest.raises(CallTimeout):
            outer()
        time.sleep(1000)
    assert calls.started == list(range(6))


# Real threads, signals and processes


EARLIER: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _threads_of_earlier_tests() -> None:
    """A mapping that an earlier test dropped may still be winding down."""
    EARLIER.clear()
    EARLIER.update(threading.enumerate())


def map_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()
            if thread.name.startswith("llm_guard map") and thread not in EARLIER]


def assert_no_thread_left() -> None:
    until = real_time.monotonic() + 5
    while map_threads() and real_time.monotonic() < until:
        real_time.sleep(0.001)
    assert map_threads() == []


@pytest.mark.real
@pytest.mark.parametrize("end", ["exhausted", "closed", "an error", "left by with"])
def test_no_thread_is_left(end: str) -> None:
    def function(item: int) -> None:
        if item == 30 and end == "an error":
            raise KeyError(item)
        real_time.sleep(0.001)

    # Endless where it is left: on a busy machine few items are all done before the consumer looks.
    items = range(60) if end in ("exhausted", "an error") else itertools.count()
    mapping = map_with_backpressure(function, items, workers=8)
    if end == "exhausted":
        list(mapping)
    elif end == "an error":
        with pytest.raises(KeyError):
            list(mapping)
    else:
        with mapping:
            next(mapping)
            assert map_threads()
            if end == "closed":
                mapping.close()
                assert map_threads() == []
    assert map_threads() == []


@pytest.mark.real
def test_no_thread_is_left_when_it_is_dropped() -> None:
    limit = bounded(1)
    with limit_held(limit):
        ask = limit(lambda item: item)
        for _ in map_with_backpressure(lambda item: ask(item) if item > 3 else real_time.sleep(0.002 * item),
                                       itertools.count(), workers=8):
            break
        assert_no_thread_left()
        assert limit.statistics().waiting == 0


class limit_held:
    """Holds the only place of a limit until the block ends."""

    def __init__(self, limit: Any) -> None:
        self._limit = limit
        self._held, self._release = threading.Event(), threading.Event()

    def __enter__(self) -> None:
        def hold() -> None:
            self._held.set()
            self._release.wait()

        self._thread = threading.Thread(target=self._limit(hold), daemon=True)
        self._thread.start()
        assert self._held.wait(5)

    def __exit__(self, *exc: object) -> None:
        self._release.set()
        self._thread.join(5)


@pytest.mark.real
def test_many_mappings_closed_at_any_instant_leave_nothing_behind() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(150):
            mapping = map_with_backpressure(abs, itertools.count(), workers=4, buffer=30)
            for _ in range(number % 7):
                next(mapping)
            mapping.close()
    finally:
        sys.setswitchinterval(before)
    assert map_threads() == []


@pytest.mark.real
@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("handed_over", [True, False])
def test_a_worker_that_could_not_be_started_does_not_hold_up_the_end(
        error: BaseException, handed_over: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    spawn = clock.SystemClock.spawn
    begun: list[str] = []

    def failing(self: clock.SystemClock, function: Callable[[], object], name: str) -> None:
        begun.append(name)
        if len(begun) == 3:
            if handed_over:
                spawn(self, function, name)
            raise error
        spawn(self, function, name)

    monkeypatch.setattr(clock.SystemClock, "spawn", failing)
    mapping = map_with_backpressure(lambda item: real_time.sleep(0.01), itertools.count(), workers=8)
    with pytest.raises(type(error)):
        list(itertools.islice(mapping, 500))  # the first answers may be there before the third worker is begun
    assert map_threads() == []
    assert list(mapping) == []


def test_that_a_worker_could_not_start_another_is_told_to_the_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    spawn = VirtualClock.spawn

    def failing(self: VirtualClock, function: Callable[[], object], name: str) -> None:
        if threading.current_thread().name.startswith("llm_guard map"):
            raise RuntimeError("can't start new thread")
        spawn(self, function, name)

    monkeypatch.setattr(VirtualClock, "spawn", failing)
    with VirtualClock() as time:
        mapping = map_with_backpressure(lambda item: time.sleep(1), range(20), workers=8)
        with pytest.raises(RuntimeError, match="new thread"):
            list(mapping)
        assert time.now() <= 1  # once what was in flight has ended


def run(script: str, *, interrupt: bool = False) -> tuple[int, list[str], str]:
    """Runs a script; where told, interrupts it once it has said "ready". A hang is an error."""
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    watchdog = threading.Timer(10, process.kill)
    watchdog.start()
    try:
        said = []
        if interrupt:
            assert process.stdout is not None
            said.append(process.stdout.readline().strip())
            process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    return process.returncode, said + out.split("\n"), err


FULL = """
    import itertools, queue, threading, time
    from llm_guard import bounded, map_with_backpressure, retry

    limit = bounded(1)
    ask = limit(lambda item: item)
    held = threading.Event()
    holder = limit(lambda: (held.set(), time.sleep(1000)))
    threading.Thread(target=holder, daemon=True).start()
    held.wait()

    def say_when(count):
        def say():
            while limit.statistics().waiting < count:
                time.sleep(0.001)
            # Python overlooks a signal that reaches the main thread just before it parks, until the next one comes.
            time.sleep(0.1)
            print("ready", flush=True)
        threading.Thread(target=say, daemon=True).start()
"""


@pytest.mark.real
@pytest.mark.skipif(os.name != "posix", reason="interrupts are sent as signals")
@pytest.mark.parametrize("where", ["for a result", "for the input", "in a with block"])
def test_ctrl_c_ends_a_mapping_whose_calls_wait_at_the_door_for_ever(where: str) -> None:
    body = {
        "for a result": """
            list(map_with_backpressure(limit(retry(lambda item: item)), itertools.count(), workers=8))
        """,
        "for the input": """
            items = itertools.chain(range(8), iter(queue.Queue().get, None))
            list(map_with_backpressure(ask, items, workers=8, ordered=False))
        """,
        "in a with block": """
            with map_with_backpressure(lambda item: ask(item) if item else time.sleep(0.05), itertools.count(),
                                       workers=8) as mapping:
                for result in mapping:
                    time.sleep(1000)
        """,
    }[where]
    script = textwrap.dedent(FULL) + f"""
say_when(8)
try:
{textwrap.indent(textwrap.dedent(body), "    ")}
finally:
    print([thread.name for thread in threading.enumerate() if "map" in thread.name], limit.statistics().waiting)
"""
    code, said, err = run(script, interrupt=True)
    assert code == -signal.SIGINT
    assert said == ["ready", "[] 0", ""]
    given = int(where == "in a with block")
    assert err.strip().endswith(f"KeyboardInterrupt\nllm_guard: interrupted; results given so far: {given}")
    assert err.count("Traceback") == 1


@pytest.mark.real
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "dropped"])
def test_the_interpreter_ends_though_an_endless_mapping_was_abandoned(kept: bool) -> None:
    code, said, err = run(textwrap.dedent(FULL) + f"""
mapping = map_with_backpressure(lambda item: ask(item) if item > 5 else item, itertools.count(), workers=4)
for item in mapping:
    if item == 5:
        break
if not {kept}:
    del mapping
print("done")
""")
    assert (code, said, err) == (0, ["done", ""], "")


@pytest.mark.real
@pytest.mark.parametrize("items", ["range(8)", "itertools.count()"])
def test_a_thread_that_still_iterates_when_the_main_thread_has_ended_is_told(items: str) -> None:
    """A pool takes no further work by then. It must not wait for results that will never come."""
    code, said, err = run(textwrap.dedent(FULL) + f"""
def consume():
    try:
        for item in map_with_backpressure(lambda item: time.sleep(0.05), {items}, workers=2, buffer=6):
            held.set()
    except BaseException as error:
        print(type(error).__name__)

held.clear()
threading.Thread(target=consume).start()
held.wait()
""")
    assert (code, said, err) == (0, ["Cancelled", ""], "")
