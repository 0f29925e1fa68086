"""Counts how often each key has come, of any number of keys: on the disk, once they are many."""

from __future__ import annotations

import sqlite3

#: Keys that are counted in memory before they go to the disk.
MOST = 100_000


class Occurrences:
    """For one thread, until its `connection` is closed."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        # A database without a name is temporary: in memory as long as it is small, then in a file that is gone with it.
        self.connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for option in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -4096"):
            self.connection.execute(f"PRAGMA {option}")
        self.connection.execute("CREATE TABLE seen(mark INTEGER PRIMARY KEY, count INTEGER NOT NULL)")
        self.connection.execute("BEGIN")  # never committed: nobody else will read it
        self._spilled = False

    def next(self, mark: bytes) -> int:
        """How often this key had come before: 0 the first time."""
        number = int.from_bytes(mark[-8:], "big", signed=True)
        count = self._counts.get(number)
        if count is None:
            if len(self._counts) >= MOST:
                self._spill()
            count = self._on_disk(number) if self._spilled else 0
        self._counts[number] = count + 1
        return count

    def _on_disk(self, number: int) -> int:
        found = self.connection.execute("SELECT count FROM seen WHERE mark = ?", (number,)).fetchone()
        return 0 if found is None else int(found[0])

    def _spill(self) -> None:
        self.connection.executemany("INSERT OR REPLACE INTO seen VALUES(?, ?)", sorted(self._counts.items()))
        self._counts = {}
        self._spilled = True
