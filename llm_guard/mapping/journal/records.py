"""Reading a journal: what is recorded in it, in the order of the input, also while it is written."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from llm_guard.errors import JournalError
from llm_guard.mapping.journal.codec import Json, Own
from llm_guard.mapping.journal.files import is_new, readable, translated
from llm_guard.mapping.journal.identity import Key, key_of
from llm_guard.outcome import Kind

_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Record:
    """What is recorded of one item. `repr` shows neither key nor value.

    `index` is its place in the input when it was recorded. `key` is None where items are known by their place. `kind`
    is "success", or how the last call failed: a value of `Kind`, or "rejected" where it never started; then `error` is
    the name of the error's type, and `value` None. `attempts` and `seconds` are those of the `Result`.
    """

    index: int
    key: Key | None = field(repr=False)
    value: Any = field(repr=False)
    kind: str
    error: str | None
    attempts: int
    seconds: float


class Records(Iterator[Record]):
    """An iterator over the records, in order of their index; reads a few hundred at a time.

    `function` and `version` are those of the function that was mapped; `counts` tells how many records there are of
    each kind, as it is now; `total` how many items the input had, or None where the last run did not come to its end.
    `note` is the journal's.
    To be closed (`with`), or read to its end.
    """

    def __init__(self, path: str, codec: Json | Own) -> None:
        self._path = path
        self._codec = codec
        with translated(path):
            self._connection = readable(path)
            try:
                facts = {} if is_new(self._connection) else dict(self._connection.execute("SELECT * FROM facts"))
            except BaseException:
                self._connection.close()
                raise
        self._empty = not facts
        if not self._empty and facts.get("codec") != codec.name:
            self._connection.close()
            raise JournalError(f"was written with the codec {facts.get('codec')}, not {codec.name}", path=path)
        self.function: str = facts.get("function", "")
        self.version: str = facts.get("version", "")
        self.note: str | None = facts.get("note")
        self.total: int | None = facts.get("total")
        # Without keys they are the same, and have no index beside the table itself.
        order = "place, id" if facts.get("keyed") else "id, id"
        self._next = ("SELECT id, place, key, kind, error, attempts, seconds, form, value FROM items "
                      f"WHERE ({order}) > (?, ?) ORDER BY {order} LIMIT {_CHUNK}")
        self._rows = self._read()
        self._at_end: dict[str, int] | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many records there are of each kind."""
        if self._empty or self._at_end is not None:
            return dict(self._at_end or {})
        with translated(self._path):
            return dict(self._connection.execute("SELECT kind, count(*) FROM items GROUP BY kind ORDER BY kind"))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Record:
        return next(self._rows)

    def _read(self) -> Generator[Record, None, None]:
        at = (-1, -1)
        while not self._empty and (rows := self._chunk(at)):
            for row in rows:
                yield self._record(row)
            at = rows[-1][1], rows[-1][0]
        self._at_end = self.counts
        self._connection.close()

    def _chunk(self, after: tuple[int, int]) -> list[tuple[Any, ...]]:
        with translated(self._path):
            return self._connection.execute(self._next, after).fetchall()

    def _record(self, row: tuple[Any, ...]) -> Record:
        _, place, key, kind, error, attempts, seconds, form, kept = row
        try:
            value = self._codec.loads(form, kept) if kind == Kind.SUCCESS.value else None
            return Record(place, None if key is None else key_of(key), value, kind, error, attempts, seconds)
        except Exception as failed:
            raise JournalError(f"is damaged: the record of the item at index {place} cannot be read "
                               f"({type(failed).__name__})", path=self._path) from None

    def close(self) -> None:
        """Ends it. Again: no effect."""
        self._rows.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
