"""The lines and the events of streams."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_guard.llm.lines import lines_of, pieces_of
from llm_guard.llm.sse import BROKEN, DONE, PAGE, Event, events_of

MOST = 10_000


def events(*lines: str) -> list[Event]:
    return list(events_of((line.encode() for line in lines), MOST))


def values(*lines: str) -> list[Any]:
    return [event.value for event in events(*lines)]


@pytest.mark.parametrize(("chunks", "lines"), [
    ([b"a\nb\n"], [b"a", b"b"]), ([b"a\r\nb\r\n"], [b"a", b"b"]), ([b"a\rb\r"], [b"a", b"b"]),
    ([b"a\n\nb"], [b"a", b"", b"b"]), ([b"a\r\rb"], [b"a", b"", b"b"]), ([b"a\r\n\r\nb"], [b"a", b"", b"b"]),
    ([b"a\r", b"\nb\n"], [b"a", b"b"]), ([b"a\r", b"", b"\n", b"\nb"], [b"a", b"", b"b"]),
    ([b"a\r", b"b"], [b"a", b"b"]), ([b"a\n", b"\r", b"\n", b"b"], [b"a", b"", b"b"]),
    ([b"a", b"b", b"\n", b"c"], [b"ab", b"c"]), ([b"", b"a\n", b"", b""], [b"a"]), ([], []), ([b""], []),
    ([b"\n"], [b""]), ([b"a\x0bb\x0cc\x1cd\xc2\x85e\xe2\x80\xa8f\n"], [b"a\x0bb\x0cc\x1cd\xc2\x85e\xe2\x80\xa8f"]),
])
def test_chunks_are_cut_at_the_three_ends_of_lines_alone(chunks: list[bytes], lines: list[bytes]) -> None:
    assert list(lines_of(chunks, MOST)) == lines


@pytest.mark.parametrize("lines", [
    [b"data: {}", b"", b"data: {}", b""], [b'{"a": 1}', b'{"b": 2}'], [b"event: a", b"data: {}", b"", b"event: b"],
    [b"data: [DONE]", b"", b"data: {}"], [b": comment", b"data: {}"], [b"id: 1", b"retry: 5", b"data: x"],
    [b'data: {"a": "' + b"x" * 9000 + b'"}', b"", b"data: {}", b""], [b'{"a": "' + b"x" * 9000 + b'"}', b"{}"],
    [b'data: {"a": "' + b"x" * 9000 + b'"}', b"data: {}"], [b"\xef\xbb\xbfevent: a", b"data: {}"],
    [b'{"a": 1}', b"", b"", b'{"b": 2}'],
])
def test_lines_that_were_cut_already_stay_as_they_are(lines: list[bytes]) -> None:
    assert list(lines_of(lines, MOST)) == lines


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_chunk_that_ends_just_before_the_line_does_is_still_a_chunk(end: bytes) -> None:
    """Though it looks like a line that was cut already, until the next one comes."""
    whole = b'data: {"a": 1}' + end + end + b'data: {"b":' + end + b"data: 2}" + end
    for place in range(1, len(whole)):
        for second in range(place + 1, len(whole)):
            chunks = [whole[:place], whole[place:second], whole[second:]]
            assert list(lines_of(chunks, MOST)) == [b'data: {"a": 1}', b"", b'data: {"b":', b"data: 2}"], chunks


def test_pieces_may_be_of_any_kind_of_text() -> None:
    assert list(pieces_of(["é", b"b", bytearray(b"c"), memoryview(b"d"), "\ud800"])) == [
        "é".encode(), b"b", b"c", b"d", b"\xed\xa0\x80"]


def test_the_fields_of_an_event_are_read_as_the_standard_has_it() -> None:
    assert events('data: {"a": 1}', "") == [Event(None, {"a": 1})]
    assert events('data:{"a": 1}', "") == [Event(None, {"a": 1})]
    assert events("event: ping", 'data: {"a": 1}', "", 'data: {"b": 2}', "") == [
        Event("ping", {"a": 1}), Event(None, {"b": 2})]
    assert events('data: {"a": 1}', "event: late", "") == [Event("late", {"a": 1})]
    assert values("data: {", 'data: "a":', "data: 1}", "") == [{"a": 1}]
    assert events("event: a", "event: b", 'data: {"a": 1}', "") == [Event("b", {"a": 1})]
    assert events("data: plain", "data:  text ", "") == [Event(None, "plain\n text")]
    assert events(": comment", "id: 1", "retry: 5", "unknown: x", "data", "data:", "event: none", "", "") == []
    assert events("\ufeffdata: {}", "") == [Event(None, {})]
    assert events("datax: {}", "") == []
    assert values("data: {}") == [{}]  # at the end of the stream, though the standard drops it


def test_the_end_mark_counts_at_once() -> None:
    def so_far() -> Any:
        yield b'data: {"a": 1}'
        yield b"data: [DONE]"
        raise AssertionError("read on")

    found = events_of(so_far(), MOST)
    assert [next(found).value, next(found).value] == [{"a": 1}, DONE]
    assert values("data:[DONE]", "") == [DONE]
    assert values("data: [DONE] ", "") == [DONE]


def test_events_are_told_apart_where_the_empty_lines_are_left_out() -> None:
    assert values('data: {"a": 1}', 'data: {"b": 2}') == [{"a": 1}, {"b": 2}]
    assert events("event: a", 'data: {"a": 1}', 'data: {"b": 2}', "") == [Event("a", {"a": 1}), Event("a", {"b": 2})]
    assert events("event: a", "data: 1", "event: b", "data: 2") == [Event("a", "1"), Event("b", "2")]
    assert values('data: {"a": 1}', "data: {", "data: }", "") == [{"a": 1}, {}]


def test_documents_come_bare_by_the_line_over_lines_and_in_lists() -> None:
    documents = [{"a": "}"}, {"b": ["]", {"c": '"{'}]}, {"d": "\\"}]
    assert values(*map(json.dumps, documents)) == documents
    for indent in (None, 0, 1, 4):
        assert values(*json.dumps(documents, indent=indent).splitlines()) == documents
        for document in documents:
            assert values(*json.dumps(document, indent=indent).splitlines()) == [document]
    assert values('[{"a": 1}', ",", '{"b":', "2}", "]") == [{"a": 1}, {"b": 2}]
    assert values('[{"a": 1},{"b": 2},', '{"c": 3}]', '{"d": 4}') == [{"a": 1}, {"b": 2}, {"c": 3}, {"d": 4}]
    assert values('  {"a": 1}', "", "[]") == [{"a": 1}]
    assert values('data: {"a": 1}', '{"error": 1}') == [{"a": 1}, {"error": 1}]  # Google's, among events
    assert values("[", '{"a": 1}', 'data: {"b": 2}', "") == [{"a": 1}, {"b": 2}]


def test_what_is_broken_is_told() -> None:
    assert values("data: {a", "") == [BROKEN]
    assert values('{"a": ') == [BROKEN]
    assert values("[", '{"a": [') == [BROKEN]
    assert values("{", 'data: {"a": 1}', "") == [BROKEN, {"a": 1}]
    assert values('{"a": "cut o') == [BROKEN]
    assert values("data: {a", "data: {}", "") == [BROKEN]
    assert values("{" * 5000 + "}" * 5000) == [BROKEN]  # nested too deep
    assert values("<html>", "</html>") == [PAGE, PAGE]
    assert values("}", "]", '"', "[note]", 'data: {"a": 1}') == [{"a": 1}]


def test_the_data_of_replicate_is_the_text_itself() -> None:
    assert events("event: output", "data: {", "", "event: output", "data: 1", "data: ", "data:  x", "") == [
        Event("output", "{"), Event("output", "1\n\n x")]
    assert events("event: output", "") == []


def test_half_a_character_costs_that_character_alone() -> None:
    assert list(events_of([b'data: {"a": "\xf0\x9f"}', b""], MOST)) == [Event(None, {"a": "\ufffd"})]
