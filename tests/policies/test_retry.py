"""`@retry`: failures are counted and spaced, bugs and final ends raised at once."""

from __future__ import annotations

import gc
import math
import weakref
from functools import partial
from typing import Any

import backoff
import pytest
from scripted import Ended, Highest, Server, read, waits_between

from llm_guard import bounded, breaker, ramp_up, retry, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.errors import Rejected
from llm_guard.outcome import Kind, Outcome


class Broken(Exception):
    """A failure that nobody classifies."""


def test_failures_are_tried_again_until_one_succeeds() -> None:
    server = Server(Kind.FAILURE, Kind.TIMEOUT, Broken(), ValueError(), OSError())
    ask = retry(classify=read)(lambda: server())
    with VirtualClock():
        assert ask() == "answer"
    assert len(server.starts) == 6


def test_the_last_error_is_raised_as_it_was_with_a_note() -> None:
    errors = [Broken(f"error {number}") for number in range(3)]
    ask = retry(attempts=3)(Server(*errors))
    with VirtualClock(), pytest.raises(Broken) as raised:
        ask()
    assert raised.value is errors[2]
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    assert raised.value.__notes__ == ["llm_guard: given up after 3 attempts"]
    assert not hasattr(errors[1], "__notes__")


def test_a_single_attempt_has_no_note() -> None:
    with VirtualClock(), pytest.raises(Broken) as raised:
        retry(attempts=1)(Server(Broken()))()
    assert not hasattr(raised.value, "__notes__")


def test_the_waits_double_from_a_tenth_of_a_second_to_eight() -> None:
    server = Server(then=Kind.FAILURE, seconds=0.0)
    with VirtualClock() as time:
        time.random = Highest()
        with pytest.raises(Ended):
            retry(attempts=10, classify=read)(lambda: server())()
    assert waits_between(server.starts, 0) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 8, 8])


def test_the_waits_are_jittered_and_the_same_for_a_seed() -> None:
    def starts(seed: int) -> list[float]:
        server = Server(then=Kind.FAILURE)
        with VirtualClock(seed), pytest.raises(Ended):
            retry(classify=read)(lambda: server())()
        return server.starts

    assert starts(1) == starts(1) != starts(2)
    assert len(starts(1)) == 8


@pytest.mark.parametrize(("wait", "expected"), [
    (2.5, [2.5, 2.5, 2.5]), (lambda: backoff.fibo(max_value=2), [1, 1, 2]), (backoff.fibo, [1, 1, 2])],
    ids=["seconds", "a generator function", "backoff's"])
def test_the_waits_are_the_users(wait: Any, expected: list[float]) -> None:
    server = Server(then=Kind.FAILURE)
    with VirtualClock(), pytest.raises(Ended):
        retry(attempts=4, wait=wait, jitter=None, classify=read)(lambda: server())()
    assert waits_between(server.starts, 1) == pytest.approx(expected)


@pytest.mark.parametrize("error", [TypeError, NameError, AttributeError, AssertionError, NotImplementedError,
                                   ImportError, RecursionError, UnboundLocalError, ModuleNotFoundError],
                         ids=lambda kind: kind.__name__)
def test_a_bug_is_raised_at_once(error: type[Exception]) -> None:
    bug = error()
    server = Server(bug)
    votes = breaker()
    ask = ramp_up(retry(votes(bounded(1)(timeout(9)(lambda: server())))))
    with VirtualClock(), pytest.raises(error) as raised:
        ask()
    assert raised.value is bug
    assert len(server.starts) == 1
    with VirtualClock():
        assert votes.statistics().calls == 0


def test_a_bug_that_classify_calls_a_failure_is_tried_again() -> None:
    server = Server(TypeError())
    ask = retry(classify=lambda end: Kind.FAILURE if isinstance(end, TypeError) else None)(lambda: server())
    with VirtualClock():
        assert ask() == "answer"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), GeneratorExit()], ids=repr)
@pytest.mark.parametrize("first", [(), (Kind.FAILURE,)], ids=["first attempt", "second attempt"])
def test_an_interrupt_ends_the_call_gives_all_back_and_votes_nothing(error: BaseException, first: Any) -> None:
    limit, mutex, pace, votes, calls = bounded(1), bounded(1, holds="call"), ramp_up(), breaker(), breaker()
    server = Server(*first, error)
    ask = calls(mutex(limit(pace(retry(classify=read)(votes(lambda: server()))))))
    with VirtualClock():
        with pytest.raises(type(error)) as raised:
            ask()
        assert raised.value is error
        assert len(server.starts) == len(first) + 1
        assert limit.statistics().in_flight == mutex.statistics().in_flight == pace.statistics().pace.in_flight == 0
        assert votes.statistics().calls == len(first)
        assert calls.statistics().calls == 0  # nobody knows how the call would have ended
        assert ask() == "answer"


@pytest.mark.parametrize(("retry_on", "tried_again"), [
    (Broken, True), ((OSError, Broken), True), (OSError, False), (lambda error: isinstance(error, Broken), True),
    (lambda error: False, False), (Exception, True)])
def test_retry_on_says_which_failures_are_worth_it(retry_on: Any, tried_again: bool) -> None:
    server = Server(Broken())
    ask = retry(retry_on=retry_on)(lambda: server())
    with VirtualClock():
        if tried_again:
            assert ask() == "answer"
        else:
            with pytest.raises(Broken):
                ask()


def test_retry_on_does_not_stop_refusals_from_being_waited_out() -> None:
    ask = retry(retry_on=OSError, classify=read)(Server(Kind.LIMITED, Kind.OVERLOAD))
    with VirtualClock():
        assert ask() == "answer"


def test_a_failed_trial_of_a_breaker_is_tried_again_only_where_it_is_worth_it() -> None:
    server = Server(Broken(), Broken(), then=Broken())
    ask = retry(retry_on=OSError)(breaker(window=1, min_calls=1)(lambda: server()))
    with VirtualClock() as time:
        for count in (1, 2):
            with pytest.raises(Broken):
                ask()
            assert len(server.starts) == count
            time.sleep(60)


def test_a_failures_hint_is_a_floor_for_the_wait() -> None:
    server = Server((Kind.FAILURE, 20.0), seconds=0.0)
    with VirtualClock():
        retry(classify=read)(lambda: server())()
    assert 20 <= server.starts[1] <= 22


def test_a_failure_with_a_hint_beyond_all_patience_is_raised_at_once() -> None:
    server = Server((Kind.FAILURE, 86_400.0))
    with VirtualClock() as time:
        with pytest.raises(Ended):
            retry(classify=read)(lambda: server())()
        assert time.now() == 1.0


def test_a_budget_bounds_retries_as_a_share_of_calls() -> None:
    server = Server(then=Kind.FAILURE, seconds=0.0)
    ask = retry(budget=0.2, classify=read)(lambda: server())
    with VirtualClock():
        for _ in range(1000):
            with pytest.raises(Ended):
                ask()
    assert 1200 <= len(server.starts) <= 1210  # it begins with 10 in hand


def test_a_call_that_is_not_let_in_earns_its_budget_nothing() -> None:
    server, circuit = Server(then=Kind.FAILURE, seconds=0.0), breaker(window=1000, min_calls=1000)
    ask = retry(budget=0.2, max_refusal_wait=0, classify=read)(circuit(lambda: server()))

    def fail(calls: int) -> int:
        """How many attempts they make."""
        before = len(server.starts)
        for _ in range(calls):
            with pytest.raises(Ended):
                ask()
        return len(server.starts) - before

    with VirtualClock():
        fail(100)  # until nothing is left of it
        circuit.open()
        for _ in range(100):
            with pytest.raises(Rejected):
                ask()
        circuit.close()
        assert fail(10) in (12, 13)


def _always(answer: Any, end: object) -> Any:
    return answer


def test_wrong_answers_of_classify_end_the_call_and_keep_no_permit() -> None:
    limit = bounded(1)
    wrong: list[Any] = ["failure", 7, Outcome("failure"), Outcome(Kind.LIMITED, hint=math.nan)]  # type: ignore[arg-type]
    wrong += [Outcome(Kind.SUCCESS, **{name: "5"}) for name in Outcome._fields[3:]]  # type: ignore[arg-type]
    wrong += [Outcome(Kind.SUCCESS, total_tokens=tokens) for tokens in (math.inf, 10**400)]  # type: ignore[arg-type]
    wrong.append(Outcome(Kind.LIMITED, hint="5"))  # type: ignore[arg-type]
    for answer in wrong:
        for end in (Ended(Kind.FAILURE), 1.0):
            server = Server(end)
            ask = limit(retry(ramp_up(classify=partial(_always, answer))(partial(server, "item"))))
            with VirtualClock():
                with pytest.raises(TypeError, match="classify returned"):
                    ask()
                assert limit.statistics().in_flight == 0
            assert len(server.starts) == 1


def test_a_classify_that_raises_ends_the_call_and_keeps_no_permit() -> None:
    def classify(end: object) -> None:
        raise ZeroDivisionError

    limit, pace = bounded(1), ramp_up(classify=classify)
    ask = limit(pace(retry(Server(Broken()))))
    with VirtualClock():
        with pytest.raises(ZeroDivisionError):
            ask()
        assert limit.statistics().in_flight == pace.statistics().pace.in_flight == 0


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("timed", [True, False], ids=["on a worker", "in the caller's thread"])
def test_an_error_lives_no_longer_than_its_catcher_keeps_it(attempts: int, timed: bool) -> None:
    def fails(argument: list[int]) -> None:
        raise Broken

    ask = retry(attempts=attempts)(timeout(5)(fails) if timed else fails)
    with VirtualClock():
        gc.collect()
        gc.disable()
        try:
            ask([1, 2, 3])
        except Broken as error:
            kept = weakref.ref(error)
        finally:
            gc.enable()
        assert kept() is None  # a response that it carries, and the prompt in its frames, go with it
