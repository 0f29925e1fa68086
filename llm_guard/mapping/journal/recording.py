"""A journal in use: the recorder of one mapping."""

from __future__ import annotations

import sqlite3
from _thread import allocate_lock
from collections.abc import Callable
from ctypes import py_object, pythonapi
from typing import Generic, NamedTuple, TypeVar

from llm_guard.errors import JournalError, QuotaExhausted, Rejected
from llm_guard.fork import renew_after_fork
from llm_guard.mapping.journal.codec import Json, Own, Unfit
from llm_guard.mapping.journal.files import as_journal_error
from llm_guard.mapping.journal.identity import item_digest, key_mark, key_text, no_key_needed
from llm_guard.mapping.journal.lookup import ByKey, ByPlace, Row
from llm_guard.mapping.journal.occurrences import Occurrences
from llm_guard.mapping.journal.table import Table, Values
from llm_guard.mapping.journal.writer import Writer
from llm_guard.mapping.result import Result
from llm_guard.mapping.seams import Then, Why
from llm_guard.outcome import Kind
from llm_guard.runtime.reading import Classify, of_error

T = TypeVar("T")
R = TypeVar("R")

_OTHER_PLACE = "there (give another journal, or a `key=` by which items are known wherever they stand)"
_OTHER_KEY = "under its key (give another journal, or a `key=` that tells them apart)"


class _Known(NamedTuple):
    """What an item that is to be called is known by."""

    mark: bytes
    nth: int
    item: bytes | None
    key: str | None


class Recording(Generic[T, R]):
    """What stands beside the mapping (`seams.Recorder`), from when the journal is open until the mapping has ended.

    `table` and `reads` are its own, closed with it. Consumer and workers come at the same time.
    """

    def __init__(self, path: str, table: Table, reads: sqlite3.Connection, *, codec: Json | Own,
                 key: Callable[[T], object] | None, batch: int, classify: Classify | None) -> None:
        self._path = path
        self._table = table
        self._reads = [reads]
        self._reading = allocate_lock()  # `close` may come from another thread than the consumer's
        self._codec = codec
        self._key = key
        self._classify = classify
        self._known: dict[int, _Known] = {}
        self._total: int | None = None
        self._is_forked = False
        self._writer: Writer[Values] = Writer(table.write, batch)
        if key is None:
            self._places = ByPlace(reads)
        else:
            self._keys = ByKey(reads)
            self._occurrences = Occurrences()
            self._reads.append(self._occurrences.connection)
        renew_after_fork(self)

    def recall(self, index: int, item: T) -> Result[T, R] | None:
        """The recorded result; JournalError where another item was recorded in its place, or under its key."""
        self._check_process()
        if self._key is None:
            known = _Known(no_key_needed(item), 0, None, None)
        else:
            text = self._key_text(self._key, index, item)
            mark = key_mark(text)
            known = _Known(mark, self._occurrence(mark), item_digest(item), text)
        row = self._find(index, known)
        if row is None or row.kind != Kind.SUCCESS.value:  # of what failed nothing is kept that could be another's
            self._known[index] = known
            return None
        recorded, own = (row.mark, known.mark) if self._key is None else (row.item, known.item)
        if recorded is not None and own is not None and recorded != own:
            raise JournalError(f"is of another input: the item at index {index} is not the one that was recorded "
                               + (_OTHER_PLACE if self._key is None else _OTHER_KEY), path=self._path)
        return Result(index, item, self._value(row, index), None, row.attempts, row.seconds)

    @staticmethod
    def _key_text(key: Callable[[T], object], index: int, item: T) -> str:
        try:
            return key_text(key(item))
        except Exception as error:
            error.add_note(f"llm_guard: key could not tell the key of the item at index {index}")
            if isinstance(error, StopIteration):  # raised by an iterator it would be its end, and all after it lost
                raise RuntimeError("key raised StopIteration") from error
            raise

    def look(self, index: int, item: T) -> Result[T, R] | None:
        """As `recall`, for one who only reads: the item is not going to be called."""
        found = self.recall(index, item)
        self._known.pop(index, None)
        return found

    def _occurrence(self, mark: bytes) -> int:
        try:
            with self._reading:
                return self._occurrences.next(mark)
        except sqlite3.Error as error:
            raise JournalError(f"the keys cannot be counted in a temporary file: {error}", path=self._path) from error

    def _find(self, index: int, known: _Known) -> Row | None:
        try:
            with self._reading:
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
                self._table.input_ended(self._total)
        finally:
            with self._reading:
                self._stop_reading()
            self._table.close()

    def drop(self) -> None:
        """Nothing: what is in flight is still recorded, and then nobody holds this any more."""

    def __del__(self) -> None:
        if hasattr(self, "_is_forked") and not self._is_forked:
            self._stop_reading()  # the one who writes may be at work

    def _stop_reading(self) -> None:
        while self._reads:
            self._reads.pop().close()

    def _check_process(self) -> None:
        if self._is_forked:
            raise JournalError("was opened by the process that forked this one", path=self._path)

    def after_fork(self) -> None:
        """The connections are the parent's. To close them, be it by dropping them, could spoil its file, so they live
        as long as this process."""
        self._is_forked = True
        for owned in (self._table, *self._reads):
            pythonapi.Py_IncRef(py_object(owned))


def _name(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
