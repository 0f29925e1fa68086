"""The text of streamed answers, in every dialect, and what becomes of streams that do not come to their end."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import anthropic.types
import httpx
import openai.types.chat
import openai.types.responses
import pytest
import requests
import urllib3
from samples import (
    ANTHROPIC_EVENTS,
    COHERE_EVENTS,
    GEMINI_EVENTS,
    OLLAMA_EVENTS,
    RESPONSES_API,
    RESPONSES_EVENTS,
    STREAMS,
    TWO,
    Stream,
    chat,
    delta,
    gemini,
    ndjson,
    response,
    sse,
    token,
)

from llm_guard.errors import Cancelled, ConfigError
from llm_guard.llm import AnswerError, StreamError, TextStream, Usage, dialects, outcome_of, stream_text, streams
from llm_guard.llm.dialects import DELTAS, MARKS, REASONS
from llm_guard.outcome import Kind, Outcome

CASES = [pytest.param(each, id=each.source) for each in STREAMS]
CUTS: dict[str, Callable[[bytes], Any]] = {
    "whole": lambda body: body,
    "as str": lambda body: body.decode(),
    "in one chunk": lambda body: [body],
    "byte by byte": lambda body: (body[place:place + 1] for place in range(len(body))),
    "in chunks of 7": lambda body: [bytearray(body[place:place + 7]) for place in range(0, len(body), 7)],
    "with empty chunks": lambda body: [b"", body[:50], b"", body[50:], b""],
    "in lines": lambda body: body.splitlines(),
    "in lines of str": lambda body: body.decode().splitlines(),
    "in lines without the empty ones": lambda body: [line for line in body.splitlines() if line],
    "in lines with their ends": lambda body: body.splitlines(keepends=True),
    "read by requests": lambda body: response(body),
    "read by httpx": lambda body: httpx.Response(200, content=body),
    "on the wire of requests": lambda body: on_the_wire(body),
    "on the wire of httpx": lambda body: httpx.Response(200, stream=HttpxWire([body[:9], body[9:]])),
    "lines of requests": lambda body: response(body).iter_lines(),
    "lines of httpx": lambda body: httpx.Response(200, content=body).iter_lines(),
}


class HttpxWire(httpx.SyncByteStream):
    def __init__(self, chunks: Any) -> None:
        self.chunks, self.closed = chunks, False

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    def close(self) -> None:
        self.closed = True


def on_the_wire(body: bytes) -> Any:
    import io

    made: Any = requests.Response()
    made.status_code = 200
    made.raw = urllib3.HTTPResponse(io.BytesIO(body), preload_content=False)
    return made


def told(stream: TextStream) -> tuple[list[str], str | None, Usage | None]:
    return list(stream), stream.finish_reason, stream.usage


def error_of(source: Any, **options: Any) -> StreamError:
    with pytest.raises(StreamError) as caught:
        list(stream_text(source, **options))
    return caught.value


# Texts


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("sample", CASES)
def test_the_text_comes_in_its_pieces_however_the_stream_is_cut(sample: Stream, cut: Callable[[bytes], Any]) -> None:
    assert told(stream_text(cut(sample.body))) == (sample.pieces, sample.reason, sample.usage)


def test_each_row_of_the_tables_is_that_of_some_stream() -> None:
    """No row is dead: without it, some stream above would be read in another way."""
    def read(sample: Stream) -> Any:
        try:
            return told(stream_text(sample.body))
        except StreamError:
            return None

    events = [*EVENTS, *UNSEEN]
    for module, name, table in ((streams, "DELTAS", DELTAS), (streams, "REASONS", REASONS), (dialects, "MARKS", MARKS)):
        for row in table:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, name, tuple(each for each in table if each is not row))
                changed = (any(read(sample) != (sample.pieces, sample.reason, sample.usage) for sample in STREAMS)
                           or any(read_events(each) != expected for each, expected in events))
            assert changed, row


CHUNK = openai.types.chat.ChatCompletionChunk
EVENTS: list[tuple[list[Any], Any]] = [
    (OLLAMA_EVENTS, (TWO, "stop", Usage(26, 2, 28, load_seconds=0.004))),
    (GEMINI_EVENTS, (TWO, "STOP", Usage(7, 43, 50, 4))),
    ([{"messageStart": {"role": "assistant"}}, {"contentBlockDelta": {"delta": {"text": "Good "}}},
      {"contentBlockDelta": {"delta": {"reasoningContent": {"text": "hm"}}}},
      {"contentBlockDelta": {"delta": {"text": "day"}}}, {"messageStop": {"stopReason": "end_turn"}},
      {"metadata": {"usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}}}],
     (TWO, "end_turn", Usage(3, 4, 7))),
    ([CHUNK.model_validate(each | {"created": 1, "model": "m"}) for each in (
        delta({"role": "assistant", "content": ""}), delta("Good "), delta("Bye", index=1), delta("day"),
        delta({}, "stop"))], (TWO, "stop", None)),
    ([openai.types.responses.ResponseTextDeltaEvent.model_construct(
        type="response.output_text.delta", delta="Good day"),
      openai.types.responses.ResponseCompletedEvent.model_construct(
        type="response.completed", response=SimpleNamespace(status="completed", usage=None))],
     (["Good day"], "completed", None)),
    ([anthropic.types.RawMessageStartEvent.model_validate(ANTHROPIC_EVENTS[0] | {
        "message": ANTHROPIC_EVENTS[0]["message"] | {"model": "m", "stop_sequence": None}}),
      anthropic.types.RawContentBlockDeltaEvent.model_validate(ANTHROPIC_EVENTS[6]),
      anthropic.types.RawMessageDeltaEvent.model_validate(ANTHROPIC_EVENTS[9]),
      anthropic.types.RawMessageStopEvent.model_validate(ANTHROPIC_EVENTS[10])],
     (["Good "], "end_turn", Usage(30, 15, 45, 5))),
]
UNSEEN: list[tuple[list[Any], Any]] = [
    ([{"promptFeedback": {"blockReason": "OTHER"}}], Kind.INVALID),
    ([delta({"role": "assistant", "content": ""}), delta({}, "content_filter")], Kind.INVALID),
]


def read_events(events: list[Any]) -> Any:
    try:
        return told(stream_text(iter(events)))
    except StreamError as error:
        return error.outcome.kind


@pytest.mark.parametrize(("events", "expected"), [*EVENTS, *UNSEEN], ids=range(len(EVENTS) + len(UNSEEN)))
def test_events_that_a_client_library_made_are_read_as_they_are(events: list[Any], expected: Any) -> None:
    assert read_events(events) == expected


def test_the_first_piece_is_there_as_soon_as_its_event_is() -> None:
    """Nothing waits for what comes after it: not for the next event, and not for an end of the line."""
    for body in (sse(delta("Good "), delta("day"), "[DONE]"), ndjson(*OLLAMA_EVENTS), sse(*ANTHROPIC_EVENTS),
                 json.dumps(GEMINI_EVENTS, indent=1).encode()):
        taken = []

        def chunks(body: bytes = body, taken: list[int] = taken) -> Iterator[bytes]:
            for place in range(len(body)):
                taken.append(place)
                yield body[place:place + 1]

        assert next(stream_text(chunks())) == "Good "
        assert taken[-1] < body.index(b"Good ") + 200
        assert b"day" not in body[:taken[-1]]
    for lines in (["data: " + json.dumps(delta("Good ")), ""], [json.dumps({"response": "Good ", "done": False})]):
        def so_far(lines: list[str] = lines) -> Iterator[str]:
            yield from lines
            raise AssertionError("read on")

        assert next(stream_text(so_far())) == "Good "


# Errors that the server reports in the stream

OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "secret"}}
FAILED = {"type": "response.failed", "response": RESPONSES_API | {
    "status": "failed", "output": [], "error": {"code": "rate_limit_exceeded", "message": "secret"}}}
GOOGLE = {"error": {"code": 503, "message": "secret", "status": "UNAVAILABLE", "details": [{"a": "secret"}]}}
REPORTED: list[tuple[str, bytes, bytes, Kind, str | None]] = [
    ("Anthropic", sse(*ANTHROPIC_EVENTS[:7], names=True), sse(OVERLOADED, names=True), Kind.OVERLOAD,
     "overloaded_error"),
    ("Anthropic, limit", sse(*ANTHROPIC_EVENTS[:7]), sse({"type": "error", "error": {"type": "rate_limit_error"}}),
     Kind.LIMITED, "rate_limit_error"),
    ("Anthropic, billing", sse(*ANTHROPIC_EVENTS[:7]), sse({"type": "error", "error": {"type": "billing_error"}}),
     Kind.QUOTA, "billing_error"),
    ("OpenAI", sse(delta("Good ")), sse({"error": {"message": "secret", "type": "server_error", "code": "slow_down"}}),
     Kind.GROWTH_LIMITED, "slow_down"),
    ("OpenAI, quota", sse(delta("Good ")), sse({"error": {"message": "secret", "type": "insufficient_quota"}}),
     Kind.QUOTA, "insufficient_quota"),
    ("OpenAI, named", sse(delta("Good ")), b'event: error\ndata: {"error": {"code": 500, "message": "secret"}}\n\n',
     Kind.FAILURE, "500"),
    ("OpenRouter", sse(delta("Good ")), sse(delta("", "error", error={"code": 429, "message": "secret"})),
     Kind.LIMITED, "429"),
    ("OpenRouter, in the choice", sse(delta("Good ")), sse({"choices": [{
        "index": 0, "delta": {}, "finish_reason": "error", "error": {"code": 502, "message": "secret"}}]}),
     Kind.FAILURE, "502"),
    ("Mistral", sse(delta("Good ")), sse(delta("", "error")), Kind.FAILURE, None),
    ("DeepSeek", sse(delta("Good ")), sse(delta("", "insufficient_system_resource")), Kind.OVERLOAD, None),
    ("OpenAI Responses", sse(*RESPONSES_EVENTS[:4]), sse(FAILED, names=True), Kind.LIMITED, "rate_limit_exceeded"),
    ("OpenAI Responses, error", sse(*RESPONSES_EVENTS[:4]), sse(
        {"type": "error", "code": "server_is_overloaded", "message": "secret", "param": None}, names=True),
     Kind.OVERLOAD, "server_is_overloaded"),
    ("TGI", sse(token("Good ")), b'data:{"error":"Model is overloaded","error_type":"overloaded"}\n\n',
     Kind.OVERLOAD, "overloaded"),
    ("TGI, validation", sse(token("Good ")), b'data:{"error":"secret","error_type":"validation"}\n\n',
     Kind.INVALID, "validation"),
    ("Gemini", sse(*GEMINI_EVENTS[:2]), json.dumps(GOOGLE).encode() + b"\n", Kind.OVERLOAD, "503"),
    ("Gemini, over many lines", sse(*GEMINI_EVENTS[:2]), json.dumps(GOOGLE, indent=2).encode() + b"\n",
     Kind.OVERLOAD, "503"),
    ("Gemini, framed, in a list", sse(*GEMINI_EVENTS[:2]), sse([GOOGLE]), Kind.OVERLOAD, "503"),
    ("Gemini, in a list", b"", json.dumps([GOOGLE], indent=2).encode(), Kind.OVERLOAD, "503"),
    ("Ollama", ndjson(*OLLAMA_EVENTS[:2]), ndjson({"error": "server busy, please try again. secret"}),
     Kind.OVERLOAD, None),
    ("Ollama, load", b"", ndjson({"response": "", "done": True, "done_reason": "load"}), Kind.FAILURE, None),
    ("Cohere", sse(*COHERE_EVENTS[:3]), sse({"type": "message-end", "delta": {"finish_reason": "ERROR"}}),
     Kind.FAILURE, None),
    ("Cohere, time", sse(*COHERE_EVENTS[:3]), sse({"type": "message-end", "delta": {"finish_reason": "TIMEOUT"}}),
     Kind.TIMEOUT, None),
    ("llama.cpp", sse({"content": "Good ", "stop": False}),
     b'data: {"error": {"code": 503, "message": "no slot available", "type": "unavailable_error"}}\n\n',
     Kind.OVERLOAD, "503"),
    ("llama.cpp, older", sse({"content": "Good ", "stop": False}),
     b'error: {"code": 503, "message": "Loading model", "type": "unavailable_error"}\n\n', Kind.LOADING, "503"),
    ("HF", b"", ndjson({"error": "Model gpt2 is currently loading", "estimated_time": 20.0}), Kind.LOADING, None),
    ("Replicate", b"event: output\ndata: Good \n\n", b'event: error\ndata: {"detail": "secret"}\n\n', Kind.FAILURE,
     None),
    ("an error in plain text", sse(delta("Good ")), b"event: error\ndata: Overloaded by a secret\n\n",
     Kind.OVERLOAD, None),
]
REPORTED_CASES = [pytest.param(*row, id=name) for name, *row in REPORTED]


@pytest.mark.parametrize(("before", "error", "kind", "code"), REPORTED_CASES)
def test_an_error_in_the_stream_is_raised_as_what_it_is(before: bytes, error: bytes, kind: Kind,
                                                       code: str | None) -> None:
    hint = 20.0 if b"estimated_time" in error else None
    for cut in ("whole", "byte by byte", "in lines", "on the wire of requests", "on the wire of httpx"):
        stream = stream_text(CUTS[cut](before + error))
        pieces = []
        with pytest.raises(StreamError) as caught:  # noqa: PT012 - the pieces before it count
            for piece in stream:
                pieces.append(piece)
        assert outcome_of(caught.value) == Outcome(kind, hint)
        assert caught.value.code == code
        assert "secret" not in str(caught.value) + repr(vars(caught.value))
        assert caught.value.delivered is bool(before)
        assert list(stream) == []


def test_the_headers_of_the_response_are_heard() -> None:
    headers = {"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "1m", "retry-after": "5"}
    error = error_of(response(sse(delta("Good "), {"error": {"code": "rate_limit_exceeded"}}), **headers))
    assert outcome_of(error) == Outcome(Kind.LIMITED, 5.0, True, 3.0, 60.0)
    assert error.status == 200
    tokens = stream_text(response(sse(token("Good day", generated_text="Good day")), x_prompt_tokens="9"))
    assert list(tokens) == ["Good day"]
    assert tokens.usage == Usage(input=9)


def test_the_error_is_an_answer_error_and_can_be_pickled() -> None:
    error = error_of(sse(delta("Good "), OVERLOADED))
    assert isinstance(error, AnswerError)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is StreamError
    assert (str(again), again.delivered, outcome_of(again)) == (str(error), True, Outcome(Kind.OVERLOAD))


# Streams without a text, for which the server has a reason

WITHOUT_TEXT: list[tuple[Any, Kind]] = [
    (sse(delta({"content": None, "tool_calls": [{"index": 0}]}), delta({}, "tool_calls"), "[DONE]"), Kind.INVALID),
    (sse(delta({"role": "assistant", "content": ""}), delta({}, "length"), "[DONE]"), Kind.INVALID),
    (sse({"promptFeedback": {"blockReason": "SAFETY"}}), Kind.INVALID),
    (sse({"promptFeedback": {"blockReason": "SOMETHING_NEW"}}), Kind.INVALID),
    (sse(gemini([], "PROHIBITED_CONTENT")), Kind.INVALID),
    (sse(ANTHROPIC_EVENTS[0], {"type": "message_delta", "delta": {"stop_reason": "refusal"}}, ANTHROPIC_EVENTS[-1]),
     Kind.INVALID),
    (sse({"type": "response.incomplete", "response": {"incomplete_details": {"reason": "content_filter"}}}),
     Kind.INVALID),
    (json.dumps(chat({"content": None}, "tool_calls")).encode(), Kind.INVALID),
    (json.dumps({"output": ["Good "], "status": "processing"}).encode(), Kind.TIMEOUT),
]


@pytest.mark.parametrize(("body", "kind"), WITHOUT_TEXT, ids=range(len(WITHOUT_TEXT)))
def test_a_stream_without_a_text_says_why(body: bytes, kind: Kind) -> None:
    error = error_of(body)
    assert outcome_of(error) == Outcome(kind)
    assert not error.delivered


# Streams that are cut off


@pytest.mark.parametrize("sample", CASES)
def test_a_stream_that_is_cut_off_anywhere_raises_unless_its_answer_was_whole(sample: Stream) -> None:
    for end in range(len(sample.body)):
        stream = stream_text(sample.body[:end])
        pieces: list[str] = []
        error = None
        try:
            for piece in stream:
                pieces.append(piece)
        except StreamError as caught:
            error = caught
        if error is None:
            assert pieces == sample.pieces
        else:
            assert outcome_of(error) == Outcome(Kind.FAILURE)
            assert "".join(sample.pieces).startswith("".join(pieces))
            assert error.delivered is bool(pieces)


@pytest.mark.parametrize("source", [
    "OpenAI chat", "OpenAI completions", "OpenAI Responses", "Anthropic", "Gemini", "Cohere v2", "TGI", "Ollama chat",
    "llama.cpp", "Replicate"])
def test_a_stream_without_its_end_says_so(source: str) -> None:
    sample = next(each for each in STREAMS if each.source == source)
    body = sample.body[:sample.body.index(b"\n", sample.body.index(b"Good"))] + b"\n\n"
    for cut in ("whole", "byte by byte", "in lines"):
        error = error_of(CUTS[cut](body))
        assert error.what == "the stream ended before its end mark"
        assert error.delivered


@pytest.mark.parametrize(("body", "what"), [
    (b"", "the stream ended before its end mark"), (b"\n\n: keep-alive\n\n", "the stream ended before its end mark"),
    (b"event: ping\n\n", "the stream ended before its end mark"),
    (b"Internal Server Error", "the stream ended before its end mark"),
    (b'{"unknown": "secret"}\n{"unknown": "secret"}\n', "the stream ended before its end mark"),
    (b"<html>secret</html>", "the answer is no stream"),
    (b"\n\n <!DOCTYPE html>\n<p>secret", "the answer is no stream"),
    (b'data: {"choices": [{"delta": {"content": "secr', "an event of the stream cannot be read"),
    (b"data: {secret}\n\n", "an event of the stream cannot be read"),
    (b'data: {"a": 1}}\n\n', "an event of the stream cannot be read"),
    (b'[\n{"candidates": [{"secr', "an event of the stream cannot be read"),
    (b"data: " + b"[" * 100_000 + b"\n\n", "an event of the stream cannot be read"),
    ([b"data: {}\n\n", 5], "a stream of text has something else in it"),
    (["Good day", None], "a stream of text has something else in it"),
    ([5, None, "Good day"], "a stream of events has text in it"),
])
def test_what_is_no_stream_of_a_text_is_told(body: Any, what: str) -> None:
    for source in [body, *([[body], response(body)] if isinstance(body, bytes) else [])]:
        error = error_of(source)
        assert error.what == what
        assert "secr" not in str(error)


def test_after_the_answer_s_end_no_fault_counts() -> None:
    for rest in ([b"data: {bro"], [b"<html>"], [requests.ConnectionError()], [b"data: {}\n\n", RuntimeError()]):
        def chunks(rest: list[Any] = rest) -> Iterator[bytes]:
            yield sse(delta("Good "), delta("day", "stop"))
            for each in rest:
                if isinstance(each, Exception):
                    raise each
                yield each

        assert told(stream_text(chunks())) == (TWO, "stop", None)


def test_an_answer_that_is_over_is_not_read_on() -> None:
    for body in (sse(delta("Good "), delta("day"), "[DONE]"), sse(*ANTHROPIC_EVENTS), ndjson(*OLLAMA_EVENTS),
                 ndjson(*COHERE_EVENTS), sse(*RESPONSES_EVENTS)):
        left = iter([body, b"more"])
        assert list(stream_text(left)) == TWO
        assert list(left) == [b"more"]


@pytest.mark.parametrize("fault", [requests.ConnectionError(), requests.exceptions.ChunkedEncodingError(),
                                   httpx.ReadTimeout(""), TimeoutError(), Cancelled("...")])
def test_what_reading_raises_comes_through(fault: Exception) -> None:
    for source in (httpx.Response(200, stream=HttpxWire([sse(delta("Good ")), fault])),
                   (piece for piece in HttpxWire([sse(delta("Good ")), fault]))):
        stream = stream_text(source)
        assert next(stream) == "Good "
        with pytest.raises(type(fault)) as caught:
            next(stream)
        assert caught.value is fault
        assert list(stream) == []


def test_a_guard_that_cuts_the_reading_off_is_heard_even_after_the_end() -> None:
    stream = stream_text(HttpxWire([sse(delta("Good ", "stop")), Cancelled("...")]))
    assert next(stream) == "Good "
    with pytest.raises(Cancelled):
        next(stream)


# Responses that are errors


@pytest.mark.parametrize(("status", "body", "kind", "hint"), [
    (429, b'{"error": {"code": "insufficient_quota", "message": "secret"}}', Kind.QUOTA, None),
    (503, b'{"error": "secret", "estimated_time": 9}', Kind.LOADING, 9.0),
    (503, b"<html>secret</html>", Kind.OVERLOAD, None), (429, b"", Kind.LIMITED, None),
    (503, b"Model is loading, secret", Kind.LOADING, None),
    (529, json.dumps(OVERLOADED).encode(), Kind.OVERLOAD, None),
    (429, json.dumps([GOOGLE | {"error": {"code": 429}}]).encode(), Kind.LIMITED, None),
    (400, b'{"detail": "secret"}', Kind.INVALID, None), (500, b'"secret"', Kind.FAILURE, None),
    (500, b"secret" * 50_000, Kind.FAILURE, None)])
def test_a_response_that_is_an_error_raises_at_once_and_is_closed(status: int, body: bytes, kind: Kind,
                                                                 hint: float | None) -> None:
    old = on_the_wire(body)
    old.status_code = status
    wire = HttpxWire([body])
    for source in (old, httpx.Response(status, stream=wire), response(body, status)):
        with pytest.raises(StreamError) as caught:
            stream_text(source)
        assert outcome_of(caught.value) == Outcome(kind, hint)
        assert caught.value.status == status
        assert "secret" not in str(caught.value)
    assert wire.closed
    assert old.raw.closed


def test_the_wait_that_an_error_asks_for_is_read_from_its_headers() -> None:
    with pytest.raises(StreamError) as caught:
        stream_text(httpx.Response(429, headers={"Retry-After": "7"}, content=b"{}"))
    assert outcome_of(caught.value) == Outcome(Kind.LIMITED, 7.0)


# Closing

BODY = sse(delta("Good "), delta("day"), "[DONE]")


def test_at_its_end_by_an_error_and_by_close_the_response_is_closed() -> None:
    def use(stream: TextStream) -> None:
        list(stream)

    def leave(stream: TextStream) -> None:
        with stream:
            assert next(stream) == "Good "
            raise KeyError

    def give_up(stream: TextStream) -> None:
        next(stream)
        stream.close()
        stream.close()
        assert list(stream) == []

    for how, body in ((use, BODY), (use, sse(delta("Good "), OVERLOADED)), (use, sse(delta("Good "))), (leave, BODY),
                      (give_up, BODY)):
        wire = HttpxWire([body])
        old = on_the_wire(body)
        chunks = (chunk for chunk in [body, b"\n"])
        for source in (httpx.Response(200, stream=wire), old, chunks):
            try:
                how(stream_text(source))
            except (StreamError, KeyError):
                pass
        assert wire.closed
        assert old.raw.closed
        assert chunks.gi_frame is None


def test_a_stream_that_was_closed_before_it_began_gives_nothing() -> None:
    wire = HttpxWire([BODY])
    with stream_text(httpx.Response(200, stream=wire)) as stream:
        assert iter(stream) is stream
    assert wire.closed
    assert list(stream) == []
    assert stream.usage is None


def test_a_source_that_cannot_be_closed_is_left_alone() -> None:
    class Odd(list[bytes]):
        def close(self) -> None:
            raise OSError("gone already")

    assert list(stream_text(Odd([BODY]))) == TWO
    assert list(stream_text((BODY,))) == TWO


def test_the_end_of_a_chunked_body_is_read_and_no_more() -> None:
    """So that the connection can be used again: its last chunk comes after the end mark."""
    for count, left in ((1, 0), (40, 32)):
        wire = HttpxWire(iter([BODY, *[b"x" * 8192] * count]))
        headers = {"Transfer-Encoding": "chunked"}
        assert list(stream_text(httpx.Response(200, headers=headers, stream=wire))) == TWO
        assert len(list(wire.chunks)) == left
    wire = HttpxWire(iter([BODY, b"x"]))
    assert list(stream_text(httpx.Response(200, stream=wire))) == TWO
    assert len(list(wire.chunks)) == 1
    wire = HttpxWire([BODY, httpx.ReadTimeout("")])
    assert list(stream_text(httpx.Response(200, headers=headers, stream=wire))) == TWO


# Bounds and options


def test_an_event_larger_than_the_bound_is_an_error() -> None:
    event = sse(delta("x" * 1000, "stop"))
    assert list(stream_text([event], max_bytes=1200)) == ["x" * 1000]
    many = [event[:-2]] + [b"x" * 100] * 10
    for source in ([event], [event[place:place + 9] for place in range(0, len(event), 9)], event.splitlines(), many,
                   b"data:\n" * 1001, json.dumps(delta("x" * 1000), indent=1).encode(), b'[{"a":\n' + b"[1,\n" * 600,
                   [b"x" * 600, b"x" * 600]):
        error = error_of(source, max_bytes=1000)
        assert error.what in ("a stream has too long a line", "a stream has too long an event")
        assert outcome_of(error) == Outcome(Kind.INVALID)
    assert list(stream_text(sse(*[delta("x" * 900)] * 20, delta("", "stop")), max_bytes=1100)) == ["x" * 900] * 20
    assert list(stream_text(b": keep-alive\n" * 1000 + sse(delta("Good ", "stop")), max_bytes=1000)) == ["Good "]


@pytest.mark.parametrize("bad", [None, 5, object(), type("Async", (), {"__aiter__": lambda self: self})()])
def test_a_source_that_cannot_be_read_is_told_at_once(bad: Any) -> None:
    with pytest.raises(ConfigError, match="source"):
        stream_text(bad)


def test_a_bound_that_cannot_work_is_told() -> None:
    with pytest.raises(ConfigError, match="max_bytes"):
        stream_text([], max_bytes=0)
