"""Chunks of a stream, cut anywhere, into its lines; and lines that somebody has cut already, as they are.

A line ends with CR LF, LF or CR, as the HTML standard has it for event streams. It is cut as bytes, where no line end
can stand inside a character; so a character that two chunks share comes out whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from llm_guard.llm.bodies import MISUSE
from llm_guard.llm.errors import StreamError
from llm_guard.llm.shapes import shape

_BOM: Final = b"\xef\xbb\xbf"
_FIELDS: Final = (b"data:", b"event:", b"id:", b"retry:")
_WITHOUT_JSON: Final = (b":", b"event:", b"id:", b"retry:")
_SMALL: Final = 8 * 1024


def pieces_of(items: Iterable[object]) -> Iterator[bytes]:
    """The items as bytes, each of which must be a str or bytes."""
    for item in items:
        if isinstance(item, str):
            yield item.encode("utf-8", "surrogatepass")
        elif isinstance(item, bytes | bytearray | memoryview):
            yield bytes(item)
        else:
            raise StreamError(shape(item), "a stream of text has something else in it", outcome=MISUSE)


def lines_of(pieces: Iterable[bytes], most: int) -> Iterator[bytes]:
    """The lines of a stream, without their ends, each as soon as it is whole.

    The pieces are chunks or, as `iter_lines()` of requests and httpx gives them, lines without their ends. Which of the
    two is found out at the start: what is whole without a line end is a line, unless the next piece begins with one.
    Raises `StreamError` for a line of more than `most` bytes.
    """
    pieces = iter(pieces)
    start = b""  # what came before the first line end, as far as it is small
    more: list[bytes] = []  # the rest of it
    size = asked = 0
    told = False  # it was whole, and is handed out already
    for piece in pieces:
        if size > _SMALL and size >= 2 * asked and (not piece or piece.startswith((*_FIELDS, b"{"))):
            start, more, asked = b"".join([start, *more]), [], size
            told = _is_document(start)
            if told:
                yield start
        rest = piece.lstrip(b" \t")
        if told and not rest:
            yield b""
        elif told and rest[:1] in (b"\n", b"\r"):
            yield from _cut(chain([rest[1:]], pieces), most, after_cr=rest[:1] == b"\r")
            return
        elif told:
            yield from _given(chain([piece], pieces), most)
            return
        elif b"\n" in piece or b"\r" in piece:
            yield from _cut(chain([start, *more, piece], pieces), most)
            return
        elif start.removeprefix(_BOM).startswith(_WITHOUT_JSON) and piece.startswith(_FIELDS):
            yield from _given(chain([start, *more, piece], pieces), most)
            return
        else:
            size = _checked(size + len(piece), most)
            if size > _SMALL:
                more.append(piece)
                continue
            start += piece
            told = _is_document(start)
            if told:
                yield start
    if size and not told:
        yield b"".join([start, *more])


def _cut(chunks: Iterable[bytes], most: int, *, after_cr: bool = False) -> Iterator[bytes]:
    line: list[bytes] = []
    size = 0
    for chunk in chunks:
        if after_cr and chunk:
            chunk, after_cr = chunk.removeprefix(b"\n"), False
        for part in chunk.splitlines(keepends=True):
            size = _checked(size + len(part), most)
            line.append(part)
            if part.endswith((b"\n", b"\r")):
                yield b"".join(line).rstrip(b"\r\n")
                line, size = [], 0
        after_cr = after_cr or chunk.endswith(b"\r")
    if line:
        yield b"".join(line)


def _given(lines: Iterable[bytes], most: int) -> Iterator[bytes]:
    for line in lines:
        _checked(len(line), most)
        yield from line.splitlines() or [b""]


def _checked(size: int, most: int) -> int:
    if size > most:
        raise StreamError(f"a line of over {most} bytes", "a stream has too long a line", outcome=MISUSE)
    return size


def _is_document(line: bytes) -> bool:
    """Whether a line holds all of a JSON object or list, or the mark of a stream's end."""
    line = line.removeprefix(_BOM).removeprefix(b"data:").strip()
    if not line.startswith((b"{", b"[")) or not line.endswith((b"}", b"]")):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return line == b"[DONE]"
    return True
