"""What can be wrong with a journal's file, and who else may be at it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_guard import Journal, JournalBusy, JournalError, map_with_backpressure
from llm_guard.clock.virtual import VirtualClock
from llm_guard.mapping.journal.files import opened


def ask(item: int) -> int:
    return item * 2


def run(path: Path, count: int = 3, **options: Any) -> list[int]:
    return list(map_with_backpressure(ask, range(count), workers=2, journal=Journal(path, **options)))


def altered(statement: str) -> Callable[[Path], None]:
    """Makes a journal and runs `statement` in it."""
    def make(path: Path) -> None:
        run(path)
        connection = sqlite3.connect(path)
        connection.execute(statement)
        connection.commit()
        connection.close()

    return make


def database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE items(id)")
    connection.close()


def damaged(path: Path) -> None:
    run(path, 500)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))


def cut(path: Path) -> None:
    run(path, 500)
    os.truncate(path, 5000)


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a text": (lambda path: path.write_text("no database at all\n" * 100), "is no journal, nor any other"),
    "a few bytes": (lambda path: path.write_text("oops"), "is no journal, nor any other"),
    "a directory": (Path.mkdir, "it is a directory"),
    "a database of something else": (database, "is a database of something else"),
    "a newer one": (altered("PRAGMA user_version = 2"), "newer version of llm_guard"),
    "a damaged one": (damaged, "is damaged|is no journal"),
    "one that was cut": (cut, "is damaged|is no journal"),
    "a device": (lambda path: path.symlink_to("/dev/null"), "no plain file"),
    "a damaged result": (altered("UPDATE items SET value = '{' WHERE id = 1"), "result of the item at index 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_good_is_refused_by_its_name_and_left_as_it_is(name: str, path: Path) -> None:
    make, said = BAD[name]
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(JournalError, match=said) as refused:
        run(path)
    assert not isinstance(refused.value, JournalBusy)
    assert refused.value.path == os.path.realpath(path)
    assert refused.value.path in str(refused.value)
    if name not in ("a damaged one", "one that was cut", "a damaged result"):
        assert (path.read_bytes() if path.is_file() else None) == before
        assert name == "a newer one" or list(path.parent.iterdir()) == [path]
        with pytest.raises(JournalError, match=said):
            Journal.read(path)
    else:
        with pytest.raises(JournalError, match=r"damaged|no journal"), Journal.read(path) as records:
            list(records)


@pytest.mark.parametrize("where", ["missing/run.db", "file/run.db", "/proc/run.db"])
def test_where_none_can_be_made_it_is_refused_at_once(where: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"run\.db: cannot be (opened|written)"):
        map_with_backpressure(ask, [1], journal=tmp_path / where)


@pytest.mark.parametrize("path", ["missing/run.db", "file/run.db"])
def test_one_that_is_not_there_cannot_be_read(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="there is no such file"):
        Journal.read(tmp_path / path)


def test_one_whose_maker_was_killed_at_once_is_empty_and_can_be_used(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    with Journal.read(path) as records:
        assert (list(records), records.counts, records.total) == ([], {}, None)
    assert run(path) == [0, 2, 4]


def test_the_second_mapping_is_refused_and_told_who_has_it(path: Path) -> None:
    first = map_with_backpressure(ask, range(3), workers=2, journal=path)
    with pytest.raises(JournalBusy, match=rf"another mapping \(process {os.getpid()}\)") as refused:
        run(path)
    assert (refused.value.path, refused.value.pid) == (os.path.realpath(path), os.getpid())
    link = path.with_name("link.db")
    link.symlink_to(path)
    with pytest.raises(JournalBusy):
        run(link)
    assert list(first) == [0, 2, 4]  # nor did the others take its lock away
    assert run(path) == [0, 2, 4]


def test_the_second_mapping_waits_as_long_as_it_is_told_to(path: Path) -> None:
    with VirtualClock() as time:
        first = map_with_backpressure(ask, range(3), workers=2, journal=path)
        with pytest.raises(JournalBusy, match="still after 5 s"):
            run(path, wait=5)
        assert time.now() == pytest.approx(5)
        time.spawn(lambda: (time.sleep(3), first.close()), "first")
        assert run(path, wait=5) == [0, 2, 4]
        assert time.now() == pytest.approx(8, abs=0.06)


def test_a_commit_is_on_the_disk_when_it_is_over(path: Path) -> None:
    """As far as SQLite can see to it: 2 is FULL."""
    connection = opened(str(path))
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_while_one_writes_others_may_read(path: Path) -> None:
    mapping = map_with_backpressure(ask, range(50), workers=2, buffer=0, journal=path)
    for taken in range(20):
        next(mapping)
        with Journal.read(path) as records:
            assert records.counts["success"] > taken
            assert [next(records).index for _ in range(taken + 1)] == list(range(taken + 1))
            assert records.total is None
    mapping.close()


@pytest.mark.real
def test_the_lock_of_a_process_is_gone_with_it(path: Path) -> None:
    code = ("import os, sys; from llm_guard import map_with_backpressure\n"
            "def ask(item): return item * 2\n"
            "mapping = map_with_backpressure(ask, range(10), workers=2, journal=sys.argv[1]); next(mapping)\n"
            "print(os.getpid(), flush=True); sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        with pytest.raises(JournalBusy) as refused:
            run(path)
        assert refused.value.pid == pid
        process.kill()
        process.wait(10)
    assert run(path) == [0, 2, 4]  # the function is the same, wherever it stands


@pytest.mark.real
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_has_neither_the_journal_nor_its_lock(path: Path) -> None:
    """It ends as any process does, garbage and all, and the parent's journal is whole; nor does it hold the lock when
    it outlives the parent's mapping."""
    code = """if True:
        import gc, os, sys
        from llm_guard import Journal, JournalBusy, JournalError, map_with_backpressure
        def ask(item): return item * 2
        mapping = map_with_backpressure(ask, range(2000), workers=4, journal=sys.argv[1])
        values = [next(mapping) for _ in range(500)]
        recorder = mapping._recorder
        away, back = os.pipe(), os.pipe()
        child = os.fork()
        if not child:
            os.close(away[1])
            try:
                recorder.recall(600, 600)
            except JournalError as error:
                print("child:", str(error).partition(": ")[2], flush=True)
            try:
                map_with_backpressure(ask, [1], journal=sys.argv[1])
            except JournalBusy as error:
                print("child: busy", error.pid == os.getppid(), flush=True)
            os.write(back[1], b"1")
            os.read(away[0], 1)
            del mapping, recorder
            gc.collect()
            sys.exit()
        os.close(away[0])
        os.close(back[1])
        del recorder
        os.read(back[0], 1)
        values += mapping
        assert values == [item * 2 for item in range(2000)]
        again = map_with_backpressure(ask, range(2000), journal=sys.argv[1])  # the child still lives
        os.close(away[1])
        os.waitpid(child, 0)
        assert list(again) == values
        print("parent: done")
    """
    # Later Pythons warn of a fork beside threads: it is what is tested here.
    done = subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, str(path)], text=True,
                          capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == ["child: busy True",
                                                "child: was opened by the process that forked this one",
                                                "parent: done"]
    check = sqlite3.connect(path)
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert check.execute("SELECT count(*) FROM items").fetchone() == (2000,)
    check.close()


@pytest.fixture(scope="session")
def read_only_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory in which not even root may write."""
    place = tmp_path_factory.mktemp("read-only")
    run(place / "run.db")
    made = subprocess.run(["mount", "--bind", "-o", "ro", str(place), str(place)], capture_output=True, check=False)
    if made.returncode or os.access(place, os.W_OK):
        subprocess.run(["umount", str(place)], capture_output=True, check=False)
        if os.geteuid() == 0:
            pytest.skip("nothing is read-only to root here, and nothing can be mounted")
        place.chmod(0o500)
        (place / "run.db").chmod(0o400)
        (place / "run.db-lock").chmod(0o400)
    yield place
    subprocess.run(["umount", str(place)], capture_output=True, check=False)
    place.chmod(0o700)


def test_where_nothing_may_be_written_it_can_be_read_alone(read_only_place: Path) -> None:
    for name in ("run.db", "new.db"):
        with pytest.raises(JournalError, match=rf"{name}: cannot be (opened|written).*(only|denied|unable)"):
            run(read_only_place / name)
    with Journal.read(read_only_place / "run.db") as records:
        assert ([record.value for record in records], records.total) == ([0, 2, 4], 3)


def test_a_file_that_may_not_be_written_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(path)
    connect = sqlite3.connect

    def read_only(name: str, **options: Any) -> sqlite3.Connection:
        connection = connect(name, **options)
        connection.execute("PRAGMA query_only = 1")
        return connection

    monkeypatch.setattr(sqlite3, "connect", read_only)
    with pytest.raises(JournalError, match=r"run\.db: cannot be written \(attempt to write a readonly database\)"):
        run(path)


def test_no_lock_is_left_by_what_was_refused(path: Path) -> None:
    before = threading.active_count()
    path.write_text("no database at all\n" * 100)
    for _ in range(3):
        with pytest.raises(JournalError, match="no journal"):
            run(path)
    path.unlink()
    assert run(path) == [0, 2, 4]
    assert threading.active_count() <= before + 3


def _delete(path: Path) -> None:
    path.unlink()


def _replace(path: Path) -> None:
    run(path.with_name("other.db"))
    path.with_name("other.db").replace(path)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("vanish", [_delete, _replace, _empty])
def test_one_that_vanishes_in_the_midst_ends_the_run(vanish: Callable[[Path], None], path: Path) -> None:
    yielded = []
    with VirtualClock():
        mapping = map_with_backpressure(ask, range(100), workers=2, buffer=2, journal=path)
        yielded.append(next(mapping))
        vanish(path)
        with pytest.raises(JournalError, match=r"run\.db: was deleted, replaced or emptied"):
            yielded.extend(mapping)
    assert yielded == [2 * item for item in range(len(yielded))]
    assert len(yielded) <= 10
