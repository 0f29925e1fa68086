"""What responses and exceptions say of the server."""

from __future__ import annotations

import http.client
import json
import pickle
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest
import requests
import urllib3
from hypothesis import given
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from requests.exceptions import HTTPError
from urllib3.util.retry import Retry

from llm_guard.clock import SystemClock, use
from llm_guard.errors import CallTimeout, Saturated
from llm_guard.llm import AnswerError, outcome_of, signals
from llm_guard.llm.signals import SIGNALS
from llm_guard.outcome import FAILURE, FINAL, SUCCESS, TIMEOUT, Kind, Outcome


def reply(status: int, body: Any = b"", headers: Any = ()) -> Any:
    made: Any = requests.Response()
    made.status_code = status
    made.headers.update(dict(headers))
    made._content = body if isinstance(body, bytes) else json.dumps(body).encode()
    made._content_consumed = True
    return made


def openai(code: str | None, kind: str = "requests", message: str = "...") -> Any:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(kind: str, message: str = "...", **details: Any) -> Any:
    return {"type": "error", "error": {"type": kind, "message": message} | details, "request_id": "req_1"}


def llama(code: int, message: str, kind: str) -> Any:
    return {"error": {"code": code, "message": message, "type": kind}}


def tgi(message: str, kind: str) -> Any:
    return {"error": message, "error_type": kind}


ROWS = [
    # HuggingFace
    (503, {"error": "Model gpt2 is currently loading", "estimated_time": 20.0}, {}, Kind.LOADING, 20.0),
    (503, {"error": "Model gpt2 is currently loading"}, {}, Kind.LOADING, None),
    (503, {"error": "Model gpt2 starts", "estimated_time": 20}, {}, Kind.LOADING, 20.0),
    (503, b"Model is loading", {}, Kind.LOADING, None),
    (503, {"error": "Service Unavailable", "code": "SERVICE_UNAVAILABLE"}, {}, Kind.LOADING, None),
    (502, {"error": "Bad Gateway", "code": "SERVICE_UNAVAILABLE"}, {}, Kind.LOADING, None),
    (503, {"error": "Service Unavailable"}, {}, Kind.OVERLOAD, None),
    (503, b"<html><div class='loading'></div></html>", {}, Kind.OVERLOAD, None),
    (400, {"error": "Bad Request: The endpoint is paused, ask a maintainer to restart it"}, {}, Kind.INVALID, None),
    (402, {"error": "You have exceeded your monthly included credits for Inference Providers."}, {}, Kind.QUOTA, None),
    (429, {"error": "Too many requests"}, {"RateLimit": '"api";r=0;t=55'}, Kind.LIMITED, 55.0),
    (429, {"error": "Rate limit reached. Please log in or use your apiToken"}, {"Retry-After": "9"},
     Kind.INVALID, None),
    (429, b"We had to rate limit your IP (x). To continue using our service, create a HF account or login to your "
          b"existing account", {}, Kind.INVALID, None),
    (504, b"", {}, Kind.TIMEOUT, None),
    # TGI
    (429, tgi("Model is overloaded", "overloaded"), {}, Kind.OVERLOAD, None),
    (429, tgi("busy", "overloaded"), {}, Kind.OVERLOAD, None),
    (429, {"error": "Model is overloaded"}, {}, Kind.OVERLOAD, None),
    (422, tgi("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048", "validation"), {},
     Kind.INVALID, None),
    (422, tgi("Template error: ...", "template_error"), {}, Kind.INVALID, None),
    (422, tgi("Tool error: ...", "tool_error"), {}, Kind.INVALID, None),
    (424, tgi("Request failed during generation: CUDA out of memory", "generation"), {}, Kind.FAILURE, None),
    (500, tgi("Incomplete generation", "incomplete_generation"), {}, Kind.FAILURE, None),
    (200, tgi("Model is overloaded", "overloaded"), {}, Kind.OVERLOAD, None),
    (200, tgi("too long", "validation"), {}, Kind.INVALID, None),
    (200, tgi("...", "template_error"), {}, Kind.INVALID, None),
    (200, tgi("...", "tool_error"), {}, Kind.INVALID, None),
    # OpenAI
    (429, openai("rate_limit_exceeded"), {"Retry-After": "20"}, Kind.LIMITED, 20.0),
    (429, openai("rate_limit_exceeded"), {"retry-after-ms": "1234", "Retry-After": "2"}, Kind.LIMITED, 1.234),
    (429, openai("rate_limit_exceeded", "tokens"), {"x-ratelimit-remaining-tokens": "0",
                                                    "x-ratelimit-reset-tokens": "6m0s"}, Kind.LIMITED, 360.0),
    (429, openai("insufficient_quota", "insufficient_quota"), {}, Kind.QUOTA, None),
    (429, openai(None, "insufficient_quota"), {"Retry-After": "5"}, Kind.QUOTA, 5.0),
    (429, openai("credit_balance_exhausted"), {}, Kind.QUOTA, None),
    (429, openai("project_spend_limit_exceeded"), {}, Kind.QUOTA, None),
    (429, openai("organization_usage_limit_exceeded"), {}, Kind.QUOTA, None),
    (429, openai("slow_down"), {"Retry-After": "3"}, Kind.GROWTH_LIMITED, 3.0),
    (503, openai("slow_down"), {}, Kind.GROWTH_LIMITED, None),
    (503, openai("server_is_overloaded", "service_unavailable_error"), {"Retry-After": "3"}, Kind.OVERLOAD, 3.0),
    (429, openai(None, "requests", "The engine is currently overloaded, please try again later"), {},
     Kind.OVERLOAD, None),
    (400, openai("context_length_exceeded", "invalid_request_error"), {}, Kind.INVALID, None),
    (401, openai("invalid_api_key", "invalid_request_error"), {}, Kind.INVALID, None),
    (500, openai(None, "server_error"), {}, Kind.FAILURE, None),
    (200, {"object": "response", "status": "failed", "error": {"code": "rate_limit_exceeded", "message": "..."}}, {},
     Kind.LIMITED, None),
    (200, {"object": "response", "status": "failed", "error": {"code": "server_error", "message": "..."}}, {},
     Kind.FAILURE, None),
    (200, openai("server_is_overloaded", "server_error"), {}, Kind.OVERLOAD, None),
    (200, openai(None, "invalid_request_error"), {}, Kind.INVALID, None),
    # Anthropic
    (429, anthropic("rate_limit_error"), {"retry-after": "11"}, Kind.LIMITED, 11.0),
    (429, anthropic("rate_limit_error", details={"error_code": "ramp_limit_exceeded"}), {"retry-after": "11"},
     Kind.GROWTH_LIMITED, 11.0),
    (429, anthropic("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}), {}, Kind.QUOTA, None),
    (402, anthropic("billing_error"), {}, Kind.QUOTA, None),
    (400, anthropic("invalid_request_error", "Your credit balance is too low to access the Anthropic API."), {},
     Kind.QUOTA, None),
    (400, anthropic("invalid_request_error", "You have reached your specified API usage limits."), {},
     Kind.QUOTA, None),
    (400, anthropic("invalid_request_error", "max_tokens: Field required"), {}, Kind.INVALID, None),
    (413, anthropic("request_too_large"), {}, Kind.INVALID, None),
    (529, anthropic("overloaded_error", "Overloaded"), {}, Kind.OVERLOAD, None),
    (500, anthropic("api_error"), {}, Kind.FAILURE, None),
    (504, anthropic("timeout_error"), {}, Kind.TIMEOUT, None),
    (200, anthropic("timeout_error"), {}, Kind.TIMEOUT, None),
    (200, anthropic("overloaded_error"), {}, Kind.OVERLOAD, None),
    (200, anthropic("rate_limit_error"), {}, Kind.LIMITED, None),
    (200, anthropic("billing_error"), {}, Kind.QUOTA, None),
    # llama.cpp
    (503, llama(503, "Loading model", "unavailable_error"), {}, Kind.LOADING, None),
    (503, llama(503, "no slot available", "unavailable_error"), {}, Kind.OVERLOAD, None),
    (200, llama(503, "no slot available", "unavailable_error"), {}, Kind.OVERLOAD, None),
    (200, {"error": {"message": "no slot available", "type": "unavailable_error"}}, {}, Kind.OVERLOAD, None),
    (501, llama(501, "This server does not support completions", "not_supported_error"), {}, Kind.INVALID, None),
    (400, llama(400, "the request exceeds the available context size", "exceed_context_size_error"), {},
     Kind.INVALID, None),
    (500, llama(500, "...", "server_error"), {}, Kind.FAILURE, None),
    # Ollama
    (503, {"error": "server busy, please try again.  maximum pending requests exceeded"}, {}, Kind.OVERLOAD, None),
    (200, {"error": "server busy, please try again.  maximum pending requests exceeded"}, {}, Kind.OVERLOAD, None),
    (404, {"error": "model 'llama3' not found"}, {}, Kind.INVALID, None),
    # errors under status 200, by the status that they carry
    (200, [{"error": {"code": 429, "message": "Resource exhausted", "status": "RESOURCE_EXHAUSTED"}}], {},
     Kind.LIMITED, None),
    (200, {"error": {"code": 502, "message": "Provider returned error"}}, {}, Kind.FAILURE, None),
    (200, {"error": {"code": 400, "message": "..."}}, {}, Kind.INVALID, None),
    (200, [{"error": "Model gpt2 is currently loading", "estimated_time": 20.0}], {}, Kind.LOADING, 20.0),
    (200, {"error": "something"}, {}, Kind.FAILURE, None),
    (200, {"object": "response", "status": "failed", "error": None}, {}, Kind.FAILURE, None),
    # a code's case and place
    (429, {"detail": "Too many"}, {}, Kind.LIMITED, None),
    (429, [], {}, Kind.LIMITED, None),
    (429, b"null", {}, Kind.LIMITED, None),
]


@pytest.mark.parametrize(("status", "body", "headers", "kind", "hint"), ROWS)
def test_a_response_and_the_error_that_carries_it_say_the_same(
        status: int, body: Any, headers: dict[str, str], kind: Kind, hint: float | None) -> None:
    response = reply(status, body, headers)
    for end in (response, HTTPError("...", response=response)):
        found = outcome_of(end)
        assert found is not None
        assert replace(found, remaining=None, reset=None) == Outcome(kind, hint, answered=True)


def test_each_signal_in_the_table_decides_for_some_row() -> None:
    """No row of the table is dead: without it, some answer above would be read in another way."""
    cases = [(reply(*row[:3]), row[3]) for row in ROWS]
    for signal in SIGNALS:
        left = tuple(each for each in SIGNALS if each is not signal)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(signals, "SIGNALS", left)
            found = [outcome_of(response) for response, _ in cases]
        assert any(one and one.kind is not kind for one, (_, kind) in zip(found, cases, strict=True)), signal


@pytest.mark.parametrize(("status", "kind"), [
    (400, Kind.INVALID), (401, Kind.INVALID), (402, Kind.QUOTA), (403, Kind.INVALID), (404, Kind.INVALID),
    (405, Kind.INVALID), (408, Kind.FAILURE), (413, Kind.INVALID), (422, Kind.INVALID), (424, Kind.FAILURE),
    (429, Kind.LIMITED), (498, Kind.OVERLOAD), (500, Kind.FAILURE), (502, Kind.FAILURE), (503, Kind.OVERLOAD),
    (504, Kind.TIMEOUT), (520, Kind.FAILURE), (524, Kind.TIMEOUT), (529, Kind.OVERLOAD), (599, Kind.FAILURE),
])
def test_a_status_alone_has_a_meaning(status: int, kind: Kind) -> None:
    assert outcome_of(reply(status)) == Outcome(kind, answered=True)


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
    body = [{"generated_text": "Good day"}]
    assert outcome_of(reply(200, body, {"Content-Type": "application/json", "X-RateLimit-Reset": "5"})) is SUCCESS


@pytest.mark.parametrize(("status", "body", "kind"), [
    (429, openai("rate_limit_exceeded"), Kind.LIMITED), (429, openai("insufficient_quota"), Kind.QUOTA),
    (503, {"error": "loading", "estimated_time": 5}, Kind.LOADING), (500, b"", Kind.FAILURE), (422, b"", Kind.INVALID),
    (200, openai("slow_down"), Kind.GROWTH_LIMITED),
])
def test_so_does_an_error_of_any_kind(status: int, body: Any, kind: Kind) -> None:
    response = reply(status, body, {"anthropic-ratelimit-requests-remaining": "3", "RateLimit": '"api";r=2;t=60'})
    for end in (response, HTTPError("...", response=response)):
        found = outcome_of(end)
        assert found is not None
        assert (found.kind, found.remaining, found.reset) == (kind, 2, 60)


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


def look_alike(module: str, name: str = "Response", base: type = object, **members: Any) -> Any:
    return type(name, (base,), {"__module__": module, **members})


@pytest.mark.parametrize("module", ["flask.wrappers", "django.http.response", "werkzeug.wrappers", "myrequests",
                                    "__main__"])
def test_a_web_framework_s_response_is_not_an_answer_of_an_api(module: str) -> None:
    response = look_alike(module)()
    response.status_code, response.headers, response._content = 503, {"Retry-After": "5"}, b""
    assert outcome_of(response) is None
    error: Any = RuntimeError()
    error.response = response
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


def test_a_subclass_of_requests_response_is_read() -> None:
    class Mine(requests.Response):
        pass

    mine = Mine()
    mine.status_code = 429
    assert outcome_of(mine) == Outcome(Kind.LIMITED)


# Exceptions

ANSWERED = Outcome(Kind.FAILURE, answered=True)
WRONG = Outcome(Kind.INVALID, answered=False)
POOL: Any = None
HEADERS: Any = {"Retry-After": "5"}


def read_timeout() -> Exception:
    return urllib3.exceptions.ReadTimeoutError(POOL, "/x", "Read timed out.")


@pytest.mark.parametrize(("error", "expected"), [
    (requests.ConnectionError(), FAILURE),
    (requests.exceptions.SSLError(), FAILURE),
    (requests.exceptions.ProxyError(), FAILURE),
    (requests.exceptions.ChunkedEncodingError(), FAILURE),
    (requests.exceptions.ChunkedEncodingError(urllib3.exceptions.ProtocolError("cut off")), FAILURE),
    (requests.RequestException(), FAILURE),
    (HTTPError("no response"), FAILURE),
    (requests.ConnectTimeout(), TIMEOUT),
    (requests.ReadTimeout(), TIMEOUT),
    (requests.Timeout(), TIMEOUT),
    (requests.ConnectionError(read_timeout()), TIMEOUT),
    (requests.ConnectionError(urllib3.exceptions.MaxRetryError(POOL, "/x", OSError())), FAILURE),
    (requests.JSONDecodeError("Expecting value", "<html>", 0), ANSWERED),
    (requests.exceptions.ContentDecodingError(), ANSWERED),
    (requests.exceptions.InvalidURL(), WRONG),
    (requests.exceptions.MissingSchema(), WRONG),
    (requests.exceptions.InvalidJSONError(), WRONG),
    (requests.exceptions.TooManyRedirects(response=reply(302)), ANSWERED),
    (HTTPError("raised by hand", response=reply(200)), ANSWERED),
    (requests.exceptions.RetryError(urllib3.exceptions.MaxRetryError(
        POOL, "/x", urllib3.exceptions.ResponseError("too many 429 error responses"))), Outcome(Kind.LIMITED)),
    (urllib3.exceptions.ProtocolError(), FAILURE),
    (urllib3.exceptions.NewConnectionError(POOL, "refused"), FAILURE),
    (urllib3.exceptions.ConnectTimeoutError(), TIMEOUT),
    (read_timeout(), TIMEOUT),
    (urllib3.exceptions.MaxRetryError(POOL, "/x", read_timeout()), TIMEOUT),
    (urllib3.exceptions.DecodeError(), ANSWERED),
    (urllib3.exceptions.LocationParseError("x"), WRONG),
    (ConnectionError(), FAILURE),
    (ConnectionResetError(104, "reset"), FAILURE),
    (BrokenPipeError(), FAILURE),
    (TimeoutError(), TIMEOUT),
    (socket.gaierror(-2, "unknown"), FAILURE),
    (ssl.SSLEOFError(), FAILURE),
    (http.client.IncompleteRead(b""), FAILURE),
    (http.client.RemoteDisconnected(""), FAILURE),
    (http.client.BadStatusLine("x"), FAILURE),
    (urllib.error.URLError(TimeoutError()), TIMEOUT),
    (urllib.error.URLError(ConnectionRefusedError()), FAILURE),
    (urllib.error.HTTPError("http://x", 429, "", HEADERS, None), Outcome(Kind.LIMITED, 5.0)),
    (json.JSONDecodeError("Expecting value", "<html>", 0), ANSWERED),
    (look_alike("httpx", "ReadTimeout", look_alike("httpx", "TimeoutException", Exception))(), TIMEOUT),
    (look_alike("httpx", "ConnectError", look_alike("httpx", "HTTPError", Exception))(), FAILURE),
    (look_alike("openai", "APITimeoutError", look_alike("openai", "APIConnectionError", Exception))(), TIMEOUT),
    (look_alike("anthropic", "APIConnectionError", Exception)(), FAILURE),
    (CallTimeout("...", seconds=1.0), TIMEOUT),
    (AnswerError("dict with keys error"), ANSWERED),
], ids=lambda value: repr(value)[:60])
def test_an_exception_of_an_http_library_says_what_broke(error: Any, expected: Outcome) -> None:
    assert outcome_of(error) == expected


@pytest.mark.parametrize("error", [
    TypeError(), NameError(), AttributeError(), AssertionError(), NotImplementedError(), ImportError(), ValueError(),
    KeyError(), RuntimeError(), FileNotFoundError(), Exception(), KeyboardInterrupt(), GeneratorExit(), SystemExit(),
    UnicodeDecodeError("utf-8", b"", 0, 1, "x"), Saturated("...", policy="bounded"),
    TypeError(requests.ConnectionError()),
], ids=repr)
def test_an_exception_that_it_does_not_know_is_left_to_others(error: Any) -> None:
    assert outcome_of(error) is None


def test_a_pickled_error_says_the_same() -> None:
    error = HTTPError("...", response=reply(503, {"error": "loading", "estimated_time": 20.0}))
    assert outcome_of(pickle.loads(pickle.dumps(error))) == outcome_of(error) == Outcome(Kind.LOADING, 20.0)


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


def test_an_exception_that_wraps_itself_is_read_all_the_same() -> None:
    looped = requests.ConnectionError()
    looped.args = (looped,)
    assert outcome_of(looped) == FAILURE


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["error", "code", "type", "message", "details", "status", "estimated_time", "error_type"])
        | st.text(max_size=5), inner, max_size=5),
    max_leaves=12)


@pytest.mark.fuzz
@given(st.integers(100, 999), json_values, st.dictionaries(
    st.sampled_from(["Retry-After", "retry-after-ms", "x-should-retry", "ratelimit", "x-ratelimit-remaining",
                     "x-ratelimit-reset"]), st.text(max_size=12)))
def test_any_body_under_any_status_has_an_outcome_with_a_sound_hint(
        status: int, body: Any, headers: dict[str, str]) -> None:
    found = outcome_of(reply(status, body, headers))
    assert found is not None
    assert found.answered
    assert found.hint is None or 0 <= found.hint < float("inf")
    assert status < 400 or found.kind is not Kind.SUCCESS
    assert found.hint is None or found.kind not in FINAL - {Kind.QUOTA}


@pytest.mark.fuzz
@given(json_values)
def test_any_json_that_a_function_returns_counts_as_an_answer(value: Any) -> None:
    assert outcome_of(value) is None


# The real libraries against real sockets


def _serve(reply_with: bytes) -> tuple[str, socket.socket]:
    """A server that gives every connection these bytes, and closes it."""
    listening = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                connection.recv(65536)
                connection.sendall(reply_with)

    threading.Thread(target=run, daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}/", listening


def _error_of(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    return caught.value


@pytest.mark.real
def test_real_faults_of_a_connection() -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    port = silent.getsockname()[1]
    with silent:
        url = f"http://127.0.0.1:{port}/"
        assert outcome_of(_error_of(lambda: requests.get(url, timeout=0.05))) == TIMEOUT
        assert outcome_of(_error_of(lambda: urllib.request.urlopen(url, timeout=0.05))) == TIMEOUT
    assert outcome_of(_error_of(lambda: requests.get(url, timeout=1))) == FAILURE
    assert outcome_of(_error_of(lambda: urllib.request.urlopen(url, timeout=1))) == FAILURE


@pytest.mark.real
@pytest.mark.parametrize("cut", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
                                 b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf"])
def test_a_real_answer_that_is_cut_off_is_a_failure(cut: bytes) -> None:
    url, server = _serve(cut)
    with server:
        assert outcome_of(_error_of(lambda: requests.get(url, timeout=2))) == FAILURE


@pytest.mark.real
def test_what_urllib3_s_own_retries_leave_of_a_503_is_still_an_overload() -> None:
    url, server = _serve(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    with server, requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=Retry(1, status_forcelist=[503], backoff_factor=0)))
        assert outcome_of(_error_of(lambda: session.get(url, timeout=2))) == Outcome(Kind.OVERLOAD)
        assert outcome_of(_error_of(lambda: urllib.request.urlopen(url, timeout=2))) == Outcome(Kind.OVERLOAD)


@pytest.mark.real
def test_importing_the_package_does_not_import_requests() -> None:
    code = ("import sys, llm_guard.llm as llm; llm.outcome_of(ConnectionError()); llm.text_of('x'); "
            "llm.huggingface('gpt2'); "
            "sys.exit(bool({'requests', 'urllib3', 'httpx'} & {name.partition('.')[0] for name in sys.modules}))")
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
