"""Writes to a journal's file, each batch in a transaction of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any

from llm_guard.mapping.journal.files import Vanished, place_of, translated

_COLUMNS = "id, place, mark, nth, item, key, kind, error, attempts, seconds, form, value"
_UPDATED = ("place", "item", "kind", "error", "attempts", "seconds", "form", "value")
_BY_PLACE = f"INSERT OR REPLACE INTO items({_COLUMNS}) VALUES"
_BY_KEY = f"INSERT INTO items({_COLUMNS}) VALUES"
_ON_CONFLICT = (" ON CONFLICT(mark, nth) DO UPDATE SET "
                + ", ".join(f"{column} = excluded.{column}" for column in _UPDATED))
_ROW = f"({', '.join('?' * 12)})"
#: Rows that go in by one statement: each statement gives the interpreter's lock away and waits for it again.
_AT_ONCE = (64, 16, 4, 1)
Values = tuple[Any, ...]


class Table:
    """Writes through `connection`, and holds `lock` as long. Dropped, it lets go of both: whoever still writes holds
    it."""

    def __init__(self, path: str, connection: sqlite3.Connection, lock: sqlite3.Connection, *, keyed: bool) -> None:
        self._path = path
        self._place = place_of(path)
        self.connection = connection
        self.lock = lock
        begin, end = (_BY_KEY, _ON_CONFLICT) if keyed else (_BY_PLACE, "")
        self._statements = {count: begin + ", ".join([_ROW] * count) + end for count in _AT_ONCE}

    def write(self, rows: Sequence[Values]) -> None:
        """All of them or none. They have the columns of `items`."""
        statements: list[tuple[str, Values]] = []
        at = 0
        for count, statement in self._statements.items():
            while len(rows) - at >= count:
                statements.append((statement, tuple(chain.from_iterable(rows[at:at + count]))))
                at += count
        self._transact(statements)

    def input_ended(self, total: int) -> None:
        """All of an input of `total` items is done."""
        self._transact([("INSERT OR REPLACE INTO facts VALUES('total', ?)", (total,))])

    def _transact(self, statements: Sequence[tuple[str, Values]]) -> None:
        """After an error nothing more is written here: the transaction is taken back when the file is let go of."""
        with translated(self._path):
            self.connection.execute("BEGIN IMMEDIATE")
            for statement, values in statements:
                self.connection.execute(statement, values)
            self.connection.execute("COMMIT")
        if place_of(self._path) != self._place:  # what was written is nowhere
            raise Vanished("was deleted, replaced or emptied while it was in use: what was recorded there is gone, and "
                           "nothing further is called", path=self._path)

    def close(self) -> None:
        """Lets go of the file, then of the lock. Again: no effect."""
        self.connection.close()
        self.lock.close()

    def __del__(self) -> None:
        if hasattr(self, "lock"):
            self.close()
