"""The ready calls to every provider: what they send and return, and what all of them have in common."""

from __future__ import annotations

import copy
import functools
import inspect
import json
import os
import pickle
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import requests
from responses import RequestsMock

from llm_guard.errors import ConfigError
from llm_guard.llm import (
    AnswerError,
    StreamError,
    Text,
    Usage,
    anthropic,
    huggingface,
    ollama,
    openai,
    outcome_of,
    text_of,
    usage_of,
)
from llm_guard.outcome import SUCCESS, Kind, Outcome

MonkeyPatch = pytest.MonkeyPatch
SECRET = "sk-secret"
PROMPT = "what I ask"
LOCAL = "http://127.0.0.1:8080"
MESSAGES = [{"role": "user", "content": PROMPT}]
VARIABLES = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OLLAMA_API_KEY", "HF_TOKEN")


class Case(NamedTuple):
    """One endpoint: what makes the call, where it posts by default and what, and a whole answer and a streamed one."""

    make: Callable[..., Any]
    url: str
    body: dict[str, Any]
    answer: dict[str, Any]
    events: tuple[Any, ...]
    usage: Usage
    reason: str | None
    streaming: dict[str, Any]  # what a stream's body has more, or else
    variable: str = "OPENAI_API_KEY"
    header: str = "Authorization"
    takes_messages: bool = True
    endpoint: str | None = None


def sse(*events: Any) -> str:
    return "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events)


def lines(*events: Any) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)


_USED = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
_COUNTED = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
_DETAILS = {"finish_reason": "eos_token", "input_length": 3, "generated_tokens": 2}
_STREAMS = {"stream": True}
_TELLS = {"stream": True, "stream_options": {"include_usage": True}}
_CHAT = ({"choices": [{"index": 0, "delta": {"content": "Good"}}]},
         {"choices": [{"index": 0, "delta": {"content": " day"}, "finish_reason": "stop"}]},
         {"choices": [], "usage": _USED}, "[DONE]")
CASES: dict[str, Case] = {
    "openai": Case(
        openai, "https://api.openai.com/v1/chat/completions", {"model": "m", "messages": MESSAGES},
        {"choices": [{"message": {"content": "Good day"}, "finish_reason": "stop"}], "usage": _USED}, _CHAT,
        Usage(3, 2, 5), "stop", _TELLS),
    "openai, completion": Case(
        openai, "https://api.openai.com/v1/completions", {"model": "m", "prompt": PROMPT},
        {"choices": [{"text": "Good day", "finish_reason": "length"}], "usage": _USED},
        ({"choices": [{"index": 0, "text": "Good"}]}, {"choices": [{"index": 0, "text": " day"}]},
         {"choices": [{"index": 0, "text": "", "finish_reason": "length"}]}, {"choices": [], "usage": _USED}, "[DONE]"),
        Usage(3, 2, 5), "length", _TELLS, takes_messages=False, endpoint="completion"),
    "openai, responses": Case(
        openai, "https://api.openai.com/v1/responses", {"model": "m", "input": PROMPT},
        {"status": "completed", "usage": _COUNTED,
         "output": [{"type": "message", "content": [{"type": "output_text", "text": "Good day"}]}]},
        ({"type": "response.output_text.delta", "delta": "Good"},
         {"type": "response.output_text.delta", "delta": " day"},
         {"type": "response.completed", "response": {"status": "completed", "usage": _COUNTED}}),
        Usage(3, 2, 5), "completed", _STREAMS, endpoint="responses"),
    "anthropic": Case(
        anthropic, "https://api.anthropic.com/v1/messages", {"model": "m", "max_tokens": 4096, "messages": MESSAGES},
        {"type": "message", "content": [{"type": "text", "text": "Good day"}], "stop_reason": "end_turn",
         "usage": {"input_tokens": 3, "output_tokens": 2}},
        ({"type": "message_start", "message": {"content": [], "usage": {"input_tokens": 3, "output_tokens": 1}}},
         {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Good"}}, {"type": "ping"},
         {"type": "content_block_delta", "delta": {"type": "text_delta", "text": " day"}},
         {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
         {"type": "message_stop"}),
        Usage(3, 2, 5), "end_turn", _STREAMS, variable="ANTHROPIC_API_KEY", header="x-api-key"),
    "ollama": Case(
        ollama, "http://127.0.0.1:11434/api/chat", {"model": "m", "messages": MESSAGES, "stream": False},
        {"message": {"role": "assistant", "content": "Good day"}, "done": True, "done_reason": "stop",
         "prompt_eval_count": 3, "eval_count": 2},
        ({"message": {"content": "Good"}, "done": False}, {"message": {"content": " day"}, "done": False},
         {"message": {"content": ""}, "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2}),
        Usage(3, 2, 5), "stop", _STREAMS, variable="OLLAMA_API_KEY"),
    "ollama, completion": Case(
        ollama, "http://127.0.0.1:11434/api/generate", {"model": "m", "prompt": PROMPT, "stream": False},
        {"response": "Good day", "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2},
        ({"response": "Good", "done": False}, {"response": " day", "done": False},
         {"response": "", "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2}),
        Usage(3, 2, 5), "stop", _STREAMS, variable="OLLAMA_API_KEY", takes_messages=False, endpoint="completion"),
    "huggingface": Case(
        huggingface, "https://router.huggingface.co/hf-inference/models/m", {"inputs": PROMPT},
        {"generated_text": "Good day", "details": _DETAILS},
        ({"token": {"text": "Good", "special": False}},
         {"token": {"text": " day", "special": False}, "generated_text": "Good day", "details": _DETAILS}),
        Usage(3, 2, 5), "eos_token", _STREAMS, variable="HF_TOKEN", takes_messages=False),
    "huggingface, chat": Case(
        huggingface, "https://router.huggingface.co/v1/chat/completions", {"model": "m", "messages": MESSAGES},
        {"choices": [{"message": {"content": "Good day"}, "finish_reason": "stop"}], "usage": _USED}, _CHAT,
        Usage(3, 2, 5), "stop", _TELLS, variable="HF_TOKEN", endpoint="chat"),
}
EACH = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def made(case: Case, **more: Any) -> Any:
    if "key" in more and case.make is huggingface:
        more["token"] = more.pop("key")
    if case.endpoint is not None:
        more["endpoint"] = case.endpoint
    return case.make("m", **more)


def streamed(case: Case, *events: Any) -> dict[str, Any]:
    if case.make is ollama:
        return {"body": lines(*(events or case.events)), "content_type": "application/x-ndjson"}
    return {"body": sse(*(events or case.events)), "content_type": "text/event-stream"}


def drained(stream: Any) -> tuple[list[str], Any]:
    """The items of a generator, and what it returns."""
    items: list[str] = []

    def run() -> Iterator[str]:
        returned.append((yield from stream))

    returned: list[Any] = []
    items.extend(run())
    return items, returned[0]


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def http() -> Iterator[RequestsMock]:
    with RequestsMock() as mocked:
        yield mocked


def sent(http: RequestsMock) -> Any:
    return json.loads(http.calls[-1].request.body or "null")


# What goes out and comes back


@EACH
def test_it_posts_the_prompt_and_returns_the_text_with_what_was_told(http: RequestsMock, case: Case) -> None:
    http.post(case.url, json=case.answer)
    text = made(case)(PROMPT)
    assert sent(http) == case.body
    assert not {"Authorization", "x-api-key"} & set(http.calls[0].request.headers)
    assert text == "Good day"
    assert isinstance(text, Text)
    assert (text.usage, text.finish_reason) == (case.usage, case.reason)
    assert outcome_of(text) == SUCCESS


@EACH
def test_it_streams(http: RequestsMock, case: Case) -> None:
    http.post(case.url, **streamed(case))
    ask = made(case, stream=True)
    assert inspect.isgeneratorfunction(ask.__call__)  # so that the guards know
    items, whole = drained(ask(PROMPT))
    assert items == ["Good", " day"]
    assert sent(http) == {**case.body, **case.streaming}
    assert (whole, whole.usage, whole.finish_reason) == ("Good day", case.usage, case.reason)


@EACH
def test_a_list_of_messages_goes_out_as_it_is(http: RequestsMock, case: Case) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                {"role": "user", "content": [{"type": "text", "text": "c"}]}]
    if case.takes_messages:
        http.post(case.url, json=case.answer)
        made(case)(messages)
        assert sent(http).get("messages", sent(http).get("input")) == messages
    elif case.make is not huggingface:
        with pytest.raises(TypeError, match="is a str"):
            made(case)(messages)


@pytest.mark.parametrize("case", [case for name, case in CASES.items() if name != "huggingface"])
@pytest.mark.parametrize("prompt", [None, 7, b"bytes", [], ["text"], [{"role": "user"}, "text"], {"role": "user"}])
def test_a_prompt_that_is_none_is_refused_without_a_call(case: Case, prompt: Any) -> None:
    # What inputs a task of huggingface takes is the server's to say.
    with pytest.raises(TypeError, match="prompt"):
        made(case)(prompt)


@EACH
def test_parameters_go_along_as_they_were_when_given(http: RequestsMock, case: Case) -> None:
    http.post(case.url, json=case.answer)
    parameters: dict[str, Any] = {"temperature": 0.5, "stop": ["a"]}
    call = made(case, parameters=parameters)
    parameters["stop"].append("b")
    call(PROMPT)
    expected = {"temperature": 0.5, "stop": ["a"]}
    assert sent(http) == ({**case.body, "parameters": expected} if "inputs" in case.body else {**case.body, **expected})


def test_none_among_the_parameters_takes_out_what_goes_along_by_itself(http: RequestsMock) -> None:
    http.post(CASES["openai"].url, **streamed(CASES["openai"]))
    list(openai("m", stream=True, parameters={"stream_options": None})(PROMPT))
    assert sent(http) == {**CASES["openai"].body, "stream": True}


@pytest.mark.parametrize(("system", "told"), [
    (["be brief"], "be brief"),
    (["be brief", [{"type": "text", "text": "be kind"}]],
     [{"type": "text", "text": "be brief"}, {"type": "text", "text": "be kind"}]),
])
def test_anthropic_gets_the_system_s_messages_apart(http: RequestsMock, system: list[Any], told: Any) -> None:
    http.post(CASES["anthropic"].url, json=CASES["anthropic"].answer)
    anthropic("m", max_tokens=5)([*({"role": "system", "content": each} for each in system), *MESSAGES])
    assert sent(http) == {"model": "m", "max_tokens": 5, "messages": MESSAGES, "system": told}
    assert http.calls[0].request.headers["anthropic-version"] == "2023-06-01"


@pytest.mark.parametrize(("given", "posted"), [
    (LOCAL, LOCAL + "/v1/chat/completions"), (LOCAL + "/", LOCAL + "/v1/chat/completions"),
    (LOCAL + "/v1/", LOCAL + "/v1/chat/completions"),
    ("https://api.groq.com/openai/v1", "https://api.groq.com/openai/v1/chat/completions"),
])
def test_a_base_without_a_path_gets_openai_s_version(http: RequestsMock, given: str, posted: str) -> None:
    http.post(posted, json=CASES["openai"].answer)
    assert openai("m", url=given)(PROMPT) == "Good day"


# What the server says of the account is not lost


@pytest.mark.parametrize(("name", "headers"), [
    ("openai", {"x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-requests": "6m0s"}),
    ("anthropic", {"anthropic-ratelimit-requests-remaining": "7", "anthropic-ratelimit-requests-reset": "360"}),
    ("huggingface", {"RateLimit": '"api";r=7;t=360'}),
])
def test_what_is_left_comes_with_the_text(http: RequestsMock, name: str, headers: dict[str, str]) -> None:
    case = CASES[name]
    http.post(case.url, json=case.answer, headers=headers)
    text = made(case)(PROMPT)
    http.post(case.url, **streamed(case), headers=headers)
    _, whole = drained(made(case, stream=True)(PROMPT))
    for found in (text, whole, pickle.loads(pickle.dumps(text)), copy.deepcopy(whole)):
        assert outcome_of(found) == Outcome(Kind.SUCCESS, remaining=7.0, reset=360.0)
        assert usage_of(found) == case.usage
        assert found.finish_reason == case.reason


def test_a_text_is_a_str_and_says_nothing_that_was_not_told() -> None:
    text = Text('{"usage": {"prompt_tokens": 3}}')
    assert usage_of(text) is None
    assert (text.finish_reason, text.outcome) == (None, SUCCESS)
    assert type(text.strip()) is str
    assert outcome_of("plain") is None
    assert text_of(Text("plain")) == "plain"
    assert repr(text) == repr(str(text))


# What goes wrong


@EACH
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_of_the_server_is_one_that_the_guards_can_read(http: RequestsMock, case: Case, stream: bool) -> None:
    http.post(case.url, status=429, json={"error": {"code": "slow_down", "message": "..."}},
              headers={"Retry-After": "3"})
    with pytest.raises(requests.HTTPError) as caught:
        list(made(case, stream=stream)(PROMPT))
    assert outcome_of(caught.value) == Outcome(Kind.GROWTH_LIMITED, 3.0)


@EACH
def test_an_answer_without_a_text_is_an_answer_error(http: RequestsMock, case: Case) -> None:
    http.post(case.url, json={"error": {"message": PROMPT, "code": "server_is_overloaded"}})
    with pytest.raises(AnswerError) as caught:
        made(case)(PROMPT)
    assert PROMPT not in str(caught.value)
    assert outcome_of(caught.value) == Outcome(Kind.OVERLOAD)


@EACH
def test_an_error_in_the_midst_of_a_stream_is_raised_after_what_came(http: RequestsMock, case: Case) -> None:
    http.post(case.url, **streamed(case, *case.events[:1 + (case.make is anthropic)],
                                   {"type": "error", "error": {"message": PROMPT, "type": "overloaded_error"}}))
    items = []
    with pytest.raises(StreamError) as caught:
        items.extend(made(case, stream=True)(PROMPT))
    assert PROMPT not in str(caught.value)
    assert outcome_of(caught.value) == Outcome(Kind.OVERLOAD)


def held_by(error: requests.RequestException) -> str:
    """All that an error holds, as far as a log, a pickle or a crash report would follow it."""
    found = [repr(error), str(error), repr(pickle.dumps(error))]
    for holder in (error, error.response, *(error.response.history if error.response is not None else ())):
        for request in (getattr(holder, "request", None), getattr(holder, "next", None)):
            if request is not None:
                found += [repr(request.headers), repr(request.body)]
    return "".join(found)


@EACH
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", [{"status": 401, "json": {"error": "no"}},
                                   {"body": requests.ConnectionError("refused")}], ids=["status", "connection"])
def test_neither_key_nor_prompt_stays_in_an_error(http: RequestsMock, case: Case, stream: bool,
                                                  fault: dict[str, Any]) -> None:
    http.post(case.url, **fault)
    with pytest.raises(requests.RequestException) as caught:
        list(made(case, key=SECRET, stream=stream)(PROMPT))
    held = held_by(caught.value)
    assert SECRET not in held
    assert PROMPT not in held


@EACH
def test_they_do_not_stay_in_an_error_of_a_stream_that_breaks(monkeypatch: MonkeyPatch, http: RequestsMock,
                                                              case: Case) -> None:
    http.post(case.url, **streamed(case))

    def breaks(response: requests.Response) -> Iterator[bytes]:
        yield streamed(case, *case.events[:1])["body"].encode()
        raise requests.exceptions.ChunkedEncodingError("broken", request=response.request)

    monkeypatch.setattr("llm_guard.llm.streams.chunks_of", breaks)
    with pytest.raises(requests.exceptions.ChunkedEncodingError) as caught:
        list(made(case, key=SECRET, stream=True)(PROMPT))
    held = held_by(caught.value)
    assert SECRET not in held
    assert PROMPT not in held


def test_a_redirect_does_not_take_anthropic_s_key_along(http: RequestsMock) -> None:
    http.post(CASES["anthropic"].url, status=307, headers={"Location": "https://elsewhere.example.org/v1/messages"})
    with pytest.raises(requests.exceptions.InvalidURL, match="redirect") as caught:
        anthropic("m", key=SECRET)(PROMPT)
    assert len(http.calls) == 1
    held = held_by(caught.value)
    assert SECRET not in held
    assert PROMPT not in held
    assert outcome_of(caught.value) == Outcome(Kind.INVALID, answered=True)


# Keys


@EACH
def test_a_key_goes_out_in_the_header_of_its_api(http: RequestsMock, monkeypatch: MonkeyPatch, case: Case) -> None:
    monkeypatch.setenv(case.variable, "of-the-environment")
    http.post(case.url, json=case.answer)
    made(case, key=SECRET)(PROMPT)
    assert http.calls[0].request.headers[case.header] == ("" if case.make is anthropic else "Bearer ") + SECRET


@pytest.mark.parametrize(("name", "base", "goes"), [
    ("openai", "https://api.openai.com/v1", True), ("openai", "https://eu.api.openai.com/v1", True),
    ("openai", "http://api.openai.com/v1", False), ("openai", "https://api.groq.com/openai/v1", False),
    ("openai", "https://api.openai.com.example.org/v1", False), ("openai", "https://notopenai.com/v1", False),
    ("openai", LOCAL + "/v1", False),
    ("anthropic", "https://api.anthropic.com", True), ("anthropic", "https://api.openai.com", False),
    ("ollama", "https://ollama.com", True), ("ollama", "http://127.0.0.1:11434", False),
    ("huggingface, chat", "https://router.huggingface.co", True), ("huggingface, chat", "https://example.org", False),
])
def test_a_key_of_the_environment_goes_to_its_own_provider_alone(
        http: RequestsMock, monkeypatch: MonkeyPatch, name: str, base: str, goes: bool) -> None:
    case = CASES[name]
    for variable in VARIABLES:
        monkeypatch.setenv(variable, f"of-{variable}\n")
    http.post(base + {"openai": "/chat/completions", "anthropic": "/v1/messages", "ollama": "/api/chat"}.get(
        name, "/v1/chat/completions"), json=case.answer)
    made(case, url=base)(PROMPT)
    headers = http.calls[0].request.headers
    assert headers.get(case.header, "").removeprefix("Bearer ") == (f"of-{case.variable}" if goes else "")


@EACH
@pytest.mark.parametrize("stream", [False, True])
def test_it_has_a_name_and_a_signature_and_shows_no_key(case: Case, stream: bool) -> None:
    call = made(case, key=SECRET, stream=stream)
    name = case.make.__name__
    assert repr(call) == call.__name__ == call.__qualname__ == f"{name}('m'{', stream=True' if stream else ''})"
    assert list(inspect.signature(call).parameters) == ["prompt"]
    wrapped = functools.wraps(call)(lambda prompt: call(prompt))
    shown = {name: value for name, value in vars(wrapped).items() if name != "__wrapped__"}
    assert SECRET not in f"{shown}{vars(call)}"


@EACH
@pytest.mark.parametrize("stream", [False, True])
def test_a_pickled_copy_works_and_leaves_the_key_behind(http: RequestsMock, case: Case, stream: bool) -> None:
    pickled = pickle.dumps(made(case, key=SECRET, stream=stream, parameters={"seed": 3}, timeout=(1, 2)))
    assert SECRET.encode() not in pickled
    again = pickle.loads(pickled)
    http.post(case.url, **(streamed(case) if stream else {"json": case.answer}))
    assert "".join(again(PROMPT)) == "Good day"
    request: Any = http.calls[0].request
    assert (sent(http).get("seed") or sent(http)["parameters"]["seed"]) == 3
    assert case.header not in request.headers
    assert request.req_kwargs["timeout"] == (1.0, 2.0)
    assert repr(again) == repr(made(case, stream=stream))


def test_a_copy_keeps_its_key_and_one_with_a_session_cannot_be_pickled() -> None:
    call = openai("m", key=SECRET)
    assert copy.copy(call) is copy.deepcopy(call) is call
    with pytest.raises(TypeError, match="session"):
        pickle.dumps(anthropic("m", session=requests.Session()))


# Sessions and options


@EACH
def test_a_thread_keeps_its_session_and_a_forked_child_makes_its_own(http: RequestsMock, monkeypatch: MonkeyPatch,
                                                                    case: Case) -> None:
    used: list[requests.Session] = []
    post = requests.Session.post

    def recording(self: requests.Session, *args: Any, **kwargs: Any) -> requests.Response:
        used.append(self)
        return post(self, *args, **kwargs)

    monkeypatch.setattr(requests.Session, "post", recording)
    http.post(case.url, json=case.answer)
    call, mine = made(case), requests.Session()
    call(PROMPT)
    call(PROMPT)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    call(PROMPT)
    made(case, session=mine)(PROMPT)
    assert used[0] is used[1] is not used[2]
    assert used[3] is mine


WRONG: list[dict[str, Any]] = [
    {"model": ""}, {"url": "localhost:8080"}, {"url": f"http://me:{SECRET}@x"}, {"key": SECRET + "\n"}, {"key": ""},
    {"parameters": 7}, {"parameters": {"x": float("nan")}}, {"timeout": 0}]
TAKEN: list[dict[str, Any]] = [{"parameters": {"stream": True}}, {"parameters": {"model": "x"}}]


@pytest.mark.parametrize(("case", "options"), [
    *((case, options) for case in CASES.values() for options in WRONG),
    *((case, options) for name, case in CASES.items() if name != "huggingface" for options in TAKEN),
    *((case, {"endpoint": "embeddings"}) for name, case in CASES.items() if name != "anthropic")],
    ids=lambda value: None if isinstance(value, dict) else value.url)
def test_an_option_that_cannot_work_is_refused_where_it_is_given(case: Case, options: dict[str, Any]) -> None:
    given = {"model": "m"} | ({"endpoint": case.endpoint} if case.endpoint else {}) | options
    named = next(iter(options))
    if case.make is huggingface and named == "key":
        given["token"] = given.pop("key")
        named = "token"
    with pytest.raises(ConfigError) as caught:
        case.make(**given)
    assert caught.value.parameter == named
    assert SECRET not in f"{caught.value!s}{caught.value!r}{vars(caught.value)}"


@pytest.mark.parametrize("most", [0, -1, True, 1.5, None])
def test_anthropic_s_bound_is_a_whole_number(most: Any) -> None:
    with pytest.raises(ConfigError, match="max_tokens"):
        anthropic("m", max_tokens=most)
