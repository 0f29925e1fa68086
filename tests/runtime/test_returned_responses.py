"""A refused or broken response that is returned, not raised, is read, tried again, and returned as it came."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from scripted import Task, call_all

from llm_guard import CircuitOpen, Saturated, bounded, breaker, deadline, map_with_backpressure, ramp_up, retry, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind, Outcome


class Response:
    """What some client returns, whatever the status."""

    def __init__(self, status_code: int, retry_after: float | None = None) -> None:
        self.status_code = status_code
        self.retry_after = retry_after
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Hopeless(Response):
    def close(self) -> None:
        raise OSError("the connection is gone")


def read(end: object) -> Outcome | None:
    kinds = {200: Kind.SUCCESS, 400: Kind.INVALID, 429: Kind.LIMITED, 500: Kind.FAILURE, 503: Kind.OVERLOAD}
    return Outcome(kinds[end.status_code], end.retry_after) if isinstance(end, Response) else None


def test_a_returned_503_is_an_overload_that_is_waited_out() -> None:
    responses = [Response(503), Response(429, 2.0), Response(500), Response(200)]
    left = list(responses)
    ask = retry(classify=read)(lambda: left.pop(0))
    with VirtualClock() as time:
        answer = ask()
        assert time.now() > 2
    assert answer is responses[3]
    assert [response.closed for response in responses] == [1, 1, 1, 0]


@pytest.mark.parametrize("timed", [True, False], ids=["timed", "untimed"])
@pytest.mark.parametrize("status", [500, 503, 429])
def test_when_retries_end_it_is_returned_as_it_came_and_those_before_it_closed(status: int, timed: bool) -> None:
    responses: list[Response] = []

    def ask() -> Response:
        responses.append(Response(status))
        return responses[-1]

    guarded = retry(attempts=3, max_refusal_wait=20, classify=read)(timeout(5)(ask) if timed else ask)
    with VirtualClock():
        answer = guarded()
    assert answer is responses[-1]
    assert len(responses) > 2
    assert [response.closed for response in responses] == [1] * (len(responses) - 1) + [0]


def test_without_a_retry_it_is_returned_and_still_heard_of() -> None:
    votes, pace = breaker(classify=read), ramp_up()
    ask = pace(votes(lambda: Response(500)))
    with VirtualClock():
        assert ask().status_code == 500
        assert votes.statistics().failure_rate == 1.0
        for _ in range(8):
            ask()
        assert pace.statistics().pace.state != "ramping"


def test_a_wrong_request_is_returned_at_once() -> None:
    responses = [Response(400)]
    ask = retry(classify=read)(lambda: responses.pop())
    with VirtualClock():
        assert ask().closed == 0


def test_where_the_door_lets_no_further_attempt_in_it_is_returned_open() -> None:
    limit = bounded(1)
    response = Response(503, 5.0)
    ask = deadline(10)(retry(classify=read)(limit(lambda: response)))
    with VirtualClock() as time:
        task = Task(ask)
        time.sleep(1)
        Task(limit(lambda: time.sleep(100)))
        assert task.wait() is response
        assert time.now() == 10.0
        assert response.closed == 0


def test_where_an_error_ends_the_call_the_response_before_it_is_closed() -> None:
    response, error = Response(503), KeyError("bug")
    ends: list[Any] = [response, error]

    def ask() -> Response:
        end = ends.pop(0)
        if isinstance(end, Exception):
            raise end
        assert isinstance(end, Response)
        return end

    with VirtualClock(), pytest.raises(KeyError):
        retry(attempts=1, classify=read)(ask)()
    assert response.closed == 1


def test_a_close_that_fails_loses_neither_the_answer_nor_a_permit() -> None:
    responses = [Hopeless(503), Hopeless(503), Response(200)]
    limit, pace = bounded(1), ramp_up(classify=read)
    ask = retry(limit(pace(lambda: responses.pop(0))))
    with VirtualClock():
        assert ask().status_code == 200
        assert limit.statistics().in_flight == pace.statistics().pace.in_flight == 0


@pytest.mark.parametrize("waits", ["between attempts", "at the door"])
def test_a_call_given_up_while_it_waits_closes_its_response(waits: str) -> None:
    limit = bounded(1)
    responses: list[Response] = []

    @retry(classify=read)
    @limit
    def ask(item: int) -> Response | None:
        if item == 0:
            return None
        responses.append(Response(503, 100.0 if waits == "between attempts" else 1.0))
        return responses[-1]

    with VirtualClock() as time, map_with_backpressure(ask, [0, 1], workers=2) as mapping:
        next(mapping)
        time.sleep(0)
        if waits == "at the door":
            Task(limit(lambda: time.sleep(20)))
        time.sleep(10)
        assert limit.statistics().waiting == (waits == "at the door")
        mapping.close()
    assert [response.closed for response in responses] == [1]


def test_the_responses_of_requests_are_known_without_classify() -> None:
    statuses = [503, 429, 502, 200]

    @ramp_up
    @retry
    def ask(item: int) -> requests.Response:
        response = requests.Response()
        response.status_code = statuses.pop(0) if statuses else 200
        return response

    with VirtualClock():
        assert [result.value.status_code for result in call_all(ask, range(5), threads=1) if result.value] == [200] * 5


def test_a_returned_refusal_votes_bad_where_no_pace_slows_down_for_it() -> None:
    votes = breaker(window=4, min_calls=4, classify=read)
    ask = votes(lambda: Response(503))
    with VirtualClock():
        for _ in range(4):
            ask()
        with pytest.raises(CircuitOpen):
            ask()
    assert not issubclass(CircuitOpen, Saturated)
