"""Reads rows from JSONL, CSV, TSV and plain text, lazily; a line that cannot be read is a row that says why.

What is wrong is told by line, column and the names of fields, never by what stands in them.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EISDIR, ENOENT
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

from llm_guard.cli.exits import Exit, Problem, reason

FORMATS: Final = ("jsonl", "csv", "tsv", "text")
SUFFIXES: Final = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".txt": "text",
                   ".text": "text"}
#: The path that stands for the standard input, and for the standard output.
STREAM: Final = "-"
#: The field that a line of plain text is, and that is asked where nothing else is said.
PROMPT: Final = "prompt"
_decode: Final = json.JSONDecoder().raw_decode
_MOST_CELL: Final = 2 ** 31 - 1  # characters; what the csv module can count on every machine


@dataclass(slots=True)  # frozen ones take four times as long to make
class Row:
    """One item of the input: `index` counts items from 0, `line` lines from 1 (the last one of a row of many lines).

    `problem` says why it cannot be used, or is empty.
    """

    index: int
    line: int
    fields: dict[str, Any]
    problem: str = ""


class HeaderError(ValueError):
    """The first row names no fields: nothing after it can be read."""


class Source(NamedTuple):
    """Where the rows come from: a path, or "-" for the standard input, and the format of what is there."""

    path: str
    format: str

    @property
    def name(self) -> str:
        """As messages call it."""
        return "standard input" if self.path == STREAM else self.path

    @property
    def can_be_read_again(self) -> bool:
        """A file, and no pipe."""
        return self.path != STREAM and Path(self.path).is_file()

    def check(self) -> None:
        """`Problem` where there is nothing of that name, or a folder."""
        if self.path != STREAM and not Path(self.path).exists():
            raise self._unreadable(FileNotFoundError(ENOENT, os.strerror(ENOENT)))
        if self.path != STREAM and Path(self.path).is_dir():
            raise self._unreadable(IsADirectoryError(EISDIR, os.strerror(EISDIR)))

    @contextmanager
    def rows(self) -> Iterator[Iterator[Row]]:
        """The rows, one after the other. `Problem` where it cannot be opened or read."""
        with self._opened() as stream:
            yield self._told(rows_of(stream, self.format))

    def _opened(self) -> TextIO:
        # A copy of the number: closing ours leaves the standard input open.
        where: Any = os.dup(sys.stdin.fileno()) if self.path == STREAM else self.path
        newline = "" if self.format in ("csv", "tsv") else None
        try:
            return open(where, encoding="utf-8-sig", errors="surrogateescape", newline=newline)
        except OSError as error:
            raise self._unreadable(error) from None

    def _told(self, rows: Iterator[Row]) -> Iterator[Row]:
        try:
            yield from rows
        except OSError as error:
            raise self._unreadable(error) from None
        except HeaderError as error:
            raise Problem(f"{self.name}, line {error}", Exit.INPUT) from None

    def _unreadable(self, error: OSError) -> Problem:
        return Problem(f"{self.name} cannot be read: {reason(error)}", Exit.INPUT)


def format_of(path: str) -> str | None:
    """By the end of its name, or None where that says nothing."""
    return SUFFIXES.get(Path(path).suffix.lower())


def rows_of(stream: TextIO, format: str) -> Iterator[Row]:
    """The rows of what is open. Blank lines are none."""
    if format == "text":
        return _of_lines(stream, _text)
    if format == "jsonl":
        return _of_lines(stream, _json)
    return _of_cells(stream, "\t" if format == "tsv" else ",")


def _of_lines(stream: TextIO, read: Any) -> Iterator[Row]:
    index = 0
    for number, line in enumerate(stream, 1):
        if line.isspace():
            continue
        found = read(line) if line.isascii() or not _is_broken(line) else NOT_UTF8
        yield Row(index, number, {}, found) if isinstance(found, str) else Row(index, number, found)
        index += 1


def _text(line: str) -> dict[str, Any]:
    return {PROMPT: line.removesuffix("\n")}


def _json(line: str) -> dict[str, Any] | str:
    line = line.rstrip()  # the line's end would be the first wrong character of a text that is cut off
    try:
        found, end = _decode(line)  # the short way of a line as most are: a third of the time
        if end == len(line) and isinstance(found, dict):
            return found
    except (ValueError, RecursionError):
        pass
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        return f"no JSON: {error.msg[0].lower()}{error.msg[1:].removesuffix(' at')} at column {error.colno}"
    except (ValueError, RecursionError):
        return "no JSON that can be read: a number too long, or too many brackets in each other"
    if not isinstance(found, dict):
        return f"{a_kind(found)}, where an object such as {{\"{PROMPT}\": \"...\"}} belongs"
    return found


def _of_cells(stream: TextIO, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(_MOST_CELL)
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    index = 0
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if header is None:
                raise HeaderError(f"{reader.line_num}: no header that can be read: {error}") from None
            yield Row(index, reader.line_num, {}, f"no CSV: {error}")
            index += 1
            continue
        if not cells:
            continue
        if header is None:
            header = _header(cells)
            continue
        problem = ""
        if any(map(_is_broken, cells)):
            problem = NOT_UTF8
        elif len(cells) != len(header):
            problem = f"{len(cells)} cells, where the header has {len(header)}"
        yield Row(index, reader.line_num, {} if problem else dict(zip(header, cells, strict=True)), problem)
        index += 1


def _header(cells: list[str]) -> list[str]:
    if any(map(_is_broken, cells)):
        raise HeaderError(f"1: {NOT_UTF8}")
    names = [cell.strip() for cell in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise HeaderError(f"1: the header has {', '.join(map(repr, twice))} more than once")
    return names


NOT_UTF8: Final = "bytes that are not UTF-8"


def _is_broken(text: str) -> bool:
    """Whether bytes that are not UTF-8 were read into it: they stand there as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def a_kind(value: object) -> str:
    """What a value of JSON is, in words."""
    if value is None:
        return "null"
    kinds: tuple[tuple[type, str], ...] = ((bool, "true or false"), (str, "a text"), (list, "a list"),
                                           (dict, "an object"))
    return next((word for kind, word in kinds if isinstance(value, kind)), "a number")
