"""What a connection below heard from the server counts where the function returns no more than a text."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Generator
from typing import Any

import pytest
import requests
from scripted import Task

from llm_guard import bounded, call, map_with_backpressure, ramp_up, retry, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.errors import Cancelled
from llm_guard.outcome import Kind, Outcome
from llm_guard.policies.breaker import breaker
from llm_guard.runtime import reading
from llm_guard.state.limiter import LimitGate


def answer(status: int = 200, **headers: str) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response._content = b"{}"
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return response


class Unknown(str):
    """What is not known at a glance to tell nothing of the server, so that it is read."""


LEFT = answer(x_ratelimit_remaining_requests="3", x_ratelimit_reset_requests="20s")


@pytest.mark.parametrize("value", ["a text", {"a": "dict"}, object()], ids=["text", "dict", "object"])
def test_the_account_s_limits_are_read_from_it(value: Any) -> None:
    assert reading.of_value(value, None, LEFT) == Outcome(Kind.SUCCESS, remaining=3.0, reset=20.0)


def test_what_the_function_says_itself_comes_first() -> None:
    own = answer(503)
    assert reading.of_value(own, None, LEFT).kind is Kind.OVERLOAD
    assert reading.of_value("a text", lambda end: Kind.FAILURE, LEFT).kind is Kind.FAILURE


@pytest.mark.parametrize("timed", [True, False], ids=["on a worker", "in its own thread"])
def test_it_is_let_go_with_the_call_also_where_it_refers_to_that(timed: bool) -> None:
    gone: list[weakref.ref[Any]] = []

    def ask() -> str:
        in_progress = call.in_progress()
        assert in_progress is not None
        in_progress.heard = heard = answer()
        heard.connection = in_progress  # type: ignore[attr-defined]  # as that of a pool does, by its exchange
        gone.append(weakref.ref(heard))
        return "a text"

    with VirtualClock():
        gc.collect()
        gc.disable()
        try:
            assert retry(timeout(5)(ask) if timed else ask)() == "a text"
            assert gone[0]() is None
        finally:
            gc.enable()


def test_an_error_that_the_function_made_good_is_no_verdict_on_its_answer() -> None:
    assert reading.of_value("a text", None, answer(429)) == Outcome(Kind.SUCCESS)
    assert reading.of_value("a text", None, "not a response") == Outcome(Kind.SUCCESS)


@pytest.mark.parametrize("timed", [True, False], ids=["on a worker", "in its own thread"])
def test_it_comes_from_the_call_in_progress_of_that_very_attempt(timed: bool) -> None:
    heard: list[object] = [LEFT, None]
    read: list[Outcome] = []

    def ask() -> str:
        in_progress = call.in_progress()
        assert in_progress is not None
        in_progress.heard = heard.pop(0)
        return Unknown("a text")

    guarded = retry(timeout(5)(ask) if timed else ask)
    with VirtualClock(), pytest.MonkeyPatch.context() as patch:
        of_value = reading.of_value
        patch.setattr(reading, "of_value", lambda *given, **named: read.append(of_value(*given, **named)) or read[-1])
        assert [guarded(), guarded()] == ["a text", "a text"]
    assert [outcome.remaining for outcome in read] == [3.0, None]


# Streams


class Told(str):
    """As a ready call function returns it."""

    outcome = Outcome(Kind.SUCCESS, remaining=5.0, reset=10.0)


def ends_of(consume: Callable[[Any], object], timed: bool, returned: object = None) -> list[Outcome]:
    """What the gates are told of the end of a stream whose connection heard what is left."""
    def tell() -> Generator[str, None, object]:
        in_progress = call.in_progress()
        assert in_progress is not None
        in_progress.heard = LEFT
        yield "a"
        yield "b"
        return returned

    told: list[Outcome] = []
    with VirtualClock(), pytest.MonkeyPatch.context() as patch:
        end = LimitGate.end
        patch.setattr(LimitGate, "end", lambda self, now, permit, ending: (
            told.append(ending.outcome), end(self, now, permit, ending)))
        consume(bounded(1)(timeout(5)(tell) if timed else tell)())
    return told


TIMED = pytest.mark.parametrize("timed", [True, False], ids=["on a worker", "in its own thread"])


@TIMED
@pytest.mark.parametrize(("returned", "left"), [(None, 3.0), (Told("ab"), 5.0), (answer(503), None)],
                         ids=["nothing", "a text that tells", "a refusal"])
def test_the_end_of_a_stream_tells_of_it_and_of_what_a_generator_returned(timed: bool, returned: object,
                                                                         left: float | None) -> None:
    found, = ends_of(list, timed, returned)
    assert (found.kind, found.remaining) == (Kind.SUCCESS, left)


@TIMED
def test_so_does_a_stream_that_is_closed(timed: bool) -> None:
    found, = ends_of(lambda stream: (next(stream), stream.close()), timed)
    assert (found.kind, found.remaining) == (Kind.SUCCESS, 3.0)


# A call that was given up


class Cut(Cancelled, requests.ConnectionError):
    """As a session raises it."""


def given_up_with(error: Exception) -> tuple[Any, int]:
    """The breaker's statistics, and the number of attempts, of a call that was given up and then raised `error`."""
    votes, attempts = breaker(), 0

    @retry(wait=0, jitter=None)
    @votes
    def ask() -> None:
        nonlocal attempts
        attempts += 1
        time.sleep(5)
        raise error

    with VirtualClock() as time:
        mapping = map_with_backpressure(lambda item: item and ask(), [0, 1])
        next(mapping)
        Task(mapping.close)
        time.sleep(10)
    return votes.statistics(), attempts


@pytest.mark.parametrize("error", [Cut(), requests.ConnectionError(), TimeoutError()], ids=repr)
def test_its_error_says_nothing_of_the_server_and_is_not_tried_again(error: Exception) -> None:
    votes, attempts = given_up_with(error)
    assert (votes.calls, attempts) == (0, 1)


def test_a_request_that_was_cut_is_cancelled_though_it_is_an_error_of_its_library_too() -> None:
    assert reading.of_error(Cut(), None).kind is Kind.IGNORED


def test_a_failure_before_it_was_given_up_does_count() -> None:
    votes = breaker()
    with VirtualClock(), pytest.raises(requests.ConnectionError):
        votes(lambda: (_ for _ in ()).throw(requests.ConnectionError()))()
    assert votes.statistics().calls == 1


def test_a_call_that_ran_into_the_deadline_of_the_one_above_timed_out() -> None:
    votes, pace = breaker(), ramp_up()

    @pace
    @votes
    def inner() -> None:
        time.sleep(6)
        raise requests.ConnectionError

    with VirtualClock() as time:
        with pytest.raises(TimeoutError):
            timeout(5)(lambda: inner())()
        time.sleep(5)
        # Its function, which was left to itself, ended after the deadline: a fact about the server.
    assert votes.statistics().calls == 1


# Tokens

USAGE = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}}


@pytest.mark.parametrize(("value", "heard", "tokens"), [
    (USAGE, None, (7, 12)), ([USAGE], None, (7, 12)), ("a text", None, (None, None)), (None, None, (None, None)),
    ('{"usage": {"completion_tokens": 3}}', None, (None, None))])  # a text that quotes one is no answer's own
def test_the_tokens_of_an_answer_are_read_where_they_are_of_interest(
        value: object, heard: object, tokens: tuple[int | None, int | None]) -> None:
    outcome = reading.of_value(value, None, heard, count=True)
    assert (outcome.output_tokens, outcome.total_tokens) == tokens
    assert reading.of_value(value, None, heard).output_tokens is None


def test_what_classify_says_of_tokens_stands() -> None:
    told = Outcome(Kind.SUCCESS, output_tokens=1, total_tokens=2)
    assert reading.of_value(USAGE, lambda end: told, None, count=True) == told
    assert reading.of_value(USAGE, lambda end: Kind.SUCCESS, None, count=True).total_tokens == 12
    assert reading.of_value(USAGE, lambda end: Kind.FAILURE, None, count=True).total_tokens is None


def test_a_pace_hears_of_tokens() -> None:
    pace = ramp_up(cost=100, cost_ceiling=6000)
    with VirtualClock():
        pace(lambda: USAGE)()
        assert pace.statistics().spent == 12
        assert retry(lambda: USAGE)() == USAGE
