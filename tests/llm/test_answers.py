"""The text in the answers of the APIs, and what is said of answers without one."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from llm_guard.errors import GuardError
from llm_guard.llm import AnswerError, text_of

RESPONSES_API = {
    "id": "resp_1", "object": "response", "status": "completed", "error": None,
    "output": [
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [
            {"type": "output_text", "text": "Good ", "annotations": []},
            {"type": "output_text", "text": "day", "annotations": []}]},
    ],
}


def chat(message: dict[str, Any]) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


@pytest.mark.parametrize(("answer", "text"), [
    pytest.param([{"generated_text": "Good day"}], "Good day", id="HF text generation"),
    pytest.param({"generated_text": "Good day", "details": {"finish_reason": "length"}}, "Good day", id="TGI"),
    pytest.param([[{"generated_text": "Good day"}], [{"generated_text": "Bye"}]], "Good day", id="HF several inputs"),
    pytest.param([{"summary_text": "Good day"}], "Good day", id="HF summarization"),
    pytest.param({"summary_text": "Good day"}, "Good day", id="HF summarization, bare"),
    pytest.param([{"translation_text": "Good day"}], "Good day", id="HF translation"),
    pytest.param({"translation_text": "Good day"}, "Good day", id="HF translation, bare"),
    pytest.param({"answer": "Good day", "score": 0.9, "start": 1, "end": 9}, "Good day", id="HF question answering"),
    pytest.param([{"answer": "Good day", "score": 0.9}, {"answer": "Bye", "score": 0.1}], "Good day", id="HF answers"),
    pytest.param({"generated_text": "Good day", "conversation": {"generated_responses": ["Hm", "Good day"]},
                  "warnings": []}, "Good day", id="HF conversational"),
    pytest.param({"conversation": {"generated_responses": ["Hm", "Good day"]}}, "Good day", id="HF conversation alone"),
    pytest.param(chat({"role": "assistant", "content": "Good day"}), "Good day", id="OpenAI chat"),
    pytest.param(chat({"content": [{"type": "text", "text": "Good "}, {"type": "text", "text": "day"}]}), "Good day",
                 id="OpenAI chat in parts"),
    pytest.param(chat({"content": None, "refusal": "I will not"}), "I will not", id="OpenAI refusal"),
    pytest.param({"object": "text_completion", "choices": [{"text": "Good day"}]}, "Good day", id="OpenAI completions"),
    pytest.param(RESPONSES_API, "Good day", id="OpenAI Responses"),
    pytest.param({"type": "message", "content": [{"type": "thinking", "thinking": "hm"},
                                                 {"type": "text", "text": "Good day"}]}, "Good day", id="Anthropic"),
    pytest.param({"message": {"role": "assistant", "content": "Good day"}, "done": True}, "Good day", id="Ollama chat"),
    pytest.param({"response": "Good day", "done": True, "done_reason": "stop"}, "Good day", id="Ollama generate"),
    pytest.param({"content": "Good day", "stop": True}, "Good day", id="llama.cpp"),
    pytest.param([{"generated_text": ""}], "", id="an empty text is a text"),
])
def test_the_text_is_found_in_parsed_json_and_in_a_body(answer: Any, text: str) -> None:
    assert text_of(answer) == text
    body = json.dumps(answer)
    assert text_of(body) == text
    assert text_of(body.encode()) == text


def response(content: bytes, status: int = 200) -> requests.Response:
    made = requests.Response()
    made.status_code, made._content = status, content
    return made


def test_a_response_is_read_by_its_json() -> None:
    assert text_of(response(b'[{"generated_text": "Good day"}]')) == "Good day"


def test_a_text_in_an_answer_may_itself_look_like_json() -> None:
    assert text_of({"generated_text": '{"error": "no"}'}) == '{"error": "no"}'


@pytest.mark.parametrize("text", ["Good day", "", "42", "null", '"quoted"'])
def test_a_plain_str_is_the_text_itself(text: str) -> None:
    assert text_of(text) == text


@pytest.mark.parametrize(("answer", "shape"), [
    ({"error": "secret", "estimated_time": 20.0}, "dict with keys error, estimated_time"),
    ([{"error": {"code": 429, "message": "secret"}}], "list of 1, the first a dict with keys error"),
    ({"error": "secret", "secret": 1, "secret2": 2}, "dict with keys error and 2 more"),
    (RESPONSES_API | {"status": "failed"}, "dict with keys error, id, object, output, status"),
    ({"secret": "secret"}, "dict of 1 keys"),
    (chat({"content": None, "tool_calls": []}), "dict with keys choices, id, object"),
    ({"choices": []}, "dict with keys choices"),
    ({"response": "", "done": True, "done_reason": "load"}, "dict with keys done, done_reason, response"),
    ({"generated_text": None}, "dict with keys generated_text"),
    ([], "empty list"),
    ([[["secret"]]], "list of 1, the first a list"),
    (["secret"], "list of 1, the first a str of length 6"),
    (None, "NoneType"),
    (17, "int"),
    ('[{"generated_text": "cut o', "str of length 26"),
    (b'{"error": ', "bytes of length 10"),
    (b"\xff\xfe secret", "bytes of length 9"),
])
def test_what_has_no_text_is_told_by_its_shape(answer: Any, shape: str) -> None:
    with pytest.raises(AnswerError) as caught:
        text_of(answer)
    assert caught.value.shape == shape
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content", [b"<html>secret</html>", b'{"generated_text": "secr', b""])
def test_a_response_that_is_not_json_raises_without_its_body(content: bytes) -> None:
    with pytest.raises(AnswerError) as caught:
        text_of(response(content))
    error = caught.value
    assert error.__context__ is None  # the error of the JSON library holds the body
    assert "secr" not in str(error)
    assert error.shape == f"Response of {len(content)} bytes"


def test_the_error_is_one_of_ours_and_can_be_pickled() -> None:
    with pytest.raises(GuardError) as caught:
        text_of({"error": "x"})
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is AnswerError
    assert isinstance(caught.value, AnswerError)
    assert again.shape == caught.value.shape
    assert str(again) == str(caught.value)


def test_a_long_list_of_names_is_bounded() -> None:
    with pytest.raises(AnswerError) as caught:
        text_of(dict.fromkeys(["code", "created", "data", "delta", "detail", "details", "done", "id", "index", "model",
                               "object", "role", "score", "usage"]))
    assert caught.value.shape.endswith("and 6 more")


MARK = "pay1oad"
payloads = st.text(max_size=8).map(lambda text: MARK + text)
NAMES = ["generated_text", "error", "choices", "message", "content", "output", "text", "type", "status", "conversation",
         "generated_responses", "response", "answer", "done_reason"]
shapes = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | payloads,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | payloads, inner, max_size=5),
    max_leaves=12)


@given(shapes)
def test_any_json_gives_its_text_or_an_error_that_tells_nothing_of_it(answer: Any) -> None:
    told = ""
    try:
        assert isinstance(text_of(answer), str)
    except AnswerError as error:
        told = str(error) + error.shape + repr(error) + repr(vars(error))
    assert MARK not in told


@given(st.binary() | st.text())
def test_any_body_gives_a_text_or_the_error(body: Any) -> None:
    try:
        assert isinstance(text_of(body), str)
    except AnswerError:
        pass


@pytest.mark.parametrize("body", ["[" * 100_000, '{"a":' * 100_000, "[" + "9" * 10_000 + "]"])
def test_json_made_to_break_the_parser_gives_the_error(body: Any) -> None:
    with pytest.raises(AnswerError):
        text_of(body)
