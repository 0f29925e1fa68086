"""Reading a journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_guard import Journal, JournalError, map_with_backpressure
from llm_guard.clock.virtual import VirtualClock
from llm_guard.mapping.journal import records as module


def ask(item: Any) -> Any:
    if item == 3:
        raise ConnectionError
    return {"answer": item}


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with VirtualClock():
        yield


def run(items: Any, path: Path, **options: Any) -> None:
    for _ in map_with_backpressure(ask, items, workers=3, journal=path, on_error="return", **options):
        pass


def test_records_come_in_the_order_of_the_input_with_all_that_is_known(path: Path) -> None:
    run(range(600), path, ordered=False)
    with Journal.read(path) as records:
        assert (records.function, len(records.version), records.total) == ("ask", 16, 600)
        assert records.counts == {"failure": 1, "success": 599}
        found = list(records)
    assert [record.index for record in found] == list(range(600))
    assert [record.value for record in found[:3]] == [{"answer": 0}, {"answer": 1}, {"answer": 2}]
    assert (found[3].kind, found[3].error, found[3].value, found[3].attempts) == ("failure", "ConnectionError", None, 1)
    assert all(record.key is None and record.seconds >= 0 for record in found)


def test_keys_and_places_of_items_that_moved(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 2)
    run(range(5), path, key=lambda item: f"key {item}")
    run([3, 9, 8], path, key=lambda item: f"key {item}")
    with Journal.read(path) as records:
        # An item that failed is recorded anew, where it stands now; the others stay where they were.
        assert [(record.index, record.key) for record in records] == [
            (0, "key 0"), (0, "key 3"), (1, "key 1"), (1, "key 9"), (2, "key 2"), (2, "key 8"), (4, "key 4")]


def test_the_total_is_told_only_when_the_last_run_came_to_its_end(path: Path) -> None:
    mapping = map_with_backpressure(ask, range(100), workers=2, buffer=0, journal=path)
    next(mapping)
    mapping.close()
    with Journal.read(path) as records:
        assert records.total is None
    run(range(10), path)
    with Journal.read(path) as records:
        assert records.total == 10
    mapping = map_with_backpressure(ask, range(100), workers=2, buffer=0, journal=path)
    next(mapping)
    mapping.close()
    with Journal.read(path) as records:
        assert records.total is None


def test_it_ends_when_it_is_closed_and_may_be_closed_again(path: Path) -> None:
    run(range(10), path)
    records = Journal.read(path)
    assert next(records).index == 0
    records.close()
    records.close()
    assert list(records) == []
    with pytest.raises(JournalError, match="closed"):
        _ = records.counts
    exhausted = Journal.read(path)
    assert len(list(exhausted)) == 10
    assert exhausted.counts == {"failure": 1, "success": 9}
    with pytest.raises(StopIteration):
        next(exhausted)


def test_reading_makes_no_journal(path: Path) -> None:
    with pytest.raises(JournalError, match="no such file"):
        Journal.read(path)
    assert list(path.parent.iterdir()) == []
