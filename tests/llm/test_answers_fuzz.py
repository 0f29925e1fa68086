"""Whatever comes in, `text_of`, `usage_of` and `stream_text` raise nothing but what they say, and show none of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import ANSWERS, STREAMS, response

from llm_guard.llm import AnswerError, StreamError, TextStream, Usage, outcome_of, stream_text, text_of, usage_of
from llm_guard.llm.answers import ENDINGS, ENDS, SHAPES
from llm_guard.llm.dialects import DELTAS, MARKS, REASONS
from llm_guard.llm.usage import FORMS
from llm_guard.outcome import Outcome

MARK = "pay1oad"
PATHS = [*(row.path for table in (SHAPES, ENDS, DELTAS, REASONS, MARKS) for row in table),
         *(path for form in FORMS for path in (form.at, *form.input, *form.output, *form.cached))]
NAMES = sorted({step for path in PATHS for step in path if isinstance(step, str)} | {
    "error", "type", "code", "index", "special", "thought", "status", "object", "estimated_time", "error_type"})
WORDS = sorted({*ENDINGS, *(row.type for table in (DELTAS, REASONS, MARKS) for row in table if row.type), "error"})

payloads = st.text(max_size=8).map(lambda text: MARK + text)
scalars = (st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | payloads
           | st.integers(min_value=10**300, max_value=10**310))
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | payloads, inner, max_size=5),
    max_leaves=15)


def _put(path: tuple[Any, ...], value: Any) -> Any:
    """`value` at the end of a path, so that what is looked for is met often."""
    for step in reversed(path):
        value = {step: value} if isinstance(step, str) and step != "[]" else [value]
    return value


placed = st.builds(_put, st.sampled_from(PATHS), documents)
mixed = st.builds(lambda left, right: {**left, **right} if isinstance(left, dict) and isinstance(right, dict) else left,
                  placed, placed | documents)
values = documents | placed | mixed


@st.composite
def mutated(draw: st.DrawFn, bodies: list[bytes]) -> bytes:
    """A body as a provider sends it, with a few bytes cut out, put in, doubled or turned around."""
    body = bytearray(draw(st.sampled_from(bodies)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(body)))
        end = min(len(body), place + draw(st.integers(0, 20)))
        body[place:end] = draw(st.sampled_from([
            b"", bytes(body[place:end]) * 2, bytes(body[place:end])[::-1], b"\n", b"\r", b'"', b"{", b"}", b"[", b"]",
            b"null", b"NaN", b"-1", b"\xff", b"\xef\xbb\xbf", b"data: ", b"event: error\n"]) | st.binary(max_size=4))
    return bytes(body)


ANSWER_BODIES = [json.dumps(answer.body).encode() for answer in ANSWERS]
STREAM_BODIES = [sample.body for sample in STREAMS]
bodies = st.binary() | mutated(ANSWER_BODIES) | mutated(STREAM_BODIES) | values.map(json.dumps).map(str.encode)


def told_of(read: Any) -> str:
    """Calls it, and gives what its error tells, where it raises the one it may."""
    error = None
    try:
        read()
    except AnswerError as caught:
        error = caught
    assert error is None or isinstance(outcome_of(error), Outcome)
    return "" if error is None else str(error) + repr(error) + repr(vars(error))


@pytest.mark.fuzz
@given(values)
def test_any_json_gives_its_text_or_an_error_that_tells_nothing_of_it(value: Any) -> None:
    def read() -> None:
        assert isinstance(text_of(value), str)

    assert MARK not in told_of(read)


@pytest.mark.fuzz
@given(values | bodies | st.text())
def test_any_value_tells_its_tokens_or_none(value: Any) -> None:
    found = usage_of(value)
    assert found is None or isinstance(found, Usage)
    if found is not None:
        counts = [found.input, found.output, found.total, found.cached]
        assert all(count is None or (type(count) is int and 0 <= count < 10**11) for count in counts)
        assert any(value is not None for value in (*counts, found.load_seconds, found.queue_seconds))


@pytest.mark.fuzz
@given(bodies | st.text(), st.integers(200, 599), st.sampled_from(["application/json", "text/plain; charset=gbk"]))
def test_any_body_gives_a_text_or_the_error(body: Any, status: int, content_type: str) -> None:
    def read() -> None:
        assert isinstance(text_of(body), str)

    told_of(read)
    if isinstance(body, bytes):
        for answer in (response(body, status, Content_Type=content_type),
                       httpx.Response(status, content=body, headers={"Content-Type": content_type})):
            told_of(lambda answer=answer: text_of(answer))


def _cut(draw: st.DrawFn, body: bytes) -> list[bytes]:
    places = sorted(draw(st.lists(st.integers(0, len(body)), max_size=8)))
    return [body[begin:end] for begin, end in zip([0, *places], [*places, len(body)], strict=True)]


def _read(source: Any) -> tuple[list[str], str | None, str | None, Usage | None, Outcome | None]:
    """All that a stream says: its pieces, its error, its word for the end, its tokens."""
    pieces: list[str] = []
    error = None
    stream: TextStream = stream_text(source)
    try:
        for piece in stream:
            pieces.append(piece)
    except StreamError as caught:
        error = caught
    assert all(isinstance(piece, str) and piece for piece in pieces)
    assert error is None or error.delivered is bool(pieces)
    return pieces, error and error.what, stream.finish_reason, stream.usage, error and outcome_of(error)


@st.composite
def cut_bodies(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    body = draw(st.sampled_from(STREAM_BODIES) | bodies)
    return body, _cut(draw, body)


@pytest.mark.fuzz
@given(cut_bodies())
def test_where_a_stream_is_cut_changes_nothing(case: tuple[bytes, list[bytes]]) -> None:
    """Of any bytes, be they a stream or not."""
    body, chunks = case
    whole = _read([body])
    assert _read([chunk for chunk in chunks if chunk]) == whole
    assert _read(body) == whole
    assert _read(response(body)) == whole


@pytest.mark.fuzz
@given(st.lists(values, max_size=5), st.booleans())
def test_any_events_give_a_text_or_the_error_that_tells_nothing_of_them(events: list[Any], framed: bool) -> None:
    made = [json.dumps(event) for event in events]
    body = "".join(f"data: {event}\n\n" if framed else f"{event}\n" for event in made)
    for source in (body, iter(events)):
        assert MARK not in told_of(lambda source=source: list(stream_text(source)))


@pytest.mark.fuzz
@given(st.lists(st.text() | st.binary() | st.none() | st.integers() | values, max_size=4))
def test_any_items_give_a_text_or_the_error(items: list[Any]) -> None:
    def read() -> Iterator[str]:
        yield from stream_text(items)

    told_of(lambda: list(read()))
