"""The lines of a stream into its events: server-sent events (the HTML standard, section 9.2), JSON by the line
(NDJSON), and JSON that stands bare among events or spreads over lines, as Google's errors and lists do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from llm_guard.llm.bodies import MISUSE, has_too_many_parts, loads
from llm_guard.llm.errors import StreamError

DONE: Final = object()  # the mark `[DONE]`
BROKEN: Final = object()  # begins like JSON and is none
PAGE: Final = object()  # a line of HTML or XML
_MARK: Final = "[DONE]"
_FIELD = re.compile(r"(data|event|id|retry|error)(?::|$) ?")
_TOKENS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]')
_PLAIN: Final = "output"  # the name of Replicate's events, whose data is the text itself


class Event(NamedTuple):
    """`value` is the data as parsed JSON, as a str where it is none, or one of DONE, BROKEN and PAGE."""

    name: str | None
    value: object


def events_of(lines: Iterable[bytes], most: int) -> Iterator[Event]:
    """The events of a stream; comments, empty events and what has no meaning are left out.

    Raises `StreamError` for an event of more than `most` bytes.
    """
    data = _Data(most)
    bare = _Bare(most)
    first = True
    for raw in lines:
        if not raw:
            yield from data.end()
            continue
        line = raw.decode("utf-8", "replace")
        if first:
            line, first = line.removeprefix("\ufeff"), False
        field = _FIELD.match(line)
        if bare.open and field is None:
            yield from bare.take(line)
        elif field is not None:
            yield from bare.end()
            yield from data.take(field[1], line[field.end():])
        elif line.lstrip()[:1] in ("{", "["):
            yield from data.end()
            yield from bare.take(line)
        elif line.lstrip()[:1] == "<":
            yield Event(None, PAGE)
    yield from data.end()
    yield from bare.end()


class _Data:
    """A server-sent event in the making."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._name: str | None = None
        self._lines: list[str] = []
        self._size = 0

    def take(self, field: str, value: str) -> Iterator[Event]:
        """The events that a field ends: those before it where somebody has left out the empty lines, and marks."""
        if field == "event":
            if self._lines and self._name is not None:
                yield from self.end()
            self._name = value
        elif field == "error":  # llama.cpp, older
            yield from _made("error", [value], self._most)
        elif field == "data":
            if len(self._lines) == 1 and self._name != _PLAIN and _loaded(self._lines[0], self._most) is not BROKEN:
                name = self._name
                yield from self.end()
                self._name = name
            if value.strip() == _MARK:
                yield from self.end()
                yield Event(None, DONE)
                return
            self._lines.append(value)
            self._size = _checked(self._size + len(value) + 1, self._most)

    def end(self) -> Iterable[Event]:
        """The event as it is, if there is one."""
        if not self._lines:
            self._name = None
            return ()
        name, lines = self._name, self._lines
        self._name, self._lines, self._size = None, [], 0
        return _made(name, lines, self._most)


class _Bare:
    """JSON without a frame: a document a line, one over many lines, or a list whose members come one by one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[str] = []
        self._size = 0
        self._depth = 0
        self._listed = False  # inside a list that holds the documents

    @property
    def open(self) -> bool:
        return self._depth > 0 or self._listed

    def take(self, line: str) -> Iterator[Event]:
        """The documents that a line ends."""
        if not self.open and (value := _loaded(line, self._most)) is not BROKEN:
            yield from (Event(None, each) for each in (value if isinstance(value, list) else [value]))
            return
        if has_too_many_parts(line, self._most):
            raise StreamError("JSON of too many parts", "a stream has too long an event", outcome=MISUSE)
        begin = 0
        for token in _TOKENS.finditer(line):
            if token[0] in ("{", "["):
                if self._depth == 0 and token[0] == "[" and not self._listed:
                    self._listed = True
                    continue
                begin = begin if self._depth else token.start()
                self._depth += 1
            elif token[0] in ("}", "]") and self._depth == 0:
                self._listed = False
            elif token[0] in ("}", "]"):
                self._depth -= 1
                if self._depth == 0:
                    yield Event(None, _loaded(
                        "".join([*self._parts, line[begin:token.end()]]), self._most))
                    self._parts, self._size = [], 0
        if self._depth:
            self._parts.append(line[begin:] + "\n")
            self._size = _checked(self._size + len(line) + 1 - begin, self._most)

    def end(self) -> Iterator[Event]:
        """The document as it is: broken off, if there is one."""
        if self._depth:
            yield Event(None, BROKEN)
        self._parts, self._size, self._depth, self._listed = [], 0, 0, False


def _made(name: str | None, lines: list[str], most: int) -> Iterator[Event]:
    text = "\n".join(lines)
    if name == _PLAIN and lines:
        yield Event(name, text)
    elif (text := text.strip()).startswith(("{", "[")):
        value = _loaded(text, most)
        apart = [_loaded(line, most) for line in lines] if value is BROKEN and len(lines) > 1 else [value]
        yield from (Event(name, each) for each in (apart if BROKEN not in apart else [BROKEN]))
    elif text:
        yield Event(name, text)


def _loaded(text: str, most: int) -> object:
    """A JSON object or list, or BROKEN."""
    try:
        value = loads(text, most)
    except (ValueError, RecursionError):
        return BROKEN
    return value if isinstance(value, dict | list) else BROKEN


def _checked(size: int, most: int) -> int:
    if size > most:
        raise StreamError(f"an event of over {most} bytes", "a stream has too long an event", outcome=MISUSE)
    return size
