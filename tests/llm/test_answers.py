"""The text in the answers of the APIs, and what is said of answers without one."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import anthropic.types
import httpx
import openai.types.chat
import openai.types.responses
import pytest
import requests
import urllib3
from samples import ANSWERS, RESPONSES_API, Answer, anthropic_message, chat, gemini, response

from llm_guard import retry
from llm_guard.clock.virtual import VirtualClock
from llm_guard.errors import Cancelled, ConfigError, GuardError
from llm_guard.llm import AnswerError, answers, outcome_of, text_of
from llm_guard.llm.answers import CALLS, ENDINGS, ENDS, SHAPES
from llm_guard.llm.errors import CODES
from llm_guard.outcome import FAILURE, TIMEOUT, Kind, Outcome

MB = 1024 * 1024
CASES = [pytest.param(each, id=each.source) for each in ANSWERS]


def error_of(answer: Any, **options: Any) -> AnswerError:
    with pytest.raises(AnswerError) as caught:
        text_of(answer, **options)
    return caught.value


def text_or_kind(answer: Any) -> str | Kind:
    try:
        return text_of(answer)
    except AnswerError as error:
        return error.outcome.kind


# Texts


@pytest.mark.parametrize("answer", CASES)
def test_the_text_is_found_in_parsed_json_in_a_body_and_in_a_response(answer: Answer) -> None:
    body = json.dumps(answer.body)
    ways = [answer.body, body, body.encode(), bytearray(body.encode()), memoryview(body.encode()),
            body.encode("utf-16"), b"\xef\xbb\xbf" + body.encode(), f"\n {body}\r\n", response(body.encode()),
            httpx.Response(200, content=body), urllib3.HTTPResponse(body.encode())]
    assert [text_of(way) for way in ways] == [answer.text] * len(ways)


def test_each_shape_in_the_table_is_that_of_some_answer() -> None:
    """No row of the table is dead: without it, some text above would not be found."""
    for row in SHAPES:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(answers, "SHAPES", tuple(each for each in SHAPES if each is not row))
            assert any(text_or_kind(answer.body) != answer.text for answer in ANSWERS), row


def test_the_objects_of_client_libraries_are_read_by_their_attributes() -> None:
    completion = openai.types.chat.ChatCompletion.model_validate(chat({"role": "assistant", "content": "Good day"}))
    assert text_of(completion) == "Good day"
    assert text_of(openai.types.responses.Response.model_construct(
        **RESPONSES_API | {"output": [openai.types.responses.ResponseOutputMessage.model_validate(
            RESPONSES_API["output"][1] | {"id": "1"})]})) == "Good day"
    assert text_of(anthropic.types.Message.model_validate(
        anthropic_message([{"type": "thinking", "thinking": "hm", "signature": "x"},
                           {"type": "text", "text": "Good day"}]))) == "Good day"
    # Google's own library turns the names of the JSON.
    candidate = SimpleNamespace(content=SimpleNamespace(parts=[SimpleNamespace(text="Good day", thought=None)]))
    assert text_of(SimpleNamespace(candidates=[candidate], prompt_feedback=None)) == "Good day"
    blocked = SimpleNamespace(candidates=None, prompt_feedback=SimpleNamespace(block_reason="SAFETY"))
    assert error_of(blocked).what == "the answer was blocked or refused"


def test_an_error_in_a_client_library_s_object_is_read_too() -> None:
    failed = openai.types.responses.Response.model_construct(
        status="failed", output=[], error=openai.types.responses.ResponseError(
            code="rate_limit_exceeded", message="secret"))
    error = error_of(failed)
    assert (error.code, error.outcome) == ("rate_limit_exceeded", Outcome(Kind.LIMITED))
    assert "secret" not in str(error)
    assert error_of(SimpleNamespace(error={"type": "overloaded_error"})).outcome.kind is Kind.OVERLOAD


def test_a_text_in_an_answer_may_itself_look_like_json_or_html() -> None:
    assert text_of({"generated_text": '{"error": "no"}'}) == '{"error": "no"}'
    assert text_of({"generated_text": "<html></html>"}) == "<html></html>"


@pytest.mark.parametrize("text", ["Good day", "", "42", "null", '"quoted"', "<b>bold</b>", "data: see below", " \n"])
def test_a_plain_str_is_the_text_itself(text: str) -> None:
    assert text_of(text) == text
    assert text_of(text.encode()) == text


@pytest.mark.parametrize("body", [b'"Good day"', b' "Good day" '])
def test_the_body_of_a_response_may_be_a_json_string(body: bytes) -> None:
    assert text_of(response(body)) == "Good day"


def test_what_stands_in_for_a_response_needs_a_json_alone() -> None:
    double = MagicMock()
    double.json.return_value = chat({"content": "Good day"})
    assert text_of(double) == "Good day"
    assert text_of(type("Fake", (), {"json": lambda self: [{"generated_text": "Good day"}]})()) == "Good day"


# Errors that came with status 200

ERRORS: list[tuple[Any, Kind, str | None]] = [
    # an error member, instead of the answer and beside it
    ({"error": {"code": 429, "message": "secret"}, "user_id": "u"}, Kind.LIMITED, "429"),
    ({"error": {"code": 502, "message": "secret", "metadata": {"provider_name": "secret"}}}, Kind.FAILURE, "502"),
    (chat({"content": "half a secret"}, error={"code": "server_is_overloaded"}), Kind.OVERLOAD, "server_is_overloaded"),
    ({"id": "gen-1", "choices": [{"error": {"code": 502, "message": "secret"}, "finish_reason": "error",
                                  "message": {"content": "half a secret"}}]}, Kind.FAILURE, "502"),
    ({"choices": [{"error": {"code": 429, "message": "secret"}, "message": {"content": ""}}]}, Kind.LIMITED, "429"),
    ({"error": "secret", "estimated_time": 20.0}, Kind.LOADING, None),
    ({"error": ["secret"], "warnings": ["secret"]}, Kind.FAILURE, None),
    ({"error": "Model is overloaded", "error_type": "overloaded"}, Kind.OVERLOAD, "overloaded"),
    ({"error": "secret", "error_type": "validation"}, Kind.INVALID, "validation"),
    ({"error": "server busy, please try again.  maximum pending requests exceeded"}, Kind.OVERLOAD, None),
    ({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, Kind.LOADING, "503"),
    ({"type": "error", "error": {"type": "overloaded_error", "message": "secret"}}, Kind.OVERLOAD, "overloaded_error"),
    ({"type": "error", "error": {"type": "rate_limit_error", "details": {"error_code": "ramp_limit_exceeded"}}},
     Kind.GROWTH_LIMITED, "ramp_limit_exceeded"),
    ({"error": {"message": "secret", "type": "insufficient_quota", "code": "secret"}}, Kind.QUOTA,
     "insufficient_quota"),
    ({"error": {"message": "secret", "code": "secret_spend_limit_exceeded"}}, Kind.QUOTA, None),
    # a failure by its status
    (RESPONSES_API | {"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "secret"}},
     Kind.LIMITED, "rate_limit_exceeded"),
    ({"status": "failed", "error": None, "output": ["half a ", "secret"]}, Kind.FAILURE, None),
    ({"status": "failed", "error": "secret", "output": None}, Kind.FAILURE, None),
    ({"object": "error", "message": "secret", "type": "secret", "code": 429}, Kind.LIMITED, "429"),
    ({"type": "error", "code": "rate_limit_exceeded", "message": "secret"}, Kind.LIMITED, "rate_limit_exceeded"),
    # in a list, as Google's OpenAI-compatible route and HF's older paths have it
    ([{"error": {"code": 429, "message": "secret", "status": "RESOURCE_EXHAUSTED"}}], Kind.LIMITED, "429"),
    ([{"error": {"code": 503, "message": "secret", "status": "UNAVAILABLE"}}], Kind.OVERLOAD, "503"),
    ([{"error": "Model gpt2 is currently loading", "estimated_time": 20.0}], Kind.LOADING, None),
    ([[{"error": "secret"}]], Kind.FAILURE, None),
]


@pytest.mark.parametrize(("body", "kind", "code"), ERRORS)
def test_an_error_that_came_with_status_200_says_what_the_guards_need(body: Any, kind: Kind, code: str | None) -> None:
    hint = 20.0 if "estimated_time" in json.dumps(body) else None
    for answer, status in ((body, None), (json.dumps(body), None), (response(body), 200),
                           (httpx.Response(200, json=body), 200)):
        error = error_of(answer)
        assert error.what == "the answer is an error"
        assert (error.status, error.code) == (status, code)
        assert outcome_of(error) == Outcome(kind, hint)
        assert "secret" not in str(error) + repr(error) + repr(vars(error))


def test_the_headers_of_the_response_are_heard() -> None:
    limits = {"Retry-After": "7", "x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "1m"}
    said = {"error": {"code": "rate_limit_exceeded"}}
    assert outcome_of(error_of(response(said, **limits))) == Outcome(Kind.LIMITED, 7.0, True, 3.0, 60.0)
    assert outcome_of(error_of(httpx.Response(200, json=said, headers=limits))) == Outcome(
        Kind.LIMITED, 7.0, True, 3.0, 60.0)
    calls = chat({"content": None}, "tool_calls")
    assert outcome_of(error_of(response(calls, **limits))) == Outcome(Kind.INVALID, None, True, 3.0, 60.0)
    tokens = {"x-ratelimit-remaining-tokens": "900", "x-ratelimit-reset-tokens": "5s"}
    assert outcome_of(error_of(response(calls, **limits, **tokens))) == Outcome(
        Kind.INVALID, None, True, 3.0, 60.0, 900.0, 5.0)


@pytest.mark.parametrize(("status", "body", "kind"), [
    (429, b'{"error": {"code": "insufficient_quota"}}', Kind.QUOTA), (503, b"<html>secret</html>", Kind.OVERLOAD),
    (503, b'{"error": "secret", "estimated_time": 5}', Kind.LOADING), (500, b"", Kind.FAILURE),
    (502, b"upstream secret", Kind.FAILURE), (503, b"Model is loading, secret", Kind.LOADING),
    (400, b'"secret"', Kind.INVALID),
    (500, b'[{"generated_text": "secret"}]', Kind.FAILURE), (404, b'{"detail": "secret"}', Kind.INVALID),
    (529, b"data: {}\n\n", Kind.OVERLOAD), (429, b'{"error": "cut o', Kind.LIMITED)])
def test_a_response_of_400_and_above_is_no_answer_whatever_its_body(status: int, body: bytes, kind: Kind) -> None:
    error = error_of(response(body, status))
    assert error.status == status
    assert str(status) in str(error)
    assert error.outcome.kind is kind
    assert "secret" not in str(error)


def test_no_code_is_shown_that_is_not_known() -> None:
    error = error_of({"error": {"code": "my secret", "type": 12, "status": ["secret"]}})
    assert error.code is None
    assert "secret" not in str(error)
    assert error_of({"error": {"code": 404}}).code == "404"
    assert error_of({"error": {"code": 40404}}).code is None
    assert error_of({"error": {"code": True}}).code is None
    assert all(code.isascii() and len(code) < 50 for code in CODES)


def test_a_retry_hears_what_an_answer_without_a_text_means() -> None:
    """A cold start under status 200 is waited out as long as it asks for; a quota or a block ends the call at once."""
    left: list[Any] = [{"error": "Model gpt2 is currently loading", "estimated_time": 20.0},
                       [{"generated_text": "Good day"}]]
    ask = retry(lambda: text_of(left.pop(0)))
    with VirtualClock() as time:
        assert ask() == "Good day"
        assert time.now() >= 20
    for last in ({"error": {"type": "insufficient_quota"}}, {"promptFeedback": {"blockReason": "SAFETY"}}):
        left[:] = [last, [{"generated_text": "Good day"}]]
        with VirtualClock(), pytest.raises(AnswerError):
            ask()
        assert len(left) == 1


# Endings: answers that say why they are none

TOOL = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
COHERE = {"message": {"role": "assistant", "content": [{"type": "text", "text": "secret"}]}}
BEDROCK = {"output": {"message": {"content": []}}}
REPLICATE: dict[str, Any] = {"id": "p", "output": None, "error": None}
ENDED: list[tuple[Any, str | None, Kind]] = [
    (chat({"content": "half a secret"}, "error"), "error", Kind.FAILURE),
    (COHERE | {"finish_reason": "ERROR"}, "ERROR", Kind.FAILURE),
    (COHERE | {"finish_reason": "TIMEOUT"}, "TIMEOUT", Kind.TIMEOUT),
    ({"finish_reason": "ERROR_TOXIC", "message": {"content": []}}, "ERROR_TOXIC", Kind.INVALID),
    (chat({"content": "half a secret"}, "insufficient_system_resource"), "insufficient_system_resource", Kind.OVERLOAD),
    ({"model": "m", "response": "", "done": True, "done_reason": "load"}, "load", Kind.FAILURE),
    ({"message": {"content": ""}, "done": True, "done_reason": "unload"}, "unload", Kind.FAILURE),
    (REPLICATE | {"status": "starting"}, "starting", Kind.LOADING),
    (REPLICATE | {"status": "processing", "output": ["half a ", "secret"]}, "processing", Kind.TIMEOUT),
    (REPLICATE | {"status": "canceled"}, "canceled", Kind.IGNORED),
    (REPLICATE | {"status": "aborted"}, "aborted", Kind.IGNORED),
    (RESPONSES_API | {"status": "cancelled"}, "cancelled", Kind.IGNORED),
    (RESPONSES_API | {"status": "queued", "output": []}, "queued", Kind.TIMEOUT),
    (RESPONSES_API | {"status": "in_progress", "output": []}, "in_progress", Kind.TIMEOUT),
    (RESPONSES_API | {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": []},
     "max_output_tokens", Kind.INVALID),
    (chat({"content": None}, "content_filter"), "content_filter", Kind.INVALID),
    (chat({"content": ""}, "length"), "length", Kind.INVALID),
    (chat({"content": ""}, "model_length"), "model_length", Kind.INVALID),
    (chat({"content": None, "tool_calls": TOOL}, "tool_calls"), "tool_calls", Kind.INVALID),
    (chat({"content": "", "tool_calls": TOOL}, "stop"), None, Kind.INVALID),
    (chat({"content": None, "function_call": {}}, "function_call"), "function_call", Kind.INVALID),
    (RESPONSES_API | {"output": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]}, None,
     Kind.INVALID),
    (anthropic_message([{"type": "tool_use", "id": "t", "name": "f", "input": {}}], "tool_use"), "tool_use",
     Kind.INVALID),
    (anthropic_message([], "refusal"), "refusal", Kind.INVALID),
    (anthropic_message([], "max_tokens"), "max_tokens", Kind.INVALID),
    (anthropic_message([], "model_context_window_exceeded"), "model_context_window_exceeded", Kind.INVALID),
    ({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {}}, "SAFETY", Kind.INVALID),
    ({"promptFeedback": {"blockReason": "SOMETHING_NEW"}}, None, Kind.INVALID),
    *((gemini([], reason), reason, Kind.INVALID) for reason in (
        "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "MAX_TOKENS")),
    (gemini([{"functionCall": {"name": "f", "args": {}}}]), None, Kind.INVALID),
    ({"finish_reason": "TOOL_CALL", "message": {"role": "assistant", "tool_calls": TOOL}}, "TOOL_CALL", Kind.INVALID),
    (BEDROCK | {"stopReason": "content_filtered"}, "content_filtered", Kind.INVALID),
    (BEDROCK | {"stopReason": "guardrail_intervened"}, "guardrail_intervened", Kind.INVALID),
    ({"message": {"role": "assistant", "content": "", "tool_calls": [{"function": {}}]}, "done": True}, None,
     Kind.INVALID),
]


@pytest.mark.parametrize(("body", "word", "kind"), ENDED)
def test_an_answer_that_ended_without_a_text_says_why(body: Any, word: str | None, kind: Kind) -> None:
    error = error_of(body)
    assert error.what != "no text in the answer"
    assert error.code == word
    assert outcome_of(error) == Outcome(kind)
    assert "secret" not in str(error)


def test_each_word_and_each_place_in_the_tables_is_met() -> None:
    assert {word for _, word, _ in ENDED if word} == set(ENDINGS)
    for name, table in (("ENDS", ENDS), ("CALLS", CALLS)):
        for row in table:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(answers, name, tuple(each for each in table if each is not row))
                assert any(text_or_kind(body) is not kind for body, _, kind in ENDED), row


@pytest.mark.parametrize("body", [
    chat({"content": "Good day"}, "length"), chat({"content": "Good day"}, "content_filter"),
    chat({"content": "Good day", "tool_calls": TOOL}, "tool_calls"), gemini([{"text": "Good day"}], "SAFETY"),
    anthropic_message([{"type": "text", "text": "Good day"}], "tool_use"),
    BEDROCK | {"stopReason": "guardrail_intervened", "output": {"message": {"content": [{"text": "Good day"}]}}}])
def test_a_text_that_was_cut_short_is_a_text(body: Any) -> None:
    assert text_of(body) == "Good day"


@pytest.mark.parametrize("body", [gemini([], "OTHER"), gemini([], "MALFORMED_FUNCTION_CALL"), chat({"content": None}),
                                  {"choices": []}, {"detail": "secret"}, {"message": "secret"}])
def test_what_has_no_text_for_no_reason_told_is_a_failure(body: Any) -> None:
    error = error_of(body)
    assert error.what == "no text in the answer"
    assert outcome_of(error) == Outcome(Kind.FAILURE)


# Shapes


@pytest.mark.parametrize(("answer", "shape"), [
    ({"error": "secret", "estimated_time": 20.0}, "dict with keys error, estimated_time"),
    ([{"error": {"code": 429, "message": "secret"}}], "list of 1, the first a dict with keys error"),
    ({"error": "secret", "secret": 1, "secret2": 2}, "dict with keys error and 2 more"),
    ({"secret": "secret"}, "dict of 1 keys"),
    (chat({"content": None, "tool_calls": []}), "dict with keys choices, created, id, model, object"),
    ({"choices": []}, "dict with keys choices"),
    ({"response": "", "done": True, "done_reason": "load"}, "dict with keys done, done_reason, response"),
    ({"generated_text": None}, "dict with keys generated_text"),
    ([], "empty list"),
    ([[["secret"]]], "list of 1, the first a list"),
    (["secret"], "list of 1, the first a str of length 6"),
    (None, "NoneType"),
    (17, "int"),
    (float("nan"), "float"),
    ({"generated_text": float("nan")}, "dict with keys generated_text"),
    ('[{"generated_text": "cut o', "str of length 26"),
    (b'{"error": ', "bytes of length 10"),
    (b"\xff\xfe secret", "bytes of length 9"),
    (requests.Response(), "Response"),
    (object(), "object"),
])
def test_what_has_no_text_is_told_by_its_shape(answer: Any, shape: str) -> None:
    error = error_of(answer)
    assert error.shape == shape
    assert shape in str(error)
    assert "secret" not in str(error)


def test_the_error_is_one_of_ours_and_can_be_pickled() -> None:
    error = error_of(response({"error": {"code": "slow_down"}}, 200, Retry_After="3"))
    assert isinstance(error, GuardError)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is AnswerError
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert outcome_of(again) == Outcome(Kind.GROWTH_LIMITED, 3.0)


def test_a_long_list_of_names_is_bounded() -> None:
    error = error_of(dict.fromkeys(["code", "created", "data", "delta", "detail", "details", "done", "id", "index",
                                    "model", "object", "role", "score", "usage"]))
    assert error.shape.endswith("and 6 more")


# Bodies that are no whole JSON

BODIES: list[tuple[bytes, str, Kind]] = [
    (b"<html><body>secret</body></html>", "a page of HTML or XML", Kind.FAILURE),
    (b"\n<!DOCTYPE html>\n<html>secret", "a page of HTML or XML", Kind.FAILURE),
    (b'<?xml version="1.0"?><Error>secret</Error>', "a page of HTML or XML", Kind.FAILURE),
    (b'{"generated_text": "secr', "JSON that was cut off", Kind.FAILURE),
    (b'{"generated_text": "secret"', "JSON that was cut off", Kind.FAILURE),
    (b'{"generated_text": "secret",\n', "JSON that was cut off", Kind.FAILURE),
    (b'[{"generated_text": ', "JSON that was cut off", Kind.FAILURE),
    (b'{"generated_text": secret}', "broken JSON", Kind.FAILURE),
    (b'{"generated_text": "a\nsecret"}', "broken JSON", Kind.FAILURE),
    (b"{'generated_text': 'secret'}", "broken JSON", Kind.FAILURE),
    (b'{"generated_text": "secret"}}', "broken JSON", Kind.FAILURE),
    (b'{"response": "secret"}\n{"response": "secret"}\n', "a stream of events, which stream_text reads", Kind.INVALID),
    (b'data: {"choices": []}\n\n', "a stream of events, which stream_text reads", Kind.INVALID),
    (b"event: message_start\ndata: {}\n\n", "a stream of events, which stream_text reads", Kind.INVALID),
    (b"[" * 100_000, "nested too deep", Kind.FAILURE),
    (b'{"a":' * 100_000, "nested too deep", Kind.FAILURE),
    (b'{"a": ' + b"9" * 10_000 + b"}", "broken JSON", Kind.FAILURE),
    (b"\xff\xfe\x00", "in an unknown encoding", Kind.FAILURE),
    (b"secret \xe9", "in an unknown encoding", Kind.FAILURE),
]


@pytest.mark.parametrize(("body", "what", "kind"), BODIES, ids=range(len(BODIES)))
def test_a_body_that_is_no_json_raises_without_it(body: bytes, what: str, kind: Kind) -> None:
    for answer, shape in ((body, f"bytes of length {len(body)}"), (response(body), f"Response of {len(body)} bytes"),
                          (httpx.Response(200, content=body), f"Response of {len(body)} bytes")):
        error = error_of(answer)
        assert error.what.startswith("the answer is") and error.what.endswith(what)  # noqa: PT018 - one phrase
        assert error.shape == shape
        assert outcome_of(error) == Outcome(kind)
        assert error.__context__ is None  # the error of the JSON library holds the body
        assert "secr" not in str(error)


@pytest.mark.parametrize(("body", "what"), [
    (b"", "empty"), (b" \n", "empty"), (b"secret", "not JSON"), (b"error code: 1015", "not JSON"),
    (b'"cut o', "JSON that was cut off")])
def test_the_body_of_a_response_must_be_json(body: bytes, what: str) -> None:
    error = error_of(response(body))
    assert error.what == f"the answer is {what}"
    assert outcome_of(error) == Outcome(Kind.FAILURE)


@pytest.mark.parametrize(("content_type", "encoding"), [
    ("application/json; charset=ISO-8859-1", "latin-1"), ('text/plain;charset="windows-1251"', "cp1251"),
    ("application/json; charset=Shift_JIS", "shift_jis"), ("application/json", "utf-16-le"),
    ("application/json", "utf-32"), ("application/json; charset=latin-1", "utf-8")])
def test_the_encoding_is_found_out_or_read_from_the_header(content_type: str, encoding: str) -> None:
    text = {"latin-1": "Grüß Gott", "cp1251": "добрый день", "shift_jis": "こんにちは"}.get(encoding, "добрый день 😀")
    body = json.dumps([{"generated_text": text}], ensure_ascii=False).encode(encoding)
    assert text_of(response(body, Content_Type=content_type)) == text
    assert text_of(httpx.Response(200, content=body, headers={"Content-Type": content_type})) == text


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8",
                                          "application/json; charset=punycode", "application/json; charset=nonsense"])
def test_a_byte_that_is_no_character_costs_that_character_alone(content_type: str) -> None:
    """As where a model's last token holds half a character."""
    body = b'[{"generated_text": "Good day \xf0\x9f\x98"}]'
    assert text_of(response(body, Content_Type=content_type)) == "Good day \ufffd"
    assert text_of(body) == "Good day \ufffd"


# Bounds


def test_a_body_larger_than_the_bound_is_an_error_and_the_bound_can_be_set() -> None:
    body = b'{"generated_text": "%b"}' % (b"word " * 100)
    assert text_of(body, max_bytes=len(body)) == "word " * 100
    for answer in (body, response(body), httpx.Response(200, content=body), body.decode()):
        error = error_of(answer, max_bytes=len(body) - 1)
        assert error.what == f"the answer is larger than {len(body) - 1} bytes"
        assert outcome_of(error) == Outcome(Kind.INVALID)  # the next one would be as large


@pytest.mark.parametrize("bad", [0, -1, 1.5, "5", None, True])
def test_a_bound_that_cannot_work_is_told(bad: Any) -> None:
    with pytest.raises(ConfigError, match="max_bytes"):
        text_of("Good day", max_bytes=bad)


def test_50_mb_are_an_answer_where_the_bound_lets_them_in(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'[{"generated_text": "' + b"word " * (10 * MB) + b'"}]'
    assert len(text_of(body, max_bytes=64 * MB)) == 50 * MB
    monkeypatch.setattr(json, "loads", _raises)  # from here on nothing is to be parsed
    assert error_of(body).what == f"the answer is larger than {16 * MB} bytes"
    for many in (b"[" + b"[]," * (16 * MB) + b"[]]", b"[" + b"{}," * (16 * MB) + b"{}]", b"[" * (50 * MB)):
        error = error_of(many, max_bytes=64 * MB)
        assert error.what == "the answer is JSON of too many parts"
        assert outcome_of(error) == Outcome(Kind.INVALID)


# Bodies that were not read yet


@dataclass
class Wire:
    """A body on the wire, of which each chunk is taken on its own."""

    chunks: list[Any]
    taken: int = 0
    closed: bool = False

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            self.taken += 1
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    def stream(self, size: int, decode_content: bool) -> Iterator[bytes]:
        return iter(self)

    def close(self) -> None:
        self.closed = True

    release_conn = close


class HttpxWire(httpx.SyncByteStream):
    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.wire)

    def close(self) -> None:
        self.wire.close()


def unread(wire: Wire) -> list[Any]:
    """Responses of requests and of httpx whose body is still on the wire."""
    old: Any = requests.Response()
    old.status_code, old.raw = 200, wire
    return [old, httpx.Response(200, stream=HttpxWire(wire))]


def test_a_body_on_the_wire_is_read_and_stays_readable() -> None:
    for answer in unread(Wire([b'[{"generated', b'_text": "Good day"}]'])):
        assert text_of(answer) == "Good day"
        assert answer.json() == [{"generated_text": "Good day"}]
        assert text_of(answer) == "Good day"


def test_a_body_on_the_wire_is_read_no_further_than_the_bound() -> None:
    for number in range(2):
        wire = Wire([b"x" * 70_000] * 1000)
        error = error_of(unread(wire)[number], max_bytes=100_000)
        assert error.what == "the answer is larger than 100000 bytes"
        assert wire.taken == 2
        assert wire.closed


@pytest.mark.parametrize(("fault", "outcome"), [
    (requests.ConnectionError(), FAILURE), (requests.ReadTimeout(), TIMEOUT), (httpx.ReadTimeout(""), TIMEOUT),
    (RuntimeError("secret"), Outcome(Kind.FAILURE))])
def test_a_fault_while_the_body_is_read_is_told_as_what_it_is(fault: Exception, outcome: Outcome) -> None:
    for answer in unread(Wire([b'[{"gen', fault])):
        error = error_of(answer)
        assert error.what == "the answer could not be read"
        assert outcome_of(error) == outcome
        assert "secret" not in str(error)
        assert error.__context__ is None


def test_a_guard_that_cuts_the_reading_off_is_heard() -> None:
    for answer in unread(Wire([b"[", Cancelled("...")])):
        with pytest.raises(Cancelled):
            text_of(answer)


def test_a_body_whose_stream_was_used_up_elsewhere_is_told() -> None:
    for answer in unread(Wire([b"[]"])):
        for _ in answer.iter_bytes() if isinstance(answer, httpx.Response) else answer.iter_content():
            pass
        assert error_of(answer).what == "the answer could not be read"


# Whatever comes


def _raises(self: object, *args: object) -> Any:
    raise RuntimeError("secret")


def hostile() -> Iterator[Any]:
    for name in ("json", "content", "error", "status", "choices", "output", "__getattribute__", "__len__"):
        yield type("Hostile", (), {name: property(_raises) if name[0] != "_" else _raises})()
    yield type("D", (dict,), {"get": _raises, "__contains__": lambda self, key: True})(error="x")
    yield type("S", (str,), {"strip": _raises, "startswith": _raises})("{")
    looped: list[Any] = []
    looped.append(looped)
    yield looped


def test_no_object_makes_it_raise_anything_else() -> None:
    for value in hostile():
        told = ""
        try:
            text_of(value)
        except AnswerError as error:
            told = str(error)
        assert "secret" not in told
