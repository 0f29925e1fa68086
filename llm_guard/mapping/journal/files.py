"""The file of a journal: an SQLite database of mode 0600, its tables, and what can be wrong with one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from llm_guard.errors import JournalError

#: What the header of a journal says: whose it is, and which version of these tables.
APPLICATION: Final = 0x6C6C6D67
SCHEMA: Final = 1

# `id` is the place in the input where items are known by that, else the order of recording. `mark` is the digest of
# the item, or, where there are keys, the mark of its key, whose n-th item it is; then `item` is the item's digest, if
# it has one.
_TABLES = """
CREATE TABLE facts(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE items(id INTEGER PRIMARY KEY, place INTEGER NOT NULL, mark BLOB NOT NULL, nth INTEGER NOT NULL, item BLOB,
                   key TEXT, kind TEXT NOT NULL, error TEXT, attempts INTEGER NOT NULL, seconds REAL NOT NULL,
                   form TEXT, value);
"""
_INDEXES = """
CREATE UNIQUE INDEX items_by_key ON items(mark, nth);
CREATE INDEX items_by_place ON items(place);
"""


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Errors of SQLite and of the system come out as a `JournalError` that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise as_journal_error(error, path) from error
    except OSError as error:
        raise JournalError(f"cannot be opened: {error.strerror or type(error).__name__}", path=path) from error


def as_journal_error(error: sqlite3.Error, path: str) -> JournalError:
    """What SQLite says, with the file's name."""
    return JournalError(_said(error), path=path)


def _said(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return "is no journal, nor any other SQLite database"
    if code == sqlite3.SQLITE_CORRUPT:
        return f"is damaged ({error})"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return f"cannot be written ({error})"
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return (f"cannot be written ({error}); what was recorded is whole, and the next run goes on from there once "
                "there is room")
    return f"SQLite says: {error}"


def create(path: str) -> None:
    """Makes an empty file that its owner alone may read, where there is none.

    One that exists is not opened: closing it would end the locks that SQLite holds on it for this process.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass


def look(path: str) -> None:
    """Refuses what is there already and is no journal, before anything is made beside it."""
    if os.path.lexists(path) and not (os.path.isfile(path) and os.path.getsize(path) == 0):
        readable(path).close()


def opened(path: str) -> sqlite3.Connection:
    """The database at `path`, which holds the lock; made where there is none. It may be another one's, or older."""
    create(path)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        # A commit is on the disk when it is over: with NORMAL a power cut could take all since the last checkpoint.
        connection.execute("PRAGMA synchronous = FULL")
        check(connection, path)
        if is_new(connection):
            os.chmod(path, 0o600)  # it may have been there, empty; what SQLite puts beside it gets the same
        if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise JournalError("cannot be kept here: the file system has no shared memory, which SQLite's write-ahead "
                               "log takes", path=path)
    except BaseException:
        connection.close()
        raise
    return connection


class Vanished(JournalError):
    """The file is not at its place any more: what was recorded there is gone."""


def place_of(path: str) -> tuple[int, int] | None:
    """What file stands at `path`; None where there is none, or an empty one, which no journal is."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_size else None


def check(connection: sqlite3.Connection, path: str) -> None:
    """Refuses a database that is none of ours."""
    tables, = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    application, = connection.execute("PRAGMA application_id").fetchone()
    schema, = connection.execute("PRAGMA user_version").fetchone()
    if (tables or application) and application != APPLICATION:
        raise JournalError("is a database of something else", path=path)
    if schema > SCHEMA:
        raise JournalError(f"was made by a newer version of llm_guard (schema {schema}; known here: {SCHEMA})",
                           path=path)


def is_new(connection: sqlite3.Connection) -> bool:
    """Whether it has no tables yet: it was just made, or its maker was killed at once."""
    return bool(connection.execute("PRAGMA user_version").fetchone()[0] == 0)


def furnish(connection: sqlite3.Connection, *, keyed: bool) -> None:
    """Makes the tables; in a transaction of the caller's."""
    for statement in (_TABLES + _INDEXES * keyed).split(";"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {SCHEMA}")


def readable(path: str) -> sqlite3.Connection:
    """The database at `path` for reading alone, also from where nothing may be written."""
    if not os.path.isfile(path):
        known = os.path.lexists(path)
        raise FileNotFoundError(0, "it is a directory, or no plain file" if known else "there is no such file")
    address = Path(path).as_uri() + "?mode=ro"
    try:
        return _checked(address, path)
    except sqlite3.OperationalError:
        if os.path.exists(path + "-wal"):
            raise
        # Without a log beside it and without the right to make one: nobody writes.
        return _checked(address + "&immutable=1", path)


def _checked(address: str, path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
    try:
        check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection
