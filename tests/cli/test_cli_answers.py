"""Rows of the output, as JSON and as CSV."""

from __future__ import annotations

import csv
import json
import math
from io import StringIO
from typing import Any

import pytest
import requests

from llm_guard.cli.answers import CsvWriter, JsonWriter, UnusableLine, error_of, output_row, recorded
from llm_guard.cli.items import Item
from llm_guard.errors import CallTimeout, QuotaExhausted, Saturated
from llm_guard.llm.errors import AnswerError
from llm_guard.llm.text import Text
from llm_guard.llm.usage import Usage

ITEM = Item(4, 9, "id-4", "do not tell", {"title": "T", "tags": ["a"]})
ERROR = {"outcome": "invalid", "type": "HTTPError", "status": 404, "code": "model_not_found"}


def _http_error(status: int, body: object) -> requests.HTTPError:
    response = requests.Response()
    response.status_code, response._content = status, json.dumps(body).encode()
    response.headers["Content-Type"] = "application/json"
    return requests.HTTPError("do not tell", response=response)


def test_an_answer_is_kept_with_what_the_server_told_beside_it() -> None:
    assert recorded(Text("a")) == {"answer": "a"}
    answer = Text("a", usage=Usage(1, 2, 3, None, None), finish_reason="length")
    assert recorded(answer) == {
        "answer": "a", "finish_reason": "length", "usage": {"input": 1, "output": 2, "total": 3}}


@pytest.mark.parametrize(("error", "told"), [
    (_http_error(404, {"error": {"message": "do not tell", "code": "model_not_found"}}), ERROR),
    (_http_error(400, {"error": {"code": "do not tell"}}), {"outcome": "invalid", "type": "HTTPError", "status": 400}),
    (_http_error(500, "do not tell"), {"outcome": "failure", "type": "HTTPError", "status": 500}),
    (requests.ConnectionError("do not tell"), {"outcome": "failure", "type": "ConnectionError"}),
    (CallTimeout("do not tell", seconds=1), {"outcome": "timeout", "type": "CallTimeout"}),
    (Saturated("do not tell", policy="ramp_up"), {"outcome": "rejected", "type": "Saturated"}),
    (QuotaExhausted("do not tell", policy="ramp_up"), {"outcome": "quota", "type": "QuotaExhausted"}),
    (AnswerError("a dict", status=200, code="content_filter"),
     {"outcome": "failure", "type": "AnswerError", "status": 200, "code": "content_filter"}),
    (UnusableLine("line 3: no JSON"), {"outcome": "input", "type": "line", "message": "line 3: no JSON"}),
], ids=["404", "400", "500", "connection", "timeout", "saturated", "quota", "no text", "line"])
def test_an_error_is_told_by_outcome_type_status_and_known_code(error: Exception, told: dict[str, Any]) -> None:
    assert error_of(error) == told


def test_rows_of_json() -> None:
    stream = StringIO()
    writer = JsonWriter(stream)
    writer.write(output_row(ITEM, {"answer": "ü\n"}, None, True))
    writer.write(output_row(ITEM, None, ERROR, False))
    writer.write(output_row(Item(5, 5, None, "", {}), {"answer": "\ud83d"}, None, False))
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [
        {"index": 4, "id": "id-4", "input": {"title": "T", "tags": ["a"]}, "answer": "ü\n"},
        {"index": 4, "input": {"title": "T", "tags": ["a"]}, "answer": None, "error": ERROR},
        {"index": 5, "answer": "\ud83d"}]
    assert "ü" in stream.getvalue()
    stream.getvalue().encode()  # all of it can be written


def test_rows_of_csv() -> None:
    stream = StringIO()
    writer = CsvWriter(stream, True, ("title", "tags"))
    writer.write(output_row(ITEM, {"answer": 'a "b",\nc', "usage": {"input": 1, "output": 2}}, None, True))
    writer.write(output_row(ITEM, None, ERROR, True))
    answered, failed = csv.DictReader(StringIO(stream.getvalue()))
    assert list(answered) == ["index", "id", "input.title", "input.tags", "answer", "finish_reason", "input_tokens",
                              "output_tokens", "total_tokens", "cached_tokens", "error", "status", "code", "message"]
    assert answered == {**dict.fromkeys(answered, ""), "index": "4", "id": "id-4", "input.title": "T",
                        "input.tags": '["a"]', "answer": 'a "b",\nc', "input_tokens": "1", "output_tokens": "2"}
    assert failed == {**dict.fromkeys(answered, ""), "index": "4", "id": "id-4", "input.title": "T",
                      "input.tags": '["a"]', "error": "invalid", "status": "404", "code": "model_not_found"}


def test_what_is_no_number_is_null_since_json_has_none() -> None:
    stream = StringIO()
    writer = JsonWriter(stream)
    for kept in ({"x": math.nan, "y": [math.inf, 1.5, {"z": -math.inf}]}, {"x": [math.nan, "\ud800"]}):
        writer.write({"index": 0, "input": kept})

    def refused(word: str) -> None:
        raise AssertionError(word)

    assert [json.loads(line, parse_constant=refused)["input"] for line in stream.getvalue().splitlines()] == [
        {"x": None, "y": [None, 1.5, {"z": None}]}, {"x": [None, "\ud800"]}]
