"""Rows of JSONL, CSV and text, and what is said of lines that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_guard.cli.exits import Exit, Problem
from llm_guard.cli.inputs import Row, Source, format_of

SECRET = "do not tell"


def _rows(tmp_path: Path, content: bytes, format: str) -> list[Row]:
    path = tmp_path / "input"
    path.write_bytes(content)
    with Source(str(path), format).rows() as rows:
        return list(rows)


def test_jsonl_has_an_object_a_line_and_blank_lines_count_as_lines_alone(tmp_path: Path) -> None:
    rows = _rows(tmp_path, b'{"prompt": "a"}\n\n  \r\n{"prompt": "b", "n": 2}', "jsonl")
    assert rows == [Row(0, 1, {"prompt": "a"}), Row(1, 4, {"prompt": "b", "n": 2})]


def test_text_has_a_prompt_a_line(tmp_path: Path) -> None:
    assert _rows(tmp_path, b"one \r\n\ntwo\n", "text") == [Row(0, 1, {"prompt": "one "}), Row(1, 3, {"prompt": "two"})]


def test_csv_has_cells_of_many_lines_and_of_any_size(tmp_path: Path) -> None:
    long = "x" * 300_000
    rows = _rows(tmp_path, f'id,text\r\n1,"a\n\nb"\r\n2,{long}\r\n'.encode(), "csv")
    assert rows == [Row(0, 4, {"id": "1", "text": "a\n\nb"}), Row(1, 5, {"id": "2", "text": long})]


def test_tsv_is_parted_by_tabs(tmp_path: Path) -> None:
    assert _rows(tmp_path, b"id\ttext\n1\ta, b\n", "tsv") == [Row(0, 2, {"id": "1", "text": "a, b"})]


@pytest.mark.parametrize(("format", "content", "fields"), [
    ("jsonl", '{"prompt": "ü"}', {"prompt": "ü"}), ("csv", "prompt\nü", {"prompt": "ü"}),
    ("text", "ü", {"prompt": "ü"})])
def test_a_byte_order_mark_is_no_content(tmp_path: Path, format: str, content: str, fields: dict[str, str]) -> None:
    assert [row.fields for row in _rows(tmp_path, b"\xef\xbb\xbf" + content.encode(), format)] == [fields]


@pytest.mark.parametrize(("format", "line", "problem"), [
    ("jsonl", b'{"prompt": "do not tell', "no JSON: unterminated string starting at column 12"),
    ("jsonl", b"[1, 2]", 'a list, where an object such as {"prompt": "..."} belongs'),
    ("jsonl", b'"do not tell"', 'a text, where an object such as {"prompt": "..."} belongs'),
    ("jsonl", b"3", 'a number, where an object such as {"prompt": "..."} belongs'),
    ("jsonl", b'{"prompt": "\xff do not tell"}', "bytes that are not UTF-8"),
    ("jsonl", b"[" * 200_000, "no JSON that can be read: a number too long, or too many brackets in each other"),
    ("jsonl", b'{"n": ' + b"9" * 10_000 + b"}",
     "no JSON that can be read: a number too long, or too many brackets in each other"),
    ("text", b"caf\xe9 do not tell", "bytes that are not UTF-8"),
    ("csv", b"do not tell,b,c", "3 cells, where the header has 1"),
    ("csv", b"caf\xe9", "bytes that are not UTF-8"),
    ("csv", b'"do not tell" x', "no CSV: ',' expected after '\"'"),
], ids=["cut off", "list", "text", "number", "latin 1 in JSON", "deep", "long", "latin 1 in text", "cells",
        "latin 1 in CSV", "quotes"])
def test_a_line_that_cannot_be_read_says_why_and_the_others_are_there(
        tmp_path: Path, format: str, line: bytes, problem: str) -> None:
    good = {"jsonl": b'{"prompt": "good"}', "csv": b"good", "text": b"good"}[format]
    head = b"prompt\n" if format == "csv" else b""
    rows = _rows(tmp_path, head + b"\n".join([good, line, good]) + b"\n", format)
    first = 2 if head else 1
    assert rows == [Row(0, first, {"prompt": "good"}), Row(1, first + 1, {}, problem),
                    Row(2, first + 2, {"prompt": "good"})]
    assert SECRET not in problem


def test_an_open_quote_is_found_at_the_end(tmp_path: Path) -> None:
    assert [row.problem for row in _rows(tmp_path, b'prompt\ngood\n"open\nmore\n', "csv")] == [
        "", "no CSV: unexpected end of data"]


@pytest.mark.parametrize(("header", "says"), [
    (b"a,b,a\n1,2,3\n", "line 1: the header has 'a' more than once"), (b"a,\xff\n1,2\n", "line 1: bytes that are not"),
    (b'"a" b\n', "line 1: no header that can be read")], ids=["twice", "bytes", "quotes"])
def test_a_header_that_names_no_fields_ends_it(tmp_path: Path, header: bytes, says: str) -> None:
    with pytest.raises(Problem, match=says) as raised:
        _rows(tmp_path, header, "csv")
    assert raised.value.exit_code == Exit.INPUT
    assert str(tmp_path / "input") in str(raised.value)


@pytest.mark.parametrize("name", ["", "nothing"], ids=["a folder", "nothing there"])
def test_what_cannot_be_opened_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(Problem, match="cannot be read") as raised, Source(str(path), "jsonl").rows():
        pass
    assert raised.value.exit_code == Exit.INPUT
    assert str(path) in str(raised.value)


def test_rows_are_read_lazily(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"a\n" * 1_000_000)
    with Source(str(path), "text").rows() as rows:
        assert next(rows).index == 0
        path.write_bytes(b"")
        assert sum(1 for _ in rows) < 1_000_000 - 1


@pytest.mark.parametrize(("name", "format"), [
    ("a.jsonl", "jsonl"), ("a.NDJSON", "jsonl"), ("a.csv", "csv"), ("a.tsv", "tsv"), ("a.txt", "text"),
    ("a.json", None), ("a", None), ("-", None)])
def test_the_name_tells_the_format(name: str, format: str | None) -> None:
    assert format_of(name) == format
