"""What responses say of the server, whatever they hold; and what is none of an API's."""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import django.http
import django_site  # noqa: F401 - sets Django up for this process
import flask
import pytest
import requests
import starlette.exceptions
import starlette.responses
import urllib3
import werkzeug.exceptions
from anything import any_headers, assert_sound, json_values
from hypothesis import given, settings
from hypothesis import strategies as st
from look_alikes import look_alike
from requests.exceptions import HTTPError
from signal_cases import PREDICTION, anthropic, openai, reply, tgi

from llm_guard.clock import SystemClock, use
from llm_guard.llm import outcome_of
from llm_guard.llm.signals import outcome_of_body
from llm_guard.outcome import SUCCESS, Kind, Outcome


@pytest.mark.parametrize("body", [
    [{"generated_text": "Good day"}], {"error": None, "status": "completed", "output": []}, b"Good day",
    b"data: {}\n\n", b"", {"choices": []}, b'"error"'])
def test_a_good_status_is_a_success(body: Any) -> None:
    assert outcome_of(reply(200, body)) is SUCCESS


@pytest.mark.parametrize("status", [201, 204, 302, 304])
def test_every_status_below_400_is_a_success(status: int) -> None:
    assert outcome_of(reply(status)) is SUCCESS


def test_an_answer_tells_what_is_left() -> None:
    headers = {"X-RateLimit-Remaining-Requests": "59", "X-RateLimit-Reset-Requests": "1m30s"}
    assert outcome_of(reply(200, b"", headers)) == Outcome(Kind.SUCCESS, remaining=59, reset=90)
    headers |= {"x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "6m0s"}
    assert outcome_of(reply(200, b"", headers)) == Outcome(
        Kind.SUCCESS, remaining=59, reset=90, remaining_tokens=149_984, reset_tokens=360)
    body = [{"generated_text": "Good day"}]
    assert outcome_of(reply(200, body, {"Content-Type": "application/json", "X-RateLimit-Reset": "5"})) is SUCCESS


@pytest.mark.parametrize(("status", "body", "kind"), [
    (429, openai("rate_limit_exceeded"), Kind.LIMITED), (429, openai("insufficient_quota"), Kind.QUOTA),
    (503, {"error": "loading", "estimated_time": 5}, Kind.LOADING), (500, b"", Kind.FAILURE), (422, b"", Kind.INVALID),
    (200, openai("slow_down"), Kind.GROWTH_LIMITED), (200, anthropic("overloaded_error"), Kind.OVERLOAD),
])
def test_so_does_an_error_of_any_kind(status: int, body: Any, kind: Kind) -> None:
    response = reply(status, body, {"anthropic-ratelimit-requests-remaining": "3", "RateLimit": '"api";r=2;t=60'})
    for end in (response, HTTPError("...", response=response)):
        found = outcome_of(end)
        assert found is not None
        assert (found.kind, found.remaining, found.reset) == (kind, 2, 60)


def test_the_tokens_that_are_left_are_told_of_an_error_too() -> None:
    headers = {"anthropic-ratelimit-input-tokens-remaining": "0", "anthropic-ratelimit-input-tokens-reset": "30s"}
    assert outcome_of(reply(429, anthropic("rate_limit_error"), headers)) == Outcome(
        Kind.LIMITED, 30.0, remaining_tokens=0, reset_tokens=30)


def test_an_error_is_no_success_where_the_answer_that_it_carries_tells_what_is_left() -> None:
    cut_off = requests.exceptions.ChunkedEncodingError()
    cut_off.response = reply(200, b"{", {"RateLimit": '"api";r=2;t=60'})
    assert outcome_of(cut_off) == Outcome(Kind.FAILURE)


def test_a_response_without_a_status_says_nothing() -> None:
    assert outcome_of(requests.Response()) is None


def test_retry_after_as_a_date_is_read_by_the_wall_clock() -> None:
    clock = SystemClock()
    clock.wall = lambda: 1_700_000_000.0
    with use(clock):
        found = outcome_of(reply(429, headers={"Retry-After": formatdate(1_700_000_042, usegmt=True)}))
    assert found == Outcome(Kind.LIMITED, 42.0)


@pytest.mark.parametrize(("status", "body", "should", "kind"), [
    (500, b"", "false", Kind.INVALID),
    (429, b"", "false", Kind.INVALID),
    (400, b"", "true", Kind.FAILURE),
    (529, b"", "true", Kind.OVERLOAD),
    (500, b"", "true", Kind.FAILURE),
    (429, openai("insufficient_quota"), "true", Kind.QUOTA),
    (429, openai("insufficient_quota"), "false", Kind.QUOTA),
    (500, b"", "maybe", Kind.FAILURE),
    (200, b"", "false", Kind.SUCCESS),
    (429, openai("slow_down"), "false", Kind.INVALID),
    (413, openai("rate_limit_exceeded", "tokens", "Request too large for gpt-4o"), "true", Kind.FAILURE),
    (200, openai("rate_limit_exceeded"), "false", Kind.INVALID),
])
def test_x_should_retry_outranks_the_status(status: int, body: Any, should: str, kind: Kind) -> None:
    found = outcome_of(reply(status, body, {"x-should-retry": should}))
    assert found is not None
    assert found.kind is kind


class _Wire:
    """A connection whose reading is a fault of the test."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the body was touched: {name}")


@pytest.mark.parametrize("status", [200, 503])
def test_a_body_that_was_not_read_stays_unread(status: int) -> None:
    response: Any = requests.Response()
    response.status_code, response.raw = status, _Wire()
    found = outcome_of(response)
    assert found == (SUCCESS if status == 200 else Outcome(Kind.OVERLOAD))
    assert response._content is False
    assert not response._content_consumed


def test_a_body_whose_stream_was_used_up_elsewhere_is_left_out() -> None:
    response = reply(503)
    response._content = False
    assert outcome_of(response) == Outcome(Kind.OVERLOAD)


def test_a_long_body_is_not_parsed() -> None:
    body = {"error": "Model gpt2 is currently loading", "estimated_time": 20.0, "pad": "x" * 100_000}
    assert outcome_of(reply(503, body)) == Outcome(Kind.OVERLOAD)


@pytest.mark.parametrize("body", [
    b"[" * 8000, b'{"error":' * 800, b"\xff\xfe\x00", b"9" * 8000, b'{"error": {"code": {}, "message": []}}',
    b'{"error": "x", "estimated_time": 1e999}'])
def test_a_body_made_to_break_the_parser_leaves_the_status(body: Any) -> None:
    assert outcome_of(reply(500, body)) == Outcome(Kind.FAILURE)


# Values and responses of others


@pytest.mark.parametrize("value", [
    "Good day", b"Good day", 503, None, True, [], {}, {"error": "boom"}, {"answer": "yes"},
    [{"generated_text": "Good day"}], {"error": "x", "estimated_time": 20.0}, object])
def test_an_ordinary_value_says_nothing(value: Any) -> None:
    assert outcome_of(value) is None


@pytest.mark.parametrize("module", ["flask.wrappers", "django.http.response", "werkzeug.wrappers", "myrequests",
                                    "__main__"])
def test_a_web_framework_s_response_is_not_an_answer_of_an_api(module: str) -> None:
    response = look_alike(module)()
    response.status_code, response.headers, response._content = 503, {"Retry-After": "5"}, b""
    assert outcome_of(response) is None
    error: Any = RuntimeError()
    error.response = response
    assert outcome_of(error) is None


def of_frameworks() -> list[Any]:
    body = json.dumps({"error": "Model is loading", "estimated_time": 5})
    headers = {"Retry-After": "5"}
    return [
        flask.Response(body, 503, headers), werkzeug.Response(body, 503, headers),
        django.http.HttpResponse(body, status=503, headers=headers),
        django.http.JsonResponse({"error": "x"}, status=503),
        starlette.responses.Response(body, 503, headers), starlette.responses.JSONResponse({"error": "x"}, 503),
        werkzeug.exceptions.ServiceUnavailable(), werkzeug.exceptions.TooManyRequests(),
        werkzeug.exceptions.HTTPException(response=flask.Response(body, 503)),
        starlette.exceptions.HTTPException(503, headers=headers), django.http.Http404(),
    ]


@pytest.mark.parametrize("end", of_frameworks(), ids=lambda end: f"{type(end).__module__}.{type(end).__name__}")
def test_what_a_web_framework_returns_or_raises_is_left_to_others(end: Any) -> None:
    assert outcome_of(end) is None
    error: Any = RuntimeError()
    error.response = end
    assert outcome_of(error) is None


def test_a_response_of_httpx_is_read() -> None:
    response = look_alike("httpx._models")()
    response.status_code, response.headers = 429, {"Retry-After": "5"}
    assert outcome_of(response) == Outcome(Kind.LIMITED, 5.0)
    response._content = json.dumps(tgi("Model is overloaded", "overloaded")).encode()
    assert outcome_of(response) == Outcome(Kind.OVERLOAD, 5.0)


def test_an_sdk_s_error_is_read_by_the_response_that_it_carries() -> None:
    response = look_alike("httpx._models")()
    response.status_code, response.headers, response._content = 429, {}, json.dumps(openai("slow_down")).encode()
    error = look_alike("openai", "RateLimitError", Exception)()
    error.response = response
    assert outcome_of(error) == Outcome(Kind.GROWTH_LIMITED)


def test_a_response_of_urllib3_is_read() -> None:
    response = urllib3.HTTPResponse(body=b'{"error": "x", "estimated_time": 7}', status=503)
    assert response.data
    assert outcome_of(response) == Outcome(Kind.LOADING, 7.0)


class _Socket:
    def makefile(self, mode: str) -> Any:
        return io.BytesIO(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nX-RateLimit-Remaining: 0\r\n\r\nbusy")


def test_a_response_of_the_standard_library_is_read_by_its_headers() -> None:
    socket: Any = _Socket()
    response = http.client.HTTPResponse(socket)
    response.begin()
    assert outcome_of(response) == Outcome(Kind.LIMITED, 5.0, remaining=0)
    assert response.read() == b"busy"


def test_a_poll_that_finds_the_model_starting_is_waited_out_but_an_order_is_not_given_twice() -> None:
    def ordered(method: str, **headers: str) -> Any:
        response = reply(201, PREDICTION | {"status": "starting"})
        response.request = requests.Request(method, "https://api.replicate.com/v1/predictions", headers).prepare()
        return response

    assert outcome_of(ordered("GET")) == Outcome(Kind.LOADING)
    assert outcome_of(ordered("POST", Prefer="wait=60")) == Outcome(Kind.LOADING)
    assert outcome_of(ordered("POST")) is SUCCESS


@pytest.mark.parametrize("body", [
    PREDICTION | {"status": "processing"}, PREDICTION | {"status": "succeeded", "output": ["Good", "day"]},
    {"status": "starting"}, {"status": "starting", "output": "Good day", "urls": {}}])
def test_no_other_body_is_taken_for_a_model_that_starts(body: Any) -> None:
    assert outcome_of(reply(200, body)) is SUCCESS


def test_a_prediction_that_failed_is_a_failure() -> None:
    body = PREDICTION | {"status": "failed", "error": "CUDA out of memory"}
    assert outcome_of(reply(200, body)) == Outcome(Kind.FAILURE)


def test_a_subclass_of_requests_response_is_read() -> None:
    class Mine(requests.Response):
        pass

    mine = Mine()
    mine.status_code = 429
    assert outcome_of(mine) == Outcome(Kind.LIMITED)


# Whatever comes


def _raises(self: object, *args: object) -> Any:
    raise RuntimeError("hostile")


def hostile() -> Iterator[Any]:
    looks = dict.fromkeys(("status_code", "status", "headers", "response", "reason", "args", "__dict__", "_content"),
                          property(_raises))
    for module, name, base in (("requests.models", "Response", object), ("requests", "HTTPError", Exception),
                               ("x", "X", object), ("x", "X", Exception)):
        yield look_alike(module, name, base, **looks)()
        yield look_alike(module, name, base, __getattribute__=_raises, __eq__=_raises, __hash__=_raises)()
    odd = look_alike("requests.models")()
    odd.status_code, odd.headers = 503, 17
    yield odd
    yield type("D", (dict,), {"get": _raises})(error="x")


def test_it_never_raises_whatever_the_object() -> None:
    for value in hostile():
        found = outcome_of(value)
        assert found is None or isinstance(found, Outcome)


@pytest.mark.fuzz
@given(st.integers(100, 999), json_values, any_headers)
def test_any_body_under_any_status_has_an_outcome_with_sound_numbers(
        status: int, body: Any, headers: dict[str, str]) -> None:
    assert_sound(outcome_of(reply(status, body, headers)), status)
    # Not caught there, as it is in outcome_of.
    assert_sound(outcome_of_body(body, status, {name.lower(): value for name, value in headers.items()}), status)


@pytest.mark.fuzz
@given(st.integers(100, 999), st.binary(max_size=60) | st.binary(max_size=20).map(lambda end: b'{"error":' + end),
       any_headers)
def test_any_bytes_under_any_status_have_an_outcome(status: int, body: bytes, headers: dict[str, str]) -> None:
    assert_sound(outcome_of(reply(status, body, headers)), status)


@settings(max_examples=100)
@given(json_values)
def test_any_json_that_a_function_returns_counts_as_an_answer(value: Any) -> None:
    assert outcome_of(value) is None
