"""`Journal`: where the results of a mapping are kept, so that no item is called again."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from llm_guard import checks
from llm_guard.errors import ConfigError, JournalError
from llm_guard.mapping.journal.codec import Codec, kept_by
from llm_guard.mapping.journal.files import furnish, is_new, look, opened, readable, translated
from llm_guard.mapping.journal.lock import Lock
from llm_guard.mapping.journal.recording import Recording
from llm_guard.mapping.journal.records import Records
from llm_guard.mapping.journal.table import Table
from llm_guard.mapping.journal.version import function_name, function_version
from llm_guard.runtime.guarded import Guarded

T = TypeVar("T")

AnyCodec = Codec | tuple[Callable[[Any], str | bytes], Callable[[Any], Any]]
Path = str | os.PathLike[str]


class Journal:
    """A file for the results of a mapping, made when it is first used, and how to keep it.

    A result is given to the consumer once it is on the disk. `batch` results at most are finished and not yet there at
    any time: what a kill, or a power cut, can make it call again beside what was in flight; 1 writes each item by
    itself. They are written as soon as the disk is free, and do not wait for a batch to fill.

    `wait` is how many seconds to wait for another mapping that uses the journal; then `JournalBusy`. `version` stands
    for the function's code: a journal of another version is refused; by default it is a digest of the code. `codec`
    makes text or bytes of results and results of these (a pair of functions, or an object with `dumps` and `loads`);
    by default results are JSON, and one that JSON would change is refused. `note` is kept in the file for who reads it
    (`Records.note`), and never compared.
    """

    def __init__(self, path: Path, *, batch: int = 100, wait: float = 0.0, version: str | None = None,
                 codec: AnyCodec | None = None, note: str | None = None) -> None:
        self.path = _full(path)
        self.batch = checks.whole("batch", batch, least=1)
        self.wait = checks.number("wait", wait, least=0, unit="seconds")
        if version is not None and (not isinstance(version, str) or not version):
            raise ConfigError("version", version, "a str that is not empty, or None")
        self.version = version
        if note is not None and not isinstance(note, str):
            raise ConfigError("note", note, "a str, or None")
        self.note = note
        self._codec = kept_by(codec)

    @staticmethod
    def read(path: Path, *, codec: AnyCodec | None = None) -> Records:
        """What is recorded at `path`, in the order of the input; also while a mapping writes there."""
        return Records(_full(path), kept_by(codec))

    def open(self, function: Callable[[T], Any], key: Callable[[T], object] | None) -> Recording[T, Any]:
        """The recorder of a mapping of `function`. JournalError where the journal is another one's, or no good."""
        if key is not None:
            checks.function("key", key, "a function of an item")
        facts = {"function": function_name(function), "version": self.version or function_version(function),
                 "keyed": int(key is not None), "codec": self._codec.name}
        with translated(self.path):
            look(self.path)
        lock = Lock(self.path, self.wait)
        connections = [lock.connection]
        try:
            with translated(self.path):
                connections.append(writes := opened(self.path))
                self._claim(writes, facts)
                connections.append(reads := readable(self.path))
                bare: Any = function
                classify = bare.stack.reads_with if isinstance(bare, Guarded) else None
                table = Table(self.path, writes, lock.connection, keyed=key is not None)
                return Recording(self.path, table, reads, codec=self._codec, key=key, batch=self.batch,
                                 classify=classify)
        except BaseException:
            for connection in reversed(connections):
                connection.close()
            raise

    def _claim(self, connection: sqlite3.Connection, facts: dict[str, object]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        if is_new(connection):
            furnish(connection, keyed=bool(facts["keyed"]))
        else:
            self._compare(dict(connection.execute("SELECT name, value FROM facts")), facts)
        connection.execute("DELETE FROM facts WHERE name = 'total'")
        told = [*facts.items(), ("holder", os.getpid()), *([] if self.note is None else [("note", self.note)])]
        connection.executemany("INSERT OR REPLACE INTO facts VALUES(?, ?)", told)
        connection.execute("COMMIT")

    def _compare(self, found: dict[str, Any], facts: dict[str, object]) -> None:
        wrong = None
        if found.get("function") != facts["function"]:
            wrong = f"is of another function: {found.get('function')}, not {facts['function']}"
        elif found.get("version") != facts["version"]:
            wrong = (f"is of another version of {facts['function']}: {found.get('version')}, not {facts['version']} "
                     f"(to go on with it all the same, give `version={found.get('version')!r}` of `Journal`)")
        elif found.get("keyed") != facts["keyed"]:
            wrong = "was written without `key=`" if facts["keyed"] else "was written with `key=`, and needs it"
        elif found.get("codec") != facts["codec"]:
            wrong = f"was written with the codec {found.get('codec')}, not {facts['codec']}"
        if wrong is not None:
            raise JournalError(wrong, path=self.path)

    def __repr__(self) -> str:
        return f"Journal({self.path!r})"


def _full(path: Path) -> str:
    try:
        found = os.fspath(path)
    except TypeError:
        found = ""
    if not isinstance(found, str) or not found or "\0" in found:
        raise ConfigError("journal", path, "the path of a file, or a Journal")
    return os.path.realpath(found)


def journal_of(journal: Path | Journal) -> Journal:
    """The journal that an option names."""
    return journal if isinstance(journal, Journal) else Journal(journal)
