"""Who may write to a journal: one mapping at a time, among all processes.

The lock is SQLite's own, on an empty file beside the journal: so readers of the journal are let be, the lock is gone
with its process, is not handed to a forked child, and keeps two mappings of one process apart too.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from llm_guard import clock
from llm_guard.errors import JournalBusy
from llm_guard.mapping.journal.files import create, translated

#: Seconds between two looks at a lock that another one holds.
_LOOKS = 0.05


class Lock:
    """Held until its `connection` is closed. Waits `wait` seconds for another one to let go, then `JournalBusy`."""

    def __init__(self, path: str, wait: float) -> None:
        name = path + "-lock"
        with translated(path):
            create(name)
            self.connection = sqlite3.connect(name, timeout=0, isolation_level=None, check_same_thread=False)
            try:
                self._take(path, wait)
            except BaseException:
                self.connection.close()
                raise

    def _take(self, path: str, wait: float) -> None:
        now = clock.current().now
        until = now() + wait
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode = MEMORY")  # nothing beside the file
                self.connection.execute("BEGIN EXCLUSIVE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
            left = until - now()
            if left <= 0:
                raise _busy(path, wait)
            clock.current().sleep(min(left, _LOOKS))


def _busy(path: str, wait: float) -> JournalBusy:
    pid = _holder(path)
    by = "another mapping" + ("" if pid is None else f" (process {pid})")
    return JournalBusy(f"{by} uses this journal" + (f", still after {wait:g} s" if wait else ""), path=path, pid=pid)


def _holder(path: str) -> int | None:
    try:
        with closing(sqlite3.connect(path, timeout=0.1)) as connection:
            found = connection.execute("SELECT value FROM facts WHERE name = 'holder'").fetchone()
    except sqlite3.Error:
        return None
    return found[0] if found is not None and isinstance(found[0], int) else None
