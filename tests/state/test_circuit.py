from __future__ import annotations

import gc
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from circuitbreaker import CircuitBreaker, CircuitBreakerError, CircuitBreakerMonitor
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llm_guard.clock.virtual import VirtualClock
from llm_guard.errors import Cancelled, ConfigError, Rejected
from llm_guard.state.circuit import GROWTH, JITTER, Circuit, CircuitOpen, CircuitPermit

RANDOM = Random(0)


def make(**options: Any) -> Circuit:
    return Circuit(**{"min_calls": 2, "open_for": 10, **options})


def vote(circuit: Circuit, now: float, *goods: bool | None, seconds: float = 0) -> None:
    for good in goods:
        circuit.end(now, circuit.start(now), good, seconds, RANDOM, None if good else ValueError)


def trip(circuit: Circuit, now: float = 0.0) -> float:
    """Opens it by failures; returns the instant at which trials begin."""
    vote(circuit, now, False, False)
    assert circuit.snapshot(now).state == "open"
    return now + circuit.snapshot(now).open_in


def fail() -> int:
    raise ValueError("a prompt")


def failing(circuit: Circuit, error: BaseException | None = None) -> None:
    def function() -> None:
        raise ValueError("a prompt") if error is None else error

    with pytest.raises(BaseException):  # noqa: B017, PT011  # whatever it is, it passes through
        circuit.call(function)


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    with VirtualClock(stall=5) as clock:
        yield clock


# Closed

def test_opens_at_the_failure_rate_of_the_window_and_not_before() -> None:
    circuit = Circuit(failure_rate=0.5, window=4, min_calls=4)
    vote(circuit, 0, True, False, False)
    assert circuit.snapshot(0).state == "closed"
    circuit.reset()
    vote(circuit, 0, True, True, True, True, False)
    assert circuit.snapshot(0).state == "closed"
    vote(circuit, 0, False)
    assert (circuit.snapshot(0).state, circuit.snapshot(0).failure_rate) == ("open", 0.5)


def test_opens_when_successes_are_slow() -> None:
    circuit = make(slow_call=3, slow_rate=0.5)
    vote(circuit, 0, True, True, seconds=3)
    assert circuit.snapshot(0).state == "closed"
    vote(circuit, 0, True, True, seconds=3.1)
    assert circuit.snapshot(0).state == "open"
    assert circuit.snapshot(0).slow_rate == 0.5


def test_failures_age_out_of_a_window_of_seconds() -> None:
    circuit = make(window_seconds=30)
    vote(circuit, 0, False)
    vote(circuit, 31, False)
    assert (circuit.snapshot(31).state, circuit.snapshot(31).calls) == ("closed", 1)
    vote(circuit, 32, False)
    assert circuit.snapshot(32).state == "open"


def test_no_verdict_is_no_vote() -> None:
    circuit = make()
    vote(circuit, 0, False, None, None)
    assert circuit.snapshot(0).calls == 1


# Open

def test_admits_at_once_while_closed_and_refuses_or_tells_when_while_open() -> None:
    circuit = make()
    assert circuit.ready_at(3, patient=False) == circuit.ready_at(3, patient=True) == 3
    trials_at = trip(circuit)
    refused = circuit.ready_at(1, patient=False)
    assert isinstance(refused, CircuitOpen)
    assert refused.retry_after == pytest.approx(trials_at - 1)
    assert circuit.ready_at(1, patient=True) == trials_at
    with pytest.raises(CircuitOpen):
        circuit.start(1)
    assert circuit.ready_at(trials_at, patient=False) == trials_at


def test_late_answers_of_an_earlier_era_do_not_vote() -> None:
    circuit = make()
    early = [circuit.start(0) for _ in range(3)]
    trials_at = trip(circuit)
    circuit.end(1, early[0], True, 1, RANDOM)
    assert circuit.snapshot(1).state == "open"
    circuit.end(trials_at, early[1], True, 99, RANDOM)
    assert circuit.snapshot(trials_at).state == "half_open"
    vote(circuit, trials_at, True)
    circuit.end(trials_at, early[2], False, 99, RANDOM)
    assert (circuit.snapshot(trials_at).state, circuit.snapshot(trials_at).calls) == ("closed", 0)


def test_open_time_is_jittered_grows_with_failed_trials_to_a_bound_and_falls_back_when_closed() -> None:
    circuit = make(open_for=10, max_open=60)
    now, base, seen = 0.0, 10.0, []
    vote(circuit, now, False, False)
    for _ in range(6):
        open_in = circuit.snapshot(now).open_in
        assert JITTER[0] * base <= open_in <= JITTER[1] * base
        seen.append(open_in / base)
        now += open_in
        vote(circuit, now, False)
        base = min(60, base * GROWTH)
    assert base == 60
    assert len({1.0, *seen}) == len(seen) + 1
    now += circuit.snapshot(now).open_in
    vote(circuit, now, True, False, False)
    assert circuit.snapshot(now).open_in <= JITTER[1] * 10


def test_max_open_never_shortens_open_for() -> None:
    circuit = make(open_for=100, max_open=60)
    now = trip(circuit)
    assert now >= JITTER[0] * 100
    vote(circuit, now, False)
    assert circuit.snapshot(now).open_in >= JITTER[0] * 100


def test_open_for_0_is_honoured_with_trials_at_once() -> None:
    circuit = make(open_for=0)
    vote(circuit, 5, False, False)
    assert circuit.snapshot(5).state == "half_open"
    assert circuit.ready_at(5, patient=False) == 5


def test_remembers_while_not_closed_what_opened_it_and_since_when() -> None:
    circuit = make(window_seconds=5)
    assert circuit.open_since == float("inf")
    vote(circuit, 1, True, False)
    assert circuit.open_since == 1
    vote(circuit, 1 + circuit.snapshot(1).open_in, False)
    later = circuit.snapshot(100)
    assert (later.state, later.calls, later.failure_rate) == ("half_open", 2, 0.5)
    assert circuit.open_since == 1
    vote(circuit, 200, True)
    assert circuit.open_since == float("inf")


# Half-open

def test_half_open_lets_exactly_the_trials_in() -> None:
    circuit = make(trials=3)
    now = trip(circuit)
    for _ in range(3):
        assert circuit.start(now).trial
    refused = circuit.ready_at(now, patient=False)
    assert isinstance(refused, CircuitOpen)
    assert refused.retry_after is None
    assert circuit.snapshot(now).trials == 3


def test_closes_when_all_trials_have_succeeded_and_lets_no_more_in_before() -> None:
    circuit = make(trials=2)
    now = trip(circuit)
    one, other = circuit.start(now), circuit.start(now)
    circuit.end(now, one, True, 0, RANDOM)
    assert circuit.snapshot(now).state == "half_open"
    assert isinstance(circuit.ready_at(now, patient=False), CircuitOpen)
    circuit.end(now, other, True, 0, RANDOM)
    assert circuit.snapshot(now).state == "closed"


def test_one_failed_trial_opens_again_and_the_other_votes_no_more() -> None:
    circuit = make(trials=2)
    now = trip(circuit)
    one, other = circuit.start(now), circuit.start(now)
    circuit.end(now, one, False, 0, RANDOM)
    reopened = circuit.snapshot(now)
    assert reopened.state == "open"
    circuit.end(now, other, False, 0, RANDOM)
    assert circuit.snapshot(now) == reopened


def test_trials_that_succeed_too_slowly_open_again() -> None:
    circuit = make(slow_call=3)
    now = trip(circuit)
    vote(circuit, now, True, seconds=4)
    assert circuit.snapshot(now).state == "open"


def test_trial_without_verdict_gives_its_place_back() -> None:
    circuit = make()
    now = trip(circuit)
    vote(circuit, now, None, None)
    assert circuit.snapshot(now).state == "half_open"
    assert circuit.ready_at(now, patient=False) == now


def test_trial_that_does_not_end_gives_its_place_up_and_its_verdict_is_late() -> None:
    circuit = make(trial_timeout=30)
    now = trip(circuit)
    lost = circuit.start(now)
    assert circuit.ready_at(now + 1, patient=True) == now + 30
    assert circuit.ready_at(now + 30, patient=True) == now + 30
    circuit.end(now + 30, lost, False, 30, RANDOM)
    assert circuit.snapshot(now + 30).state == "half_open"
    vote(circuit, now + 30, True)
    assert circuit.snapshot(now + 30).state == "closed"


def test_no_verdict_is_given_back_without_the_lock() -> None:
    # Garbage collection may end a dropped generator in the middle of another call's bookkeeping.
    circuit = make()
    now = trip(circuit)
    trial = circuit.start(now)
    with circuit._lock:
        circuit.end(now, trial, None, 0, RANDOM)
    assert circuit.ready_at(now, patient=False) == now


# By hand, and after a fork

def test_forced_open_opens_and_heals_through_trials_as_any_other() -> None:
    circuit = make(open_for=10)
    inside = circuit.start(0)
    circuit.force_open(0)
    assert (circuit.snapshot(0).state, circuit.snapshot(0).open_in) == ("open", 10)
    circuit.end(1, inside, True, 1, RANDOM)
    assert circuit.snapshot(1).state == "open"
    vote(circuit, 10, True)
    assert circuit.snapshot(10).state == "closed"


def test_forced_closed_closes_and_forgets() -> None:
    circuit = make()
    trip(circuit)
    circuit.force_closed(1)
    snapshot = circuit.snapshot(1)
    assert (snapshot.state, snapshot.calls, circuit.last_failure) == ("closed", 0, None)
    vote(circuit, 1, False)
    assert circuit.snapshot(1).state == "closed"


def test_after_a_fork_it_is_fresh_and_permits_of_before_are_void() -> None:
    circuit = make()
    now = trip(circuit)
    trial = circuit.start(now)
    circuit._lock.acquire()  # as a thread held it that does not exist in the child
    circuit.after_fork()
    assert circuit.snapshot(now).state == "closed"
    circuit.end(now, trial, False, 0, RANDOM)
    assert circuit.snapshot(now).calls == 0


@pytest.mark.real
def test_a_forked_child_finds_it_closed() -> None:
    circuit = make()
    trip(circuit)
    child = os.fork()
    if not child:
        os._exit(0 if circuit.snapshot(1).state == "closed" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert circuit.snapshot(1).state == "open"


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens in whatever order, what it promises holds."""

    def __init__(self) -> None:
        super().__init__()
        self.circuit = make(trials=2, trial_timeout=20, slow_call=5)
        self.now = 0.0
        self.random = Random(0)  # its own, so that a history can be replayed
        self.permits: list[CircuitPermit] = []

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def someone_asks(self) -> None:
        answer = self.circuit.ready_at(self.now, patient=False)
        if isinstance(answer, CircuitOpen):
            again = self.circuit.ready_at(self.now, patient=True)
            assert isinstance(again, float)
            assert self.now < again < self.now + 100
            assert self.circuit.snapshot(self.now).state != "closed"
        else:
            self.permits.append(self.circuit.start(self.now))

    @precondition(lambda self: self.permits)
    @rule(data=st.data(), good=st.sampled_from([True, False, None]), seconds=st.floats(0, 9))
    def one_ends(self, data: st.DataObject, good: bool | None, seconds: float) -> None:
        permit = self.permits.pop(data.draw(st.integers(0, len(self.permits) - 1)))
        before = self.circuit.snapshot(self.now)
        self.circuit.end(self.now, permit, good, seconds, self.random)
        after = self.circuit.snapshot(self.now)
        if not permit.trial and before.state != "closed":
            assert after == before
        if before.state == "half_open" and after.state == "closed":
            assert good

    @invariant()
    def trials_are_bounded(self) -> None:
        snapshot = self.circuit.snapshot(self.now)
        assert snapshot.trials <= 2
        assert snapshot.state == "half_open" or not snapshot.trials
        assert (snapshot.open_in > 0) == (snapshot.state == "open")


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# The error

def test_refusal_tells_all_without_the_circuit_and_pickles(clock: VirtualClock) -> None:
    circuit = make(name="refusal")
    failing(circuit)
    failing(circuit)
    with pytest.raises(CircuitOpen) as caught:
        circuit.call(fail)
    del circuit
    gc.collect()
    error = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(error, Rejected)
    assert isinstance(error, CircuitBreakerError)
    assert (error.policy, error.name, error.failure_rate, error.last_failure) == ("breaker", "refusal", 1, "ValueError")
    assert error.retry_after == error.snapshot.open_in > 0
    assert error.open_until.timestamp() == pytest.approx(clock.wall() + error.retry_after)
    for text in (str(error), repr(error)):
        assert "refusal" in text
        assert "100%" in text
        assert "a prompt" not in text
    assert "a prompt" not in repr(vars(error))


def test_neither_the_circuit_nor_its_refusal_keeps_the_error(clock: VirtualClock) -> None:
    circuit = make()
    failing(circuit)
    assert circuit.last_failure is ValueError


# Options

@pytest.mark.parametrize(("option", "value"), [
    ("failure_rate", 0), ("failure_rate", 1.1), ("window", 0), ("window", 2.5), ("window_seconds", 0),
    ("min_calls", 0), ("slow_call", 0), ("slow_rate", 0), ("slow_rate", 2), ("open_for", -1), ("max_open", "60"),
    ("trials", 0), ("trial_timeout", 0), ("name", ""), ("name", 3),
])
def test_bad_options_are_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        Circuit(**{option: value})  # type: ignore[arg-type]
    assert caught.value.parameter == option


# The face of circuitbreaker

def test_is_a_circuit_breaker_that_guards_with_call_decorator_and_block(clock: VirtualClock) -> None:
    uses: list[Callable[[Circuit], object]] = [
        lambda circuit: circuit.call(fail), lambda circuit: circuit(fail)(), lambda circuit: list(
            circuit.call_generator(lambda: iter([fail()]))), use_block,
    ]
    for use in uses:
        circuit = make(min_calls=1)
        assert isinstance(circuit, CircuitBreaker)
        with pytest.raises(ValueError, match="a prompt"):
            use(circuit)
        assert circuit.opened
        with pytest.raises(CircuitOpen):
            use(circuit)


def use_block(circuit: Circuit) -> None:
    with circuit:
        fail()


def test_properties_say_how_it_stands(clock: VirtualClock) -> None:
    circuit = make(name="properties")
    assert (circuit.state, circuit.closed, circuit.opened, circuit.open_remaining) == ("closed", True, False, 0)
    failing(circuit)
    assert (circuit.failure_count, circuit.state) == (1, "closed")
    failing(circuit)
    assert (circuit.state, circuit.closed, circuit.opened, circuit.failure_count) == ("open", False, True, 2)
    open_in = circuit.snapshot(clock.now()).open_in
    assert open_in <= circuit.open_remaining < open_in + 1
    assert circuit.open_until.timestamp() == pytest.approx(clock.wall() + open_in)
    clock.sleep(open_in)
    assert (circuit.state, circuit.open_remaining) == ("half_open", 0)
    circuit.reset()
    assert (circuit.state, circuit.failure_count, str(circuit)) == ("closed", 0, "properties")


def test_reading_the_state_changes_nothing(clock: VirtualClock) -> None:
    circuit = make(name="read")
    failing(circuit)
    failing(circuit)
    clock.sleep(20)
    for _ in range(3):
        assert circuit.state == "half_open"
        list(CircuitBreakerMonitor.get_open())
        list(CircuitBreakerMonitor.get_closed())
    assert circuit.call(lambda: "in") == "in"


def test_of_twenty_threads_half_open_lets_one_in(clock: VirtualClock) -> None:
    circuit = make()
    failing(circuit)
    failing(circuit)
    clock.sleep(20)
    let_in, refused = [], []

    def ask() -> None:
        let_in.append(1)
        clock.sleep(1)

    def thread() -> None:
        try:
            circuit.call(ask)
        except CircuitOpen:
            refused.append(1)

    for _ in range(20):
        clock.spawn(thread, "caller")
    clock.sleep(2)
    assert (len(let_in), len(refused)) == (1, 19)


def test_slow_success_from_before_does_not_close_an_open_circuit(clock: VirtualClock) -> None:
    circuit = make()
    clock.spawn(lambda: circuit.call(lambda: clock.sleep(5)), "slow")
    clock.sleep(1)
    failing(circuit)
    failing(circuit)
    clock.sleep(5)
    assert circuit.state == "open"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit(), Cancelled("given up"),
                                   Rejected("no room", policy="bounded")])
def test_interrupts_and_refusals_neither_vote_nor_reset_the_count(clock: VirtualClock, error: BaseException) -> None:
    circuit = make()
    failing(circuit)
    failing(circuit, error)
    assert circuit.failure_count == 1
    failing(circuit)
    assert circuit.opened


def test_exceptions_that_a_subclass_does_not_expect_neither_vote_nor_reset_the_count(clock: VirtualClock) -> None:
    class Picky(Circuit):
        EXPECTED_EXCEPTION = ValueError

    circuit = Picky(min_calls=2)
    failing(circuit)
    failing(circuit, KeyError())
    assert circuit.failure_count == 1
    failing(circuit)
    assert circuit.opened


def test_a_mixin_hears_of_a_subclass_and_its_options() -> None:
    class Labelled:
        label = ""

        def __init_subclass__(cls, label: str) -> None:
            cls.label = label

    class Mine(Circuit, Labelled, label="mine"):
        pass

    assert Mine.label == "mine"


def test_a_block_is_refused_while_open(clock: VirtualClock) -> None:
    circuit = make()
    circuit.force_open(clock.now())
    entered = False
    with pytest.raises(CircuitOpen), circuit:
        entered = True
    assert not entered


def test_the_lock_is_not_held_during_the_call(clock: VirtualClock) -> None:
    circuit = make()
    ended: list[float] = []

    def ask() -> None:
        clock.sleep(0.1)
        ended.append(clock.now())

    for _ in range(10):
        clock.spawn(lambda: circuit.call(ask), "caller")
    clock.sleep(1)
    assert ended == [0.1] * 10


def test_each_thread_leaves_with_the_permit_it_entered_with(clock: VirtualClock) -> None:
    circuit = make(slow_call=5, slow_rate=0.5)

    def late() -> None:
        with circuit:
            clock.sleep(6)

    clock.spawn(late, "late")
    clock.sleep(1)
    with circuit, circuit:  # began last, leaves first
        pass
    snapshot = circuit.snapshot(clock.now())
    assert (snapshot.calls, snapshot.slow_rate) == (2, 0)
    clock.sleep(6)
    assert circuit.snapshot(clock.now()).slow_rate == pytest.approx(1 / 3)


def test_a_block_within_a_trial_is_part_of_it(clock: VirtualClock) -> None:
    circuit = make()
    circuit.force_open(clock.now())
    clock.sleep(10)
    with circuit:
        with circuit:
            pass
        assert circuit.state == "half_open"
    assert circuit.state == "closed"


def test_leaving_in_a_thread_that_did_not_enter_casts_no_vote(clock: VirtualClock) -> None:
    circuit = make()
    clock.spawn(circuit.__enter__, "enters")
    clock.sleep(1)
    circuit.__exit__(None, None, None)
    assert circuit.snapshot(clock.now()).calls == 0


def test_a_generator_votes_at_its_end_by_its_own_time(clock: VirtualClock) -> None:
    circuit = make(slow_call=3, min_calls=9)

    @circuit
    def words(pause: float) -> Iterator[int]:
        yield 1
        clock.sleep(pause)
        yield 2

    for _ in words(2):
        assert circuit.snapshot(clock.now()).calls == 0
        clock.sleep(100)
    assert (circuit.snapshot(clock.now()).calls, circuit.snapshot(clock.now()).slow_rate) == (1, 0)
    assert list(words(4)) == [1, 2]
    assert circuit.snapshot(clock.now()).slow_rate == 0.5


def test_a_dropped_generator_is_closed_and_gives_its_trial_back(clock: VirtualClock) -> None:
    circuit = make()
    circuit.force_open(clock.now())
    clock.sleep(10)
    closed = []

    def words() -> Iterator[int]:
        try:
            yield 1
        finally:
            closed.append(True)

    stream = circuit.call_generator(words)
    next(stream)
    assert circuit.snapshot(clock.now()).trials == 1
    del stream
    assert closed
    assert circuit.snapshot(clock.now()).trials == 0
    assert circuit.state == "half_open"


def test_a_generator_that_its_consumer_throws_into_is_closed_without_a_vote(clock: VirtualClock) -> None:
    circuit = make()
    closed = []

    def words() -> Iterator[int]:
        try:
            yield 1
        finally:
            closed.append(True)

    stream = circuit.call_generator(words)
    next(stream)
    with pytest.raises(KeyError) as kept:
        stream.throw(KeyError())
    assert closed, kept
    assert circuit.snapshot(clock.now()).calls == 0


def test_a_decorated_function_keeps_its_name_and_gives_it_to_a_circuit_without_one() -> None:
    circuit = Circuit()

    @circuit
    def ask(prompt: str) -> str:
        """Asks."""
        return prompt.upper()

    assert (ask("a"), ask.__name__, ask.__doc__) == ("A", "ask", "Asks.")
    assert circuit.name.endswith("<locals>.ask")
    assert CircuitBreakerMonitor.get(circuit.name) == circuit


async def coroutine() -> None: ...


async def coroutines() -> Any:
    yield


class Asynchronous:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize("function", [coroutine, coroutines, Asynchronous()])
def test_coroutines_are_refused(function: Any) -> None:
    for use in (Circuit().decorate, Circuit().call_async, Circuit().call_async_generator):
        with pytest.raises(ConfigError) as caught:
            use(function)
        assert caught.value.parameter == "function"


class Client:
    def ask(self) -> None:
        fail()


def test_a_method_does_not_share_a_circuit_unawares(clock: VirtualClock) -> None:
    with pytest.raises(ConfigError, match="one circuit"):
        Circuit().decorate(Client.ask)
    mine, yours = make(min_calls=1), make(min_calls=1)
    ask = mine(Client().ask)
    yours(Client().ask)
    with pytest.raises(ValueError, match="a prompt"):
        ask()
    assert (mine.state, yours.state) == ("open", "closed")


# The Monitor

def test_the_monitor_finds_it_under_a_name_of_its_own(clock: VirtualClock) -> None:
    one, two, three = (make(name="monitored") for _ in range(3))
    assert [each.name for each in (one, two, three)] == ["monitored", "monitored#2", "monitored#3"]
    assert CircuitBreakerMonitor.get("monitored#2") == two != one
    assert two in CircuitBreakerMonitor.get_circuits()
    failing(two)
    failing(two)
    assert two in CircuitBreakerMonitor.get_open()
    assert one in CircuitBreakerMonitor.get_closed()
    CircuitBreakerMonitor.get("monitored#2").reset()
    assert two.closed


def test_a_name_that_another_breaker_has_is_not_taken_from_it() -> None:
    theirs = CircuitBreaker(name="theirs")
    CircuitBreakerMonitor.register(theirs)
    try:
        ours = Circuit(name="theirs")
        assert ours.name == "theirs#2"
        assert CircuitBreakerMonitor.get("theirs") is theirs
    finally:
        del CircuitBreakerMonitor.circuit_breakers["theirs"]


def test_circuits_that_are_thrown_away_leave_the_monitor() -> None:
    known = set(CircuitBreakerMonitor.circuit_breakers)
    for _ in range(100):
        Circuit(name="thrown away").call(int)
    assert set(CircuitBreakerMonitor.circuit_breakers) == known
    assert Circuit(name="thrown away").name == "thrown away"


def test_a_circuit_stays_in_the_monitor_as_long_as_what_it_guards() -> None:
    guarded = Circuit(name="kept")(lambda: 1)
    gc.collect()
    assert CircuitBreakerMonitor.get("kept") is not None
    del guarded
    gc.collect()
    assert CircuitBreakerMonitor.get("kept") is None


@pytest.mark.real
def test_threads_that_make_circuits_of_one_name_get_different_ones() -> None:
    made: list[Circuit] = []
    start = threading.Barrier(8)

    def thread() -> None:
        start.wait()
        made.extend(Circuit(name="raced") for _ in range(20))

    threads = [threading.Thread(target=thread) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    names = sorted(circuit.name for circuit in made)
    assert len(names) == 160
    assert all(one != other for one, other in pairwise(names))


@pytest.mark.real
def test_votes_of_many_threads_are_all_counted() -> None:
    circuit = make(window=8000, min_calls=8000)

    def thread() -> None:
        for i in range(1000):
            circuit.end(0, circuit.start(0), i % 4 > 0, 0, RANDOM)

    threads = [threading.Thread(target=thread) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (circuit.snapshot(0).calls, circuit.snapshot(0).failure_rate) == (8000, 0.25)
