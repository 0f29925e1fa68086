"""A journal in use: the recorder of one mapping."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from ctypes import py_object, pythonapi
from itertools import chain
from typing import Any, Generic, NamedTuple, TypeVar

from llm_guard.errors import JournalError, QuotaExhausted, Rejected
from llm_guard.fork import renew_after_fork
from llm_guard.mapping.journal.codec import Json, Own, Unfit
from llm_guard.mapping.journal.files import as_journal_error, translated
from llm_guard.mapping.journal.identity import digest, item_digest, key_text, no_key_needed
from llm_guard.mapping.journal.lookup import ByKey, ByPlace, Row
from llm_guard.mapping.journal.occurrences import Occurrences
from llm_guard.mapping.journal.writer import Writer
from llm_guard.mapping.result import Result
from llm_guard.mapping.seams import Then, Why
from llm_guard.outcome import Kind
from llm_guard.runtime.reading import Classify, of_error

T = TypeVar("T")
R = TypeVar("R")

_COLUMNS = "id, place, mark, nth, item, key, kind, error, attempts, seconds, form, value"
_UPDATED = ("place", "item", "kind", "error", "attempts", "seconds", "form", "value")
_BY_PLACE = f"INSERT OR REPLACE INTO items({_COLUMNS}) VALUES"
_BY_KEY = f"INSERT INTO items({_COLUMNS}) VALUES"
_ON_CONFLICT = (" ON CONFLICT(mark, nth) DO UPDATE SET "
                + ", ".join(f"{column} = excluded.{column}" for column in _UPDATED))
_ROW = f"({', '.join('?' * 12)})"
#: Rows that go in by one statement: each statement gives the interpreter's lock away and waits for it again.
_AT_ONCE = (64, 16, 4, 1)
_OTHER_PLACE = "there (give another journal, or a `key=` by which items are known wherever they stand)"
_OTHER_KEY = "under its key (give another journal, or a `key=` that tells them apart)"

Values = tuple[Any, ...]


class _Known(NamedTuple):
    """What an item that is to be called is known by."""

    mark: bytes
    nth: int
    item: bytes | None
    key: str | None


class Recording(Generic[T, R]):
    """What stands beside the mapping (`seams.Recorder`), from when the journal is open until the mapping has ended.

    `writes`, `reads` and `lock` are its own connections, closed with it. Consumer and workers come at the same time.
    """

    def __init__(self, path: str, writes: sqlite3.Connection, reads: sqlite3.Connection, lock: sqlite3.Connection, *,
                 codec: Json | Own, key: Callable[[T], object] | None, batch: int, classify: Classify | None) -> None:
        self._path = path
        self._writes = writes
        self._connections = [reads, writes, lock]  # the lock at last
        self._codec = codec
        self._key = key
        self._classify = classify
        self._known: dict[int, _Known] = {}
        self._total: int | None = None
        self._is_forked = False
        self._writer: Writer[Values] = Writer(self._commit, batch)
        begin, end = (_BY_PLACE, "") if key is None else (_BY_KEY, _ON_CONFLICT)
        self._statements = {count: begin + ", ".join([_ROW] * count) + end for count in _AT_ONCE}
        if key is None:
            self._places = ByPlace(reads)
        else:
            self._keys = ByKey(reads)
            self._occurrences = Occurrences()
            self._connections.insert(0, self._occurrences.connection)
        renew_after_fork(self)

    def recall(self, index: int, item: T) -> Result[T, R] | None:
        """The recorded result; JournalError where another item was recorded in its place, or under its key."""
        self._check_process()
        if self._key is None:
            known = _Known(no_key_needed(item), 0, None, None)
        else:
            text = key_text(self._key(item))
            mark = digest(text)
            known = _Known(mark, self._occurrence(mark), item_digest(item), text)
        row = self._find(index, known)
        if row is None:
            self._known[index] = known
            return None
        recorded, own = (row.mark, known.mark) if self._key is None else (row.item, known.item)
        if recorded is not None and own is not None and recorded != own:
            raise JournalError(f"is of another input: the item at index {index} is not the one that was recorded "
                               + (_OTHER_PLACE if self._key is None else _OTHER_KEY), path=self._path)
        if row.kind != Kind.SUCCESS.value:
            self._known[index] = known
            return None
        return Result(index, item, self._value(row, index), None, row.attempts, row.seconds)

    def _occurrence(self, mark: bytes) -> int:
        try:
            return self._occurrences.next(mark)
        except sqlite3.Error as error:
            raise JournalError(f"the keys cannot be counted in a temporary file: {error}", path=self._path) from error

    def _find(self, index: int, known: _Known) -> Row | None:
        try:
            return self._places.find(index) if self._key is None else self._keys.find(known.mark, known.nth)
        except sqlite3.Error as error:
            raise as_journal_error(error, self._path) from error

    def _value(self, row: Row, index: int) -> R:
        try:
            value: R = self._codec.loads(row.form, row.value)  # type: ignore[arg-type]  # a success has one
        except Exception as error:
            raise JournalError(f"is damaged: the result of the item at index {index} cannot be read "
                               f"({type(error).__name__})", path=self._path) from None
        return value

    def record(self, result: Result[T, R], then: Then) -> None:
        """Writes it with the next batch. JournalError for a value that cannot be kept as it is."""
        self._check_process()
        known = self._known.pop(result.index)
        error = result.error
        form, value, kind, name = None, None, Kind.SUCCESS.value, None
        if error is None:
            try:
                form, value = self._codec.dumps(result.value)
            except Unfit as unfit:
                raise JournalError(f"cannot keep the result of the item at index {result.index}, {unfit}: give it a "
                                   "`codec=`, or return what JSON gives back as it was (str, int, float, bool, None, "
                                   "lists, dicts with keys of type str)", path=self._path) from None
        else:
            kind, name = self._kind(error), _name(type(error))
        place = result.index if self._key is None else None
        self._writer.put((place, result.index, known.mark, known.nth, known.item, known.key, kind, name,
                          result.attempts, result.seconds, form, value), then)

    def _kind(self, error: BaseException) -> str:
        if isinstance(error, Rejected):
            return Kind.QUOTA.value if isinstance(error, QuotaExhausted) else "rejected"
        try:
            return of_error(error, self._classify).kind.value
        except Exception:  # the user's own reading of errors
            return Kind.FAILURE.value

    def _commit(self, rows: Sequence[Values]) -> None:
        statements: list[tuple[str, Values]] = []
        at = 0
        for count, statement in self._statements.items():
            while len(rows) - at >= count:
                statements.append((statement, tuple(chain.from_iterable(rows[at:at + count]))))
                at += count
        self._transact(statements)

    def _transact(self, statements: Sequence[tuple[str, Values]]) -> None:
        connection = self._writes
        with translated(self._path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                for statement, values in statements:
                    connection.execute(statement, values)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # of some errors SQLite itself takes all back
                    connection.execute("ROLLBACK")
                raise

    def input_ended(self, total: int) -> None:
        """Remembered until all of it is done."""
        self._total = total

    def close(self, why: Why) -> None:
        """Writes what is there, and that the input ended, where it did."""
        if self._is_forked:
            return
        self._writer.close()
        try:
            if why == "done" and self._total is not None and self._writer.error is None:
                self._transact([("INSERT OR REPLACE INTO facts VALUES('total', ?)", (self._total,))])
        finally:
            self._shut()

    def drop(self) -> None:
        """Nothing: what is in flight is still recorded, and then nobody holds this any more."""

    def __del__(self) -> None:
        if hasattr(self, "_writer") and not self._is_forked:
            self._shut()

    def _shut(self) -> None:
        while self._connections:
            self._connections.pop(0).close()

    def _check_process(self) -> None:
        if self._is_forked:
            raise JournalError("was opened by the process that forked this one", path=self._path)

    def after_fork(self) -> None:
        """The connections are the parent's. To close them, be it by dropping them, could spoil its file, so they live
        as long as this process."""
        for connection in self._connections:
            pythonapi.Py_IncRef(py_object(connection))


def _name(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
