"""How the server words what each API says: answers, usage, refusals, and what is left. Over HTTP, at high speed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
import requests

from llm_guard.errors import ConfigError
from llm_guard.llm import outcome_of, text_of
from llm_guard.outcome import Kind, Outcome
from llm_guard.testing.cold_server import ColdServer, cold_server
from llm_guard.testing.server import Scenario
from llm_guard.testing.server.settings import BucketLimit, GrowthLimit, Load, Quota, WindowLimit

pytestmark = pytest.mark.real

QUICK = Scenario("quick", slots=8, median=0.05, sigma=0.0)
PROMPT = "one two"
MESSAGES = [{"role": "user", "content": "be brief"}, {"role": "user", "content": PROMPT}]

#: For each endpoint a request that is not to be streamed, and what it is answered with beside what ids it has.
REQUESTS: dict[str, dict[str, Any]] = {
    "/models/org/m": {"inputs": PROMPT},
    "/models/org/m/v1/chat/completions": {"model": "m", "messages": MESSAGES},
    "/v1/chat/completions": {"model": "m", "messages": MESSAGES},
    "/v1/completions": {"model": "m", "prompt": PROMPT},
    "/v1/responses": {"model": "m", "input": PROMPT, "instructions": "be brief"},
    "/v1/messages": {"model": "m", "max_tokens": 99, "system": "be brief", "messages": MESSAGES[1:]},
    "/api/chat": {"model": "m", "messages": MESSAGES, "stream": False},
    "/api/generate": {"model": "m", "prompt": PROMPT, "stream": False},
    "/generate": {"inputs": PROMPT, "parameters": {"details": True}},
    "/": {"inputs": PROMPT},
}
PATHS = pytest.mark.parametrize("path", REQUESTS)


def ask(server: ColdServer, path: str, **more: object) -> requests.Response:
    return requests.post(server.url + path, json={**REQUESTS[path], **more}, timeout=10)


@pytest.fixture(scope="module")
def server() -> Iterator[ColdServer]:
    with cold_server(QUICK, speed=50, mixed_shapes=False) as started:
        yield started


@PATHS
def test_the_text_is_found_in_every_answer(server: ColdServer, path: str) -> None:
    response = ask(server, path)
    assert response.status_code == 200
    assert text_of(response) == "echo: one two"


# What is asked counts all messages: two of two words, or one where the other has no place in the request.
@pytest.mark.parametrize(("path", "found"), [
    ("/v1/chat/completions", lambda body: body["usage"]),
    ("/v1/completions", lambda body: body["usage"]),
    ("/v1/responses", lambda body: body["usage"]),
    ("/v1/messages", lambda body: body["usage"]),
    ("/api/chat", lambda body: body),
    ("/api/generate", lambda body: body),
    ("/generate", lambda body: body["details"]),
])
def test_usage_counts_the_words_of_all_that_was_sent_and_answered(
        server: ColdServer, path: str, found: Callable[[Any], dict[str, Any]]) -> None:
    usage = found(ask(server, path).json())
    said = {name: usage.get(name) for name in ("prompt_tokens", "input_tokens", "prompt_eval_count", "input_length",
                                               "completion_tokens", "output_tokens", "eval_count", "generated_tokens")}
    assert list(filter(None, said.values())) == [2 if path.endswith(("/completions", "generate"))
                                                 and "chat" not in path else 4, 3]
    assert usage.get("total_tokens") in (None, sum(filter(None, said.values())))


@pytest.mark.parametrize("path", ["/generate", "/", "/models/org/m"])
def test_tgi_tells_what_it_used_in_headers(server: ColdServer, path: str) -> None:
    headers = ask(server, path).headers
    assert (headers["x-prompt-tokens"], headers["x-generated-tokens"]) == ("2", "3")


@pytest.mark.parametrize(("path", "given", "where"), [
    ("/v1/chat/completions", {"max_tokens": 2}, ("choices", 0, "finish_reason", "length")),
    ("/v1/chat/completions", {"max_completion_tokens": 2}, ("choices", 0, "finish_reason", "length")),
    ("/v1/chat/completions", {}, ("choices", 0, "finish_reason", "stop")),
    ("/v1/completions", {"max_tokens": 2}, ("choices", 0, "finish_reason", "length")),
    ("/v1/responses", {"max_output_tokens": 2}, ("incomplete_details", "reason", "max_output_tokens")),
    ("/v1/messages", {"max_tokens": 2}, ("stop_reason", "max_tokens")),
    ("/v1/messages", {}, ("stop_reason", "end_turn")),
    ("/api/chat", {"options": {"num_predict": 2}}, ("done_reason", "length")),
    ("/api/generate", {}, ("done_reason", "stop")),
    ("/generate", {"parameters": {"max_new_tokens": 2, "details": True}}, ("details", "finish_reason", "length")),
    ("/models/org/m", {"parameters": {"max_new_tokens": 2}}, None),
])
def test_an_answer_that_reaches_its_bound_is_cut_and_says_so(
        server: ColdServer, path: str, given: dict[str, Any], where: tuple[Any, ...] | None) -> None:
    response = ask(server, path, **given)
    assert text_of(response) == ("echo: one two" if not given else "echo: one")
    if where is not None:
        *steps, expected = where
        value = response.json()
        for step in steps:
            value = value[step]
        assert value == expected


@pytest.mark.parametrize(("path", "body", "status", "said"), [
    ("/v1/messages", {"model": "m", "messages": MESSAGES}, 400, ("error", "type", "invalid_request_error")),
    ("/v1/messages", [], 400, ("type", "error")),
    ("/v1/responses", {"model": "m", "input": []}, 400, ("error", "type", "invalid_request_error")),
    ("/v1/completions", {"model": "m", "prompt": 3}, 400, ("error", "type", "invalid_request_error")),
    ("/api/chat", {"messages": MESSAGES}, 400, ("error", "model is required")),
    ("/api/generate", {"model": "m", "prompt": None}, 400, ("error", "prompt must be a string")),
    ("/generate", {"inputs": 3}, 422, ("error_type", "validation")),
    ("/generate", {"inputs": "x", "parameters": 3}, 422, ("error_type", "validation")),
    ("/generate", {"inputs": "x", "parameters": {"max_new_tokens": 0}}, 422, ("error_type", "validation")),
])
def test_what_is_malformed_is_refused_in_each_api_s_words(
        server: ColdServer, path: str, body: object, status: int, said: tuple[str, ...]) -> None:
    response = requests.post(server.url + path, json=body, timeout=10)
    assert response.status_code == status
    *steps, expected = said
    value = response.json()
    for step in steps:
        value = value[step]
    assert value == expected
    assert outcome_of(response) == Outcome(Kind.INVALID)


# Refusals

WAIT = 2.0  # a hint of 100 s at fifty times the speed
REFUSING = {
    Kind.LOADING: replace(QUICK, load=Load(1e6, spread=0.0)),
    Kind.LIMITED: replace(QUICK, limit=WindowLimit(0, 100.0)),
    Kind.QUOTA: replace(QUICK, quota=Quota(0, retry_after=100.0)),
    Kind.GROWTH_LIMITED: replace(QUICK, growth=GrowthLimit(least=0.0, retry_after=100.0, told=True)),
    Kind.FAILURE: replace(QUICK, noise=0.999999),
}
#: What the SDK reads from a refusal, where it is not what the refusal is: these APIs have no word for it.
READ = {
    ("/v1/messages", Kind.LOADING): Kind.OVERLOAD,
    ("/api/chat", Kind.LOADING): Kind.OVERLOAD,
    ("/api/generate", Kind.LOADING): Kind.OVERLOAD,
    ("/api/chat", Kind.GROWTH_LIMITED): Kind.LIMITED,
    ("/api/generate", Kind.GROWTH_LIMITED): Kind.LIMITED,
}
UNHINTED = {("/v1/messages", Kind.LOADING), ("/v1/messages", Kind.QUOTA), ("/api/chat", Kind.LOADING),
            ("/api/generate", Kind.LOADING), ("/api/chat", Kind.QUOTA), ("/api/generate", Kind.QUOTA)}


@pytest.mark.parametrize("kind", REFUSING, ids=lambda kind: kind.value)
def test_what_it_says_is_read_as_what_it_means(kind: Kind) -> None:
    with cold_server(REFUSING[kind], speed=50) as server:
        for path in REQUESTS:
            for stream in (False, True)[:1 if kind is Kind.FAILURE else 2]:  # in streams failures may come later
                response = ask(server, path, stream=stream)
                found = outcome_of(response)
                assert found is not None
                assert found.kind is READ.get((path, kind), kind), (path, response.text)
                hinted = kind is not Kind.FAILURE and (path, kind) not in UNHINTED
                assert (found.hint is not None) is hinted, (path, response.text)
                if kind in (Kind.QUOTA, Kind.GROWTH_LIMITED, Kind.LIMITED) and hinted:
                    assert found.hint == pytest.approx(WAIT, abs=1.5)


def test_a_full_queue_is_an_overload_everywhere() -> None:
    with cold_server(replace(QUICK, slots=1, median=1e6, queue=0), speed=1) as server:
        with pytest.raises(requests.ReadTimeout):
            requests.post(server.url + "/generate", json={"inputs": "x"}, timeout=0.2)
        for path in REQUESTS:
            found = outcome_of(ask(server, path))
            assert found is not None
            assert (found.kind, found.hint) == (Kind.OVERLOAD, None)


def test_refusals_have_each_provider_s_status_and_words() -> None:
    with cold_server(REFUSING[Kind.LOADING], speed=50) as server:
        overloaded = ask(server, "/v1/messages")
        assert overloaded.status_code == 529
        assert overloaded.json()["error"]["type"] == "overloaded_error"
        assert overloaded.headers["x-should-retry"] == "true"
        busy = ask(server, "/api/chat")
        assert (busy.status_code, busy.json()["error"][:11]) == (503, "server busy")
        assert ask(server, "/generate").json()["error_type"] == "SERVICE_UNAVAILABLE"
        assert ask(server, "/models/org/m/v1/chat/completions").json()["error"] == "Model m is currently loading"
    with cold_server(REFUSING[Kind.LIMITED], speed=50) as server:
        limited = ask(server, "/v1/messages")
        assert (limited.status_code, limited.json()["error"]["type"]) == (429, "rate_limit_error")
        assert 0 < float(limited.headers["retry-after"]) <= WAIT
    with cold_server(REFUSING[Kind.QUOTA], speed=50) as server:
        quota = ask(server, "/v1/messages")
        assert quota.json()["error"]["details"] == {"error_code": "enforced_spend_limit_reached"}
        assert quota.headers["x-should-retry"] == "false"
    with cold_server(REFUSING[Kind.FAILURE], speed=50) as server:
        assert [ask(server, path).status_code for path in ("/v1/messages", "/api/chat", "/generate")] == [500, 500, 424]


@pytest.mark.parametrize(("path", "headers"), [
    ("/v1/messages", {"anthropic-ratelimit-requests-remaining"}), ("/generate", {"RateLimit"}),
    ("/v1/completions", {"x-ratelimit-remaining-requests"}), ("/models/org/m", {"RateLimit"}), ("/api/chat", set()),
])
def test_what_is_left_is_told_as_the_provider_does(path: str, headers: set[str]) -> None:
    with cold_server(replace(QUICK, limit=BucketLimit(0.1, 4.0, remaining=True)), speed=5) as server:
        for stream in (False, True):
            response = ask(server, path, stream=stream)
            assert {name for name in response.headers if "ratelimit" in name.lower() and "reset" not in name} == headers
            found = outcome_of(response)
            assert found is not None
            if headers:
                assert found.remaining == 3 - stream
                assert found.reset == pytest.approx(2.0 + 2.0 * stream, abs=1.0)
            else:
                assert found.remaining is None


def test_anthropic_s_reset_is_a_moment_in_utc() -> None:
    with cold_server(replace(QUICK, limit=BucketLimit(0.1, 4.0, remaining=True)), speed=5) as server:
        told = ask(server, "/v1/messages").headers["anthropic-ratelimit-requests-reset"]
    assert told.endswith("Z")
    assert datetime.fromisoformat(told).utcoffset() is not None


# One API alone


@pytest.mark.parametrize(("api", "spoken"), [
    ("openai", {"/v1/chat/completions", "/v1/completions", "/v1/responses"}), ("anthropic", {"/v1/messages"}),
    ("ollama", {"/api/chat", "/api/generate"}), ("tgi", {"/generate", "/", "/v1/chat/completions", "/v1/completions"}),
    ("huggingface", {"/models/org/m", "/models/org/m/v1/chat/completions", "/v1/chat/completions", "/"}),
])
def test_one_api_alone_is_spoken_where_it_is_named(api: str, spoken: set[str]) -> None:
    with cold_server(QUICK, speed=50, api=api) as server:
        assert {path for path in REQUESTS if ask(server, path).status_code != 404} == spoken


@pytest.mark.parametrize(("api", "error"), [
    ("huggingface", "Model m is currently loading"), ("tgi", "Service Unavailable"),
    ("openai", {"message": "Loading model", "type": "unavailable_error", "param": None, "code": 503}),
])
def test_a_chat_is_refused_in_the_words_of_the_api_that_is_spoken(api: str, error: object) -> None:
    with cold_server(REFUSING[Kind.LOADING], speed=50, api=api) as server:
        assert ask(server, "/v1/chat/completions").json()["error"] == error


def test_an_api_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match="api='cohere'"):
        ColdServer(api="cohere")
