"""Finds what earlier runs recorded: reads ahead in the order in which it was recorded, a few hundred rows at a time."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from typing import NamedTuple

#: Rows that are read at once, and at most so many times of them are kept.
CHUNK, CHUNKS = 128, 16

_COLUMNS = "id, mark, nth, item, kind, attempts, seconds, form, value"


class Row(NamedTuple):
    """What is recorded of one item."""

    id: int
    mark: bytes
    nth: int
    item: bytes | None
    kind: str
    attempts: int
    seconds: float
    form: str | None
    value: str | bytes | None


class ByPlace:
    """Asked with places that grow. Sees what was there when it was made."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._last = _last(connection)
        self._rows: list[Row] = []  # the next one at the end
        self._read = -1

    def find(self, place: int) -> Row | None:
        """The row of that place."""
        if place > self._last:
            self._rows = []
            return None
        rows = self._rows
        while not rows or rows[-1].id < place:
            if rows:
                rows.pop()
            elif self._read >= self._last:
                return None
            else:
                self._rows = rows = _chunk(self._connection, max(self._read + 1, place), self._last)[::-1]
                self._read = rows[0].id if rows else self._last
        return rows.pop() if rows[-1].id == place else None


class ByKey:
    """Asked with keys in any order; fast where it is near to that of the run before. Sees what was there when it was
    made."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._last = _last(connection)
        self._chunks: OrderedDict[int, list[tuple[bytes, int]]] = OrderedDict()  # by the first id of each
        self._rows: dict[tuple[bytes, int], Row] = {}

    def find(self, mark: bytes, nth: int) -> Row | None:
        """The row of the n-th item of that key."""
        if self._last < 0:
            return None
        row = self._rows.pop((mark, nth), None)
        if row is not None:
            return row
        found = self._connection.execute("SELECT id FROM items WHERE mark = ? AND nth = ? AND id <= ?",
                                         (mark, nth, self._last)).fetchone()
        if found is None:
            return None
        self._read_from(found[0] - found[0] % CHUNK)
        return self._rows.pop((mark, nth), None)

    def _read_from(self, first: int) -> None:
        rows = _chunk(self._connection, first, self._last)
        names = [(row.mark, row.nth) for row in rows]
        self._rows.update(zip(names, rows, strict=True))
        self._chunks[first] = names
        if len(self._chunks) > CHUNKS:
            for name in self._chunks.popitem(last=False)[1]:
                self._rows.pop(name, None)


def _last(connection: sqlite3.Connection) -> int:
    last, = connection.execute("SELECT max(id) FROM items").fetchone()
    return -1 if last is None else int(last)


def _chunk(connection: sqlite3.Connection, first: int, last: int) -> list[Row]:
    """All of it at once: a statement that stays open would keep the log from being emptied."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM items WHERE id BETWEEN ? AND ? ORDER BY id LIMIT {CHUNK}",
                              (first, last)).fetchall()
    return [Row(*row) for row in rows]
