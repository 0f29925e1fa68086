"""The tokens that answers say they took."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError
from types import SimpleNamespace
from typing import Any

import anthropic.types
import httpx
import openai.types.chat
import openai.types.responses
import pytest
import requests
from samples import (
    ANSWERS,
    COHERE_EVENTS,
    RESPONSES_API,
    RESPONSES_EVENTS,
    STREAMS,
    Answer,
    anthropic_message,
    chat,
    response,
)

from llm_guard.errors import ConfigError
from llm_guard.llm import Usage, stream_text, usage, usage_of
from llm_guard.llm.usage import FORMS

TOKENS = {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29}
#: What only a stream, or a client that turns it into events, brings.
EVENTS: list[tuple[Any, Usage]] = [
    ({"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1}}}, Usage(25, 1, 26)),
    ({"type": "message_delta", "usage": {"output_tokens": 15}}, Usage(output=15)),
    (RESPONSES_EVENTS[-1], Usage(36, 87, 123, 8)),
    (COHERE_EVENTS[-1], Usage(186, 124, 310)),
    ({"metadata": {"usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}}}, Usage(3, 4, 7)),
    ({"choices": [], "x_groq": {"usage": TOKENS}}, Usage(19, 10, 29)),
]


@pytest.mark.parametrize("answer", [pytest.param(each, id=each.source) for each in ANSWERS])
def test_the_tokens_of_an_answer_are_read_in_each_of_its_forms(answer: Answer) -> None:
    body = json.dumps(answer.body)
    ways = [answer.body, body, body.encode(), response(body.encode()), httpx.Response(200, content=body)]
    assert [usage_of(way) for way in ways] == [answer.usage] * len(ways)


@pytest.mark.parametrize(("event", "expected"), EVENTS)
def test_the_tokens_of_an_event_are_read(event: Any, expected: Usage) -> None:
    assert usage_of(event) == expected


def test_each_form_in_the_table_is_that_of_some_answer() -> None:
    """No row of the table is dead: without it, some count above would not be found."""
    cases = [(answer.body, answer.usage) for answer in ANSWERS] + EVENTS
    for row in FORMS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(usage, "FORMS", tuple(each for each in FORMS if each is not row))
            patch.setattr(usage, "_PATHS", tuple(each for each in usage._PATHS if each[0] is not row))
            assert any(usage_of(body) != expected for body, expected in cases), row


def test_the_objects_of_client_libraries_are_read_by_their_attributes() -> None:
    completion = openai.types.chat.ChatCompletion.model_validate(
        chat({"role": "assistant", "content": "x"}, usage=TOKENS | {"prompt_tokens_details": {"cached_tokens": 3}}))
    assert usage_of(completion) == Usage(19, 10, 29, 3)
    chunk = openai.types.chat.ChatCompletionChunk.model_construct(
        choices=[], usage=openai.types.CompletionUsage(**TOKENS))
    assert usage_of(chunk) == Usage(19, 10, 29)
    assert usage_of(openai.types.responses.Response.model_construct(
        usage=openai.types.responses.ResponseUsage.model_validate(RESPONSES_API["usage"] | {
            "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0}}))) == Usage(36, 87, 123, 8)
    assert usage_of(anthropic.types.Message.model_validate(anthropic_message([]))) == Usage(2112, 5, 2117, 2000)
    assert usage_of(SimpleNamespace(usage=SimpleNamespace(prompt_tokens=1, completion_tokens=2))) == Usage(1, 2, 3)
    assert usage_of(SimpleNamespace(usage_metadata=SimpleNamespace(
        prompt_token_count=5, candidates_token_count=None, thoughts_token_count=7, total_token_count=12))) == (
        Usage(5, 7, 12))


def test_the_headers_of_tgi_are_read_where_the_body_says_nothing() -> None:
    headers = {"X-Prompt-Tokens": "9", "x-generated-tokens": "20", "x-queue-time": "1250"}
    body = [{"generated_text": "Good day"}]
    expected = Usage(9, 20, 29, queue_seconds=1.25)
    assert usage_of(response(body, **headers)) == expected
    assert usage_of(httpx.Response(200, json=body, headers=headers)) == expected
    assert usage_of(response(b"<html>", **headers)) == expected
    told = response({"generated_text": "x", "details": {"generated_tokens": 3}}, **headers)
    assert usage_of(told) == Usage(9, 3, 12, queue_seconds=1.25)
    assert usage_of(response(chat({}, usage=TOKENS), **headers)) == Usage(19, 10, 29, queue_seconds=1.25)
    for nonsense in ("", "-1", "nan", "inf", "1e300", "many", "9" * 5000, "1.5"):
        assert usage_of(response(body, X_Prompt_Tokens=nonsense)) is None


def test_a_body_that_was_not_read_stays_unread() -> None:
    touched: list[str] = []

    class Wire:
        def __getattr__(self, name: str) -> Any:
            touched.append(name)
            raise AttributeError(name)

    old: Any = requests.Response()
    old.status_code, old.raw = 200, Wire()
    old.headers["x-prompt-tokens"] = "9"
    assert usage_of(old) == Usage(input=9)
    assert old._content is False

    class Stream(httpx.SyncByteStream):
        def __iter__(self) -> Any:
            touched.append("iter")
            return iter([b"{}"])

    assert usage_of(httpx.Response(200, stream=Stream(), headers={"x-prompt-tokens": "9"})) == Usage(input=9)
    assert not touched


def test_a_model_that_was_loaded_for_the_call_shows() -> None:
    loaded = usage_of({"model": "m", "response": "", "done": True, "done_reason": "load",
                       "load_duration": 12_000_000_000})
    assert loaded == Usage(load_seconds=12.0)


def test_a_stream_tells_when_it_has_ended() -> None:
    sample = next(each for each in STREAMS if each.source == "Anthropic")
    stream = stream_text([sample.body])
    assert usage_of(stream) is None
    assert list(stream) == sample.pieces
    assert usage_of(stream) == sample.usage is not None
    assert usage_of(sample.usage) is sample.usage


ODD: list[Any] = [-1, True, False, math.nan, math.inf, -math.inf, 10**10, 10**5000, 1e300, 1.5, "5", [], {}, b"5",
                  object()]


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_what_is_no_number_of_tokens_is_none(value: Any) -> None:
    assert usage_of(chat({}, usage={"prompt_tokens": value, "completion_tokens": 2})) == Usage(output=2)
    assert usage_of(chat({}, usage={"prompt_tokens": value})) is None
    assert usage_of(chat({}, usage=TOKENS | {"total_tokens": value})) == Usage(19, 10, 29)
    assert usage_of({"usage": {"input_tokens": 5, "cache_read_input_tokens": value, "output_tokens": 2}}) == (
        Usage(output=2))  # a sum of which a part is unknown is unknown
    assert usage_of({"load_duration": value if value not in (10**10, 1.5) else -1, "eval_count": 2}) == Usage(output=2)


def test_a_part_that_is_null_adds_nothing() -> None:
    assert usage_of({"usage": {"input_tokens": 5, "cache_read_input_tokens": None, "output_tokens": 2}}) == (
        Usage(5, 2, 7))
    assert usage_of({"usage": TOKENS | {"total_tokens": None}}) == Usage(19, 10, 29)
    assert usage_of({"usage": TOKENS | {"total_tokens": 40}}) == Usage(19, 10, 40)  # the server's own sum


@pytest.mark.parametrize("answer", [None, 5, "Good day", b"", "{", [], {}, {"usage": None}, {"usage": {}}, {"usage": 5},
                                    {"usage": []}, {"details": "x"}, {"message": "x"}, [[]], "[" * 100_000, object(),
                                    requests.Response(), {"usage": {"prompt_tokens": {"a": 1}}}])
def test_what_tells_nothing_is_none(answer: Any) -> None:
    assert usage_of(answer) is None


def test_a_body_larger_than_the_bound_tells_nothing() -> None:
    body = json.dumps(chat({}, usage=TOKENS))
    assert usage_of(body, max_bytes=len(body)) == Usage(19, 10, 29)
    assert usage_of(body, max_bytes=len(body) - 1) is None
    with pytest.raises(ConfigError, match="max_bytes"):
        usage_of(body, max_bytes=0)


def test_objects_that_raise_when_looked_at_are_none() -> None:
    def raises(self: object, *args: object) -> Any:
        raise RuntimeError

    for name in ("usage", "json", "__getattribute__", "eval_count", "headers"):
        assert usage_of(type("Hostile", (), {name: property(raises) if name[0] != "_" else raises})()) is None


def test_a_usage_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Usage(1, 2).input = 3  # type: ignore[misc]  # the test
