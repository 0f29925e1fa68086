"""A mapping with a journal: what is recorded is not called again."""

from __future__ import annotations

import gc
import itertools
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_guard import (
    ConfigError,
    Journal,
    JournalError,
    Kind,
    Result,
    Saturated,
    clock,
    map_with_backpressure,
    retry,
    stack,
)
from llm_guard.clock.virtual import VirtualClock
from llm_guard.llm.text import Text
from llm_guard.mapping.journal import lookup
from llm_guard.mapping.journal.table import Table

called: list[Any] = []


def ask(item: Any) -> Any:
    called.append(item)
    return f"answer to {item}"


def first(item: Any) -> Any:
    return item[0] if isinstance(item, list | tuple) else item


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    called.clear()
    with VirtualClock():
        yield


def run(items: Any, path: Any, function: Callable[[Any], Any] = ask, **options: Any) -> list[Any]:
    """The results; `called` are the items that were called for them."""
    called.clear()
    return list(map_with_backpressure(function, items, workers=3, journal=path, **options))


def facts(path: Path) -> list[tuple[Any, ...]]:
    with Journal.read(path) as records:
        return [(record.index, record.key, record.value, record.kind) for record in records]


@pytest.mark.parametrize("key", [None, first], ids=["by place", "by key"])
@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_a_second_run_yields_what_is_recorded_and_calls_nothing(path: Path, key: Any, ordered: bool) -> None:
    answers = [f"answer to {item}" for item in range(400)]
    assert sorted(run(range(400), path, key=key, ordered=ordered), key=answers.index) == answers
    assert sorted(called) == list(range(400))
    assert run(iter(range(400)), path, key=key) == answers
    assert called == []


@pytest.mark.parametrize("key", [None, first], ids=["by place", "by key"])
def test_what_an_interrupted_run_had_yielded_is_not_called_again(path: Path, key: Any) -> None:
    with map_with_backpressure(ask, range(500), workers=4, journal=path, key=key) as mapping:
        taken = list(itertools.islice(mapping, 100))
    done = set(called)
    assert {f"answer to {item}" for item in done} >= set(taken)
    assert len(run(range(500), path, key=key)) == 500
    assert set(called) == set(range(500)) - done  # also what was in flight when it ended is recorded


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_a_result_is_given_only_once_it_is_in_the_file(path: Path, ordered: bool,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    write = Table.write

    def slow(table: Table, rows: Any) -> None:
        clock.current().sleep(1)
        write(table, rows)
        clock.current().sleep(1)

    monkeypatch.setattr(Table, "write", slow)
    for result in map_with_backpressure(ask, range(50), workers=4, journal=path, ordered=ordered, results=True):
        connection = sqlite3.connect(path)
        assert connection.execute("SELECT count(*) FROM items WHERE id = ?", (result.index,)).fetchone() == (1,)
        connection.close()


@pytest.mark.parametrize("key", [None, first], ids=["by place", "by key"])
def test_failures_are_recorded_with_their_kind_and_tried_again(path: Path, key: Any) -> None:
    down = True

    def flaky(item: int) -> str:
        called.append(item)
        if down and item % 3 == 0:
            raise {0: ConnectionError("secret"), 3: TimeoutError(), 6: Saturated("no", policy="bounded")}[item % 9]
        return str(item)

    results = run(range(9), Journal(path, version="1"), flaky, key=key, on_error="return")
    assert [type(result).__name__ for result in results[::3]] == ["ConnectionError", "TimeoutError", "Saturated"]
    with Journal.read(path) as records:
        assert records.counts == {"failure": 1, "rejected": 1, "success": 6, "timeout": 1}
        failed = [record for record in records if record.kind != "success"]
    assert [(record.index, record.kind, record.error, record.value) for record in failed] == [
        (0, "failure", "ConnectionError", None), (3, "timeout", "TimeoutError", None),
        (6, "rejected", "llm_guard.errors.Saturated", None)]
    assert b"secret" not in path.read_bytes()
    down = False
    assert run(range(9), Journal(path, version="1"), flaky, key=key) == [str(item) for item in range(9)]
    assert called == [0, 3, 6]
    with Journal.read(path) as records:
        assert records.counts == {"success": 9}


@pytest.mark.parametrize("key", [None, first], ids=["by place", "by key"])
def test_an_item_that_failed_may_be_put_right(path: Path, key: Any) -> None:
    def picky(item: tuple[str, str]) -> str:
        if item[1] == "wrong":
            raise ValueError
        return item[1]

    assert run([("a", "fine")], path, picky, key=key) == ["fine"]
    assert isinstance(run([("a", "fine"), ("b", "wrong")], path, picky, key=key, on_error="return")[1], ValueError)
    assert run([("a", "fine"), ("b", "right")], path, picky, key=key) == ["fine", "right"]
    with pytest.raises(JournalError, match="item at index 1"):
        run([("a", "fine"), ("b", "another")], path, picky, key=key)


def test_an_error_that_is_raised_is_recorded_first(path: Path) -> None:
    def fails(item: int) -> int:
        if item == 5:
            raise KeyError
        return item

    mapping = map_with_backpressure(fails, range(6), workers=3, journal=path)
    assert list(itertools.islice(mapping, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(KeyError):
        next(mapping)
    assert facts(path)[5] == (5, None, None, "failure")


@pytest.mark.parametrize("guard", [stack(retry(attempts=3), classify=lambda end: Kind.TIMEOUT),
                                   retry(attempts=3, classify=lambda end: Kind.TIMEOUT)],
                         ids=["of the stack", "of a policy"])
def test_the_users_reading_of_errors_counts_and_attempts_are_kept(path: Path, guard: Any) -> None:
    def fails(item: int) -> int:
        raise ValueError

    run([1], path, guard(fails), on_error="return")
    with Journal.read(path) as records:
        record, = records
    assert (record.kind, record.attempts, record.error) == ("timeout", 3, "ValueError")


def test_results_come_whole_attempts_and_seconds_too(path: Path) -> None:
    new = run(["a", "b"], path, results=True)
    old = run(["a", "b"], path, results=True)
    assert old == new
    assert all(isinstance(result, Result) for result in old)
    assert [result.input for result in old] == ["a", "b"]


@pytest.mark.parametrize("key", [None, first], ids=["by place", "by key"])
def test_items_that_are_the_same_are_each_called_and_each_has_its_result(path: Path, key: Any) -> None:
    numbers = itertools.count()

    def draw(item: str) -> int:
        called.append(item)
        return next(numbers)

    items = ["a", "b", "a", "a", "b"]
    drawn = run(items, Journal(path, version="1"), draw, key=key)
    assert sorted(drawn) == [0, 1, 2, 3, 4]
    assert run(items, Journal(path, version="1"), draw, key=key) == drawn
    assert called == []
    more = run([*items, "a"], Journal(path, version="1"), draw, key=key)
    assert (more[:5], more[5], called) == (drawn, 5, ["a"])


def test_without_a_key_another_item_at_a_recorded_place_is_refused(path: Path) -> None:
    run(["a", "b", "c"], path)
    mapping = map_with_backpressure(ask, ["a", "x", "c"], journal=path)
    assert next(mapping) == "answer to a"
    with pytest.raises(JournalError, match="another input: the item at index 1") as refused:
        next(mapping)
    assert str(path) in str(refused.value)
    assert facts(path)[1][2] == "answer to b"


def test_without_a_key_an_input_may_grow_or_be_cut_at_its_end(path: Path) -> None:
    run(["a", "b", "c"], path)
    assert run(["a", "b"], path) == ["answer to a", "answer to b"]
    assert run(["a", "b", "c", "d"], path)[3] == "answer to d"
    assert called == ["d"]


def test_with_a_key_items_may_move_come_and_go(path: Path) -> None:
    run(range(400), path, key=first)
    items = [*range(390, 300, -2), 1000, *range(0, 300, 3), 2000]
    assert run(items, path, key=first) == [f"answer to {item}" for item in items]
    assert called == [1000, 2000]


def test_with_a_key_an_item_that_has_changed_is_refused(path: Path) -> None:
    run([("a", 1), ("b", 2)], path, key=first)
    mapping = map_with_backpressure(ask, [("b", 2), ("a", 3)], journal=path, key=first)
    assert next(mapping) == "answer to ('b', 2)"
    with pytest.raises(JournalError, match="item at index 1 is not the one that was recorded under its key"):
        next(mapping)


def test_items_that_nothing_but_their_key_tells_apart(path: Path) -> None:
    class Item:
        def __init__(self, name: str) -> None:
            self.name = name

        def __str__(self) -> str:
            return self.name

    with pytest.raises(ConfigError, match=r"key=None.*Item"):
        run([Item("a")], path)
    path.unlink()
    assert run([Item("a"), Item("b")], path, key=str) == ["answer to a", "answer to b"]
    assert run([Item("b"), Item("a")], path, key=str) == ["answer to b", "answer to a"]
    assert called == []


def test_what_the_key_raises_comes_at_its_place(path: Path) -> None:
    mapping = map_with_backpressure(ask, [(1,), ()], journal=path, key=lambda item: int(item[0]))
    assert next(mapping) == "answer to (1,)"
    with pytest.raises(IndexError):
        next(mapping)
    mapping = map_with_backpressure(ask, ["a"], journal=path, key=lambda item: 1.5)  # type: ignore[arg-type, return-value]
    with pytest.raises(ConfigError, match="tuple of these"):
        next(mapping)


def test_keys_are_kept_as_they_were(path: Path) -> None:
    keys = ["a", 1, b"\xff", ("a", (2, b"")), "1"]
    run(range(5), path, key=lambda item: keys[item])
    assert [key for _, key, _, _ in facts(path)] == keys


def test_another_function_or_version_is_refused_and_told_how_to_go_on(path: Path) -> None:
    run([1], path)

    def other(item: int) -> int:
        return item

    with pytest.raises(JournalError, match=r"another function: ask, not .*other"):
        run([1], path, other)
    with pytest.raises(JournalError, match=f"run.db: is of another version of ask: {'.' * 16}, not 2 ") as refused:
        run([1], Journal(path, version="2"))
    version = str(refused.value).split("version='")[1].split("'")[0]
    assert run([1, 2], Journal(path, version=version)) == ["answer to 1", "answer to 2"]
    assert called == [2]


def test_keys_and_codecs_are_those_of_the_journal(path: Path) -> None:
    run([1], path)
    with pytest.raises(JournalError, match="without `key=`"):
        run([1], path, key=first)
    with pytest.raises(JournalError, match=r"with the codec json, not .*repr"):
        run([1], Journal(path, codec=(repr, eval)))
    path.unlink()
    run([1], path, key=first)
    with pytest.raises(JournalError, match="with `key=`"):
        run([1], path)


def test_after_a_refusal_the_journal_is_free_for_the_right_one(path: Path) -> None:
    run([1], path)
    with pytest.raises(JournalError, match="another version") as refused:
        run([1], Journal(path, version="2"))
    assert run([1], path) == ["answer to 1"]
    with pytest.raises(TypeError) as raised:
        run(Broken(), path)
    assert run([1], path) == ["answer to 1"]
    del refused, raised


class Broken:
    def __iter__(self) -> Iterator[int]:
        raise TypeError


def test_a_result_that_json_would_change_ends_the_run_at_its_place(path: Path) -> None:
    def pair(item: int) -> Any:
        called.append(item)
        return (item, "secret") if item == 2 else item

    for on_error in ("raise", "return"):
        mapping = map_with_backpressure(pair, range(100), workers=2, buffer=0, journal=path, on_error=on_error)  # type: ignore[call-overload]
        assert [next(mapping), next(mapping)] == [0, 1]
        with pytest.raises(JournalError, match=r"index 2, a value of type tuple: give it a `codec=`") as refused:
            next(mapping)
        assert "secret" not in str(refused.value)
    assert len(called) < 10
    assert [value for _, _, value, _ in facts(path)][:2] == [0, 1]


def test_a_codec_keeps_what_json_does_not(path: Path) -> None:
    def pair(item: int) -> tuple[int, bytes]:
        return item, b"\xff"

    codec = (lambda value: repr(value).encode("latin-1"), lambda kept: eval(kept.decode("latin-1")))
    for _ in range(2):
        assert run([1, 2], Journal(path, codec=codec), pair) == [(1, b"\xff"), (2, b"\xff")]
    with Journal.read(path, codec=codec) as records:
        assert next(records).value == (1, b"\xff")
    with pytest.raises(JournalError, match="with the codec"):
        Journal.read(path)


def test_texts_come_back_with_what_the_server_told(path: Path) -> None:
    def text(item: str) -> Text:
        return Text(item, finish_reason="stop")

    for _ in range(2):
        (answer,) = run(["hi"], path, text)
        assert (type(answer), answer, answer.finish_reason) == (Text, "hi", "stop")


def test_none_is_a_result_too(path: Path) -> None:
    for expected in ([1], []):
        assert run([1], path, lambda item: called.append(item)) == [None]
        assert called == expected


def test_dropped_in_the_midst_it_is_free_again_and_has_what_was_in_flight(path: Path) -> None:
    with VirtualClock() as time:
        def slow(item: int) -> int:
            called.append(item)
            time.sleep(1)
            return item

        mapping = map_with_backpressure(slow, range(100), workers=4, buffer=0, journal=Journal(path, version="1"))
        assert next(mapping) == 0
        del mapping
        gc.collect()
        time.sleep(10)
        done = set(called)
        assert len(run(range(100), Journal(path, version="1"), slow)) == 100
        assert set(called).isdisjoint(done)


def test_files_are_the_owners_alone_and_gone_but_for_two(path: Path) -> None:
    before = os.umask(0)
    try:
        mapping = map_with_backpressure(ask, range(5), workers=2, journal=path)
        next(mapping)
        files = list(path.parent.iterdir())
        assert {file.name for file in files} == {"run.db", "run.db-wal", "run.db-shm", "run.db-lock"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        mapping.close()
    finally:
        os.umask(before)
    assert {file.name for file in path.parent.iterdir()} == {"run.db", "run.db-lock"}


def test_an_empty_file_that_is_there_is_taken_and_closed_to_others(path: Path) -> None:
    path.touch(0o644)
    mapping = map_with_backpressure(ask, range(5), workers=2, journal=str(path))
    next(mapping)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    mapping.close()


def test_nothing_is_opened_where_there_is_no_journal(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"key=.*only with a journal"):
        map_with_backpressure(ask, [1], key=first)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(("option", "value"), [
    ("batch", 0), ("batch", 1.5), ("wait", -1), ("wait", None), ("version", ""), ("version", 3), ("codec", 1),
    ("journal", ""), ("journal", 7), ("journal", b"run.db")],
    ids=lambda value: str(value) or "empty")
def test_options_are_checked_at_once(option: str, value: Any, path: Path) -> None:
    options: dict[str, Any] = {option: value}
    with pytest.raises(ConfigError) as refused:
        Journal(options.pop("journal", path), **options)
    assert refused.value.parameter == option


def test_a_key_that_cannot_be_called_is_refused_at_once(path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        map_with_backpressure(ask, [1], journal=path, key="id")  # type: ignore[call-overload]
    assert refused.value.parameter == "key"
    assert not path.exists()


def test_repr_and_records_show_no_payload(path: Path) -> None:
    run(["secret"], path, key=first)
    assert repr(Journal(path)) == f"Journal({str(path)!r})"
    with Journal.read(path) as records:
        assert "secret" not in repr(next(records))


def test_far_more_rows_than_are_read_at_once_in_another_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "CHUNK", 8)
    monkeypatch.setattr(lookup, "CHUNKS", 2)
    run(range(300), path, key=first)
    items = sorted(range(300), key=lambda item: item * 7919 % 300)
    assert run(items, path, key=first) == [f"answer to {item}" for item in items]
    assert called == []
    gaps = path.with_name("gaps.db")
    run(range(300), gaps)
    connection = sqlite3.connect(gaps)
    connection.execute("DELETE FROM items WHERE id % 50 < 20 OR id > 280")
    connection.commit()
    connection.close()
    assert run(range(300), gaps) == [f"answer to {item}" for item in range(300)]
    assert called == [item for item in range(300) if item % 50 < 20 or item > 280]


def test_a_key_that_raises_stopiteration_is_no_end_of_the_input(path: Path) -> None:
    def key(item: int) -> int:
        return item if item < 2 else next(iter(()))

    mapping = map_with_backpressure(ask, range(5), journal=path, key=key)
    assert [next(mapping), next(mapping)] == ["answer to 0", "answer to 1"]
    with pytest.raises(RuntimeError, match="key raised StopIteration") as error:
        next(mapping)
    assert isinstance(error.value.__cause__, StopIteration)
