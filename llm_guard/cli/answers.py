"""The rows of the output: what became of an item, as JSON and as CSV.

An error is told by its outcome, its type, the status and the code of the server: never by what anyone said.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from typing import Any, Final, Protocol, TextIO

from llm_guard.cli.items import Item
from llm_guard.errors import QuotaExhausted, Rejected
from llm_guard.llm.errors import AnswerError, code_in
from llm_guard.llm.reply import reply_of, response_in
from llm_guard.llm.signals import outcome_of
from llm_guard.llm.text import Text
from llm_guard.outcome import Kind
from llm_guard.runtime.reading import of_error

_REJECTED: Final = "rejected"  # nothing was sent, or it was given up
USED: Final = ("input", "output", "total", "cached")


class UnusableLine(Rejected):
    """The item's line cannot be used: nothing was sent."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem, policy="input")


def recorded(answer: Text) -> dict[str, Any]:
    """What is kept of an answer: plain JSON."""
    found: dict[str, Any] = {"answer": str(answer)}
    if answer.finish_reason is not None:
        found["finish_reason"] = answer.finish_reason
    used = {name: count for name in USED if (count := getattr(answer.usage, name, None)) is not None}
    return {**found, "usage": used} if used else found


def error_of(error: BaseException) -> dict[str, Any]:
    """An error in the words of the output."""
    if isinstance(error, UnusableLine):
        return {"outcome": "input", "type": "line", "message": str(error)}
    kind = of_error(error, lambda end: outcome_of(end) if isinstance(end, Exception) else None).kind
    status, code = status_and_code(error)
    word = Kind.QUOTA.value if isinstance(error, QuotaExhausted) else _REJECTED if kind is Kind.IGNORED else kind.value
    return {"outcome": word, "type": type(error).__name__,
            **({} if status is None else {"status": status}), **({} if code is None else {"code": code})}


def status_and_code(error: BaseException) -> tuple[int | None, str | None]:
    """The HTTP status of an error and the machine's word for what went wrong, where they are known."""
    if isinstance(error, AnswerError):
        return error.status, error.code
    response = response_in(error)
    reply = None if response is None else reply_of(response)
    return (None, None) if reply is None else (reply.status, code_in(reply.body))


def output_row(item: Item, value: Mapping[str, Any] | None, error: Mapping[str, Any] | None,
               with_id: bool) -> dict[str, Any]:
    """One row: where the item stands, what was kept of it, and its answer or its error."""
    row: dict[str, Any] = {"index": item.index}
    if with_id:
        row["id"] = item.id
    if item.kept:
        row["input"] = item.kept
    return {**row, **({"answer": None, "error": dict(error)} if error is not None else value or {})}


class Writer(Protocol):
    """Writes rows."""

    def write(self, row: Mapping[str, Any]) -> None: ...


class JsonWriter:
    """A line of JSON for each row."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, row: Mapping[str, Any]) -> None:
        self._stream.write(_json(row) + "\n")


class CsvWriter:
    """A header and a line for each row; what was kept of the input is in columns named `input.FIELD`."""

    def __init__(self, stream: TextIO, with_id: bool, keep: tuple[str, ...]) -> None:
        self._names = (*(("index", "id") if with_id else ("index",)), *(f"input.{name}" for name in keep), "answer",
                       "finish_reason", *(f"{name}_tokens" for name in USED), "error", "status", "code", "message")
        self._writer = csv.DictWriter(stream, self._names, lineterminator="\n")
        self._writer.writeheader()

    def write(self, row: Mapping[str, Any]) -> None:
        error = row.get("error", {})
        cells = {"index": row["index"], "id": row.get("id"), "answer": row.get("answer"),
                 "finish_reason": row.get("finish_reason"), "error": error.get("outcome"),
                 **{name: error.get(name) for name in ("status", "code", "message")},
                 **{f"{name}_tokens": count for name, count in row.get("usage", {}).items()},
                 **{f"input.{name}": value for name, value in row.get("input", {}).items()}}
        self._writer.writerow({name: _cell(cells.get(name)) for name in self._names})


def _json(value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates, as JSON may have them
        return json.dumps(_finite(value))
    except ValueError:  # the input may have NaN, which is no JSON
        return _json(_finite(value))
    return text


def _finite(value: Any) -> Any:
    """With null for what is no number, or infinite."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return _json(value) if isinstance(value, dict | list | bool) else value
