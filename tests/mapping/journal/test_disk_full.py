"""A disk that is full in the midst of a run: a clear end, nothing lost, and the next run goes on."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_guard import Journal, JournalError, map_with_backpressure
from llm_guard.clock.virtual import VirtualClock

called: list[int] = []


def ask(item: int) -> str:
    called.append(item)
    return f"{item} " + "x" * 1000


def integrity(path: Path) -> list[Any]:
    connection = sqlite3.connect(path)
    found = [connection.execute("PRAGMA integrity_check").fetchone()[0],
             connection.execute("SELECT count(*) FROM items").fetchone()[0]]
    connection.close()
    return found


@pytest.mark.parametrize("key", [None, str], ids=["by place", "by key"])
@pytest.mark.parametrize("on_error", ["raise", "return"])
@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_the_run_ends_and_goes_on_once_there_is_room(ordered: bool, on_error: Any, key: Any, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.db"
    connect = sqlite3.connect

    def small(name: str, **options: Any) -> sqlite3.Connection:
        connection = connect(name, **options)
        connection.execute("PRAGMA max_page_count = 40")
        return connection

    called.clear()
    yielded: list[Any] = []
    with VirtualClock():
        with monkeypatch.context() as patch:
            patch.setattr(sqlite3, "connect", small)
            mapping = map_with_backpressure(ask, range(400), workers=4, ordered=ordered, on_error=on_error,
                                            journal=Journal(path, batch=10), key=key)
            with pytest.raises(JournalError, match=r"cannot be written \(database or disk is full\); what was recorded "
                                                   "is whole"):
                yielded.extend(mapping)  # takes what comes before the error
        assert 50 < len(yielded) < 150
        whole, count = integrity(path)
        assert whole == "ok"
        assert len(yielded) <= count <= len(called)
        assert len(called) - count <= 10 + 4  # a batch, and what was in flight
        before = len(called)
        again = list(map_with_backpressure(ask, range(400), workers=4, journal=path, key=key))
    assert again == [f"{item} " + "x" * 1000 for item in range(400)]
    assert len(called) == before + 400 - count
    assert integrity(path) == ["ok", 400]


@pytest.mark.real
@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="limits the size of files")
def test_where_a_write_of_the_system_fails(tmp_path: Path) -> None:
    code = """if True:
        import resource, sys
        from llm_guard import JournalError, map_with_backpressure
        def ask(item): return "x" * 1000
        size = int(sys.argv[2])
        if size:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        count = 0
        try:
            for _ in map_with_backpressure(ask, range(1000), workers=4, journal=sys.argv[1]):
                count += 1
        except JournalError as error:
            print(count, error)
        else:
            print(count)
    """
    path = tmp_path / "run.db"

    def run(size: int) -> str:
        return subprocess.run([sys.executable, "-c", code, str(path), str(size)], capture_output=True, text=True,
                              check=True, timeout=60).stdout.strip()

    count, said = run(200_000).split(" ", 1)
    assert said.startswith(f"{path}: cannot be written (")
    whole, recorded = integrity(path)
    assert whole == "ok"
    assert 10 < int(count) <= recorded < 1000
    assert run(0) == "1000"
    assert integrity(path) == ["ok", 1000]
