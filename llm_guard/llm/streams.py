"""The text of an answer while it is made: streams of events, in every dialect of `dialects.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from types import TracebackType
from typing import Any, Final

from llm_guard.checks import whole
from llm_guard.errors import GuardError
from llm_guard.llm.answers import MOST_REASON, Ending, answer_in, find_text, meaning_of, refused
from llm_guard.llm.bodies import (
    MAX_BYTES,
    MISUSE,
    NO_HEADERS,
    ReadBody,
    Unread,
    headers_of,
    is_response,
    read,
    status_of,
)
from llm_guard.llm.chunks import chunks_of
from llm_guard.llm.dialects import DELTAS, REASONS, first_choice, mark_in, type_of
from llm_guard.llm.errors import AnswerError, StreamError, code_in, error_in
from llm_guard.llm.lines import lines_of, pieces_of
from llm_guard.llm.shapes import Raw, at, may_have, member, shape, text_at, unwrapped
from llm_guard.llm.signals import outcome_of_body
from llm_guard.llm.sse import BROKEN, DONE, PAGE, Event, events_of
from llm_guard.llm.usage import Tally, Usage
from llm_guard.outcome import Outcome

_MOST_DRAINED: Final = 64 * 1024


def stream_text(source: Any, *, max_bytes: int = MAX_BYTES) -> TextStream:
    """The text of a streamed answer, piece by piece, as it arrives.

    `source` is a response of requests (made with `stream=True`) or httpx, or an iterable of its chunks, of its lines,
    or of its events as parsed JSON or a client library's objects. The dialect is found out: server-sent events and
    JSON by the line, of all the APIs that `text_of` knows; where the server sends its answer whole, that comes as one
    piece. Thinking and calls of tools are no text. One event, line or whole answer has at most `max_bytes`.

    Raises `StreamError` (an `AnswerError`), whose `outcome` says what the server meant, in the words of the guards:
    at once, where the response has a status of 400 or above; and out of the iteration, where the server tells of an
    error, where the stream ends before its end mark, is no stream, or is not to be read, and where it has no text and
    the server says why, as in `text_of`. What reading raises comes through as it is, but not after the answer's end.
    `ConfigError` says that `source` or `max_bytes` cannot work.
    """
    whole("max_bytes", max_bytes, least=1)
    return TextStream(source, max_bytes)


class TextStream(Iterator[str]):
    """An iterator over the pieces of a text, none of them empty, made by `stream_text`. To be used by one thread.

    `finish_reason` is the server's word for how the answer ended, and `usage` what it told of the tokens so far: after
    the end all of it, or None. At its end, by an error and by `close()` the response is closed; it is a context manager
    that does so.
    """

    def __init__(self, source: Any, max_bytes: int) -> None:
        self.finish_reason: str | None = None
        self._source = source
        self._max_bytes = max_bytes
        self._tally = Tally()
        self._delivered = False  # some text was handed out
        self._ended = False  # the answer is whole
        self._over = False  # nothing more is due
        self._closed = False
        self._ending: Ending | None = None
        self._only: object = None  # the one event so far, while it has no place in any dialect
        self._count = 0
        self._status = status_of(source) if is_response(source) else None
        self._headers = headers_of(source) if is_response(source) else NO_HEADERS
        if self._status is not None and self._status >= 400:
            try:
                raise self._refused()
            finally:
                self.close()
        self._chunks = iter(chunks_of(source))
        self._texts = self._run()

    def __iter__(self) -> TextStream:
        return self

    def __next__(self) -> str:
        if self._closed:
            raise StopIteration
        return next(self._texts)

    def __enter__(self) -> TextStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    @property
    def usage(self) -> Usage | None:
        """What the server told of the tokens so far."""
        return self._tally.usage(self._headers)

    def close(self) -> None:
        """Closes the response; no more text comes."""
        if self._closed:
            return
        self._closed = True
        try:
            if callable(close := getattr(self._source, "close", None)):
                close()
        except Exception:  # a generator that another thread is in; a connection that is gone
            pass

    def _run(self) -> Iterator[str]:
        try:
            for name, value in self._events():
                if text := self._take(name, value):
                    self._delivered = True
                    yield text
                if self._over:
                    break
            if text := self._rest():
                self._delivered = True
                yield text
            self._drain()
        except StreamError as error:
            error.delivered, error.status = self._delivered, self._status
            raise
        finally:
            self.close()

    def _events(self) -> Iterator[Event]:
        try:
            for item in self._chunks:
                items = chain([item], self._chunks)
                if isinstance(item, Raw):
                    yield from events_of(lines_of(pieces_of(items), self._max_bytes), self._max_bytes)
                else:
                    yield from _parsed(items)
                return
        except GuardError:
            raise
        except Exception:
            if not self._ended:
                raise

    def _take(self, name: str | None, event: object) -> str | None:
        """The text in one event; takes note of all else that it says."""
        if event is DONE:
            self._ended = self._over = True
            return None
        if event is BROKEN and not self._ended:
            raise StreamError("JSON that is broken or cut off", "an event of the stream cannot be read")
        if event is PAGE and not self._count:
            raise StreamError("a line of HTML or XML", "the answer is no stream")
        if event is BROKEN or event is PAGE:
            return None
        self._count += 1
        kind = type_of(name, event)
        self._look_for_error(name, kind, event)
        self._tally.add(event)
        event = first_choice(event)
        self._look_for_end(kind, event)
        if member(member(event, "token"), "special") is True:  # TGI's marks for the end and the like
            return None
        for _, of, path in DELTAS:
            if ((of is None or of == kind) and may_have(event, path)
                    and (text := text_at(event, path)) is not None):
                return text
        self._only = event if self._count == 1 else None
        return None

    def _look_for_error(self, name: str | None, kind: str | None, event: object) -> None:
        error = error_in(member(event, "response") if kind == "response.failed" else event)
        if error is None and name == "error":
            error = {"error": event}
        if error is not None:
            raise StreamError(shape(event), "the server reports an error", code=code_in(error),
                              outcome=outcome_of_body(error, headers=self._headers))

    def _look_for_end(self, kind: str | None, event: object) -> None:
        for _, of, path in REASONS:
            word = at(event, path) if (of is None or of == kind) and may_have(event, path) else None
            if isinstance(word, str) and word:
                self._ended = True
                self.finish_reason = word[:MOST_REASON]
                self._ending = meaning_of(word, path)
                if self._ending is not None and self._ending.despite_text:
                    raise self._explained(event)
                break
        mark = mark_in(kind, event)
        if mark is not None:
            self._ended = True
            self._over = mark.last

    def _rest(self) -> str | None:
        """What is due at the end: the text of an answer that came whole, or the error where there is none to come."""
        if self._only is not None and self._count == 1 and find_text(unwrapped(self._only)) is not None:
            found = answer_in(ReadBody(self._only, self._status, self._source))
            if isinstance(found, AnswerError):
                raise StreamError(found.shape, found.what, code=found.code, outcome=found.outcome)
            return found
        if not self._ended:
            raise StreamError(f"{self._count} events", "the stream ended before its end mark")
        if not self._delivered and self._ending is not None:
            raise self._explained(None)
        return None

    def _explained(self, event: object) -> StreamError:
        assert self._ending is not None
        return StreamError(shape(event), self._ending.what, outcome=Outcome(self._ending.kind))

    def _refused(self) -> StreamError:
        reply = read(self._source, _MOST_DRAINED)
        body = reply.body
        said = None if isinstance(body, Unread) else error_in(body) or unwrapped(body)
        told = body.shape if isinstance(body, Unread) else shape(body)
        return StreamError(told, "the answer is an error", status=self._status, code=code_in(said),
                           outcome=refused(reply, said))

    def _drain(self) -> None:
        """Reads what is left of a body in chunks, which is its end alone, so that the connection can be used again."""
        if "chunked" not in self._headers.get("transfer-encoding", "").lower():
            return
        left = _MOST_DRAINED
        try:
            for chunk in self._chunks:
                left -= len(chunk) if isinstance(chunk, bytes) else left
                if left <= 0:
                    return
        except GuardError:
            raise
        except Exception:  # the answer is whole
            pass


def _parsed(items: Iterable[object]) -> Iterator[Event]:
    for item in items:
        if isinstance(item, Raw):
            raise StreamError(shape(item), "a stream of events has text in it", outcome=MISUSE)
        yield Event(None, item)
