"""Rows are committed in batches, as soon as the one who writes is free."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from llm_guard import clock
from llm_guard.clock.virtual import VirtualClock
from llm_guard.mapping.journal.writer import Writer


class Disk:
    """Takes `seconds` for each batch."""

    def __init__(self, seconds: float, batch: int, fails_at: int | None = None) -> None:
        self.batches: list[list[int]] = []
        self.done: list[tuple[int, float]] = []
        self.refused: list[tuple[int, str]] = []
        self._seconds = seconds
        self._fails_at = fails_at
        self._busy = False
        self.writer: Writer[int] = Writer(self._commit, batch)

    def _commit(self, rows: Sequence[int]) -> None:
        assert not self._busy
        self._busy = True
        clock.current().sleep(self._seconds)
        self._busy = False
        if self._fails_at == len(self.batches):
            raise OSError("no room")
        self.batches.append(list(rows))

    def put(self, row: int) -> float:
        """The time at which it was taken."""
        def then(error: BaseException | None = None, /) -> None:
            if error is None:
                self.done.append((row, clock.current().now()))
            else:
                self.refused.append((row, str(error)))

        self.writer.put(row, then)
        return clock.current().now()


def test_what_comes_while_one_batch_is_written_is_the_next() -> None:
    with VirtualClock() as time:
        disk = Disk(1.0, batch=10)
        assert disk.put(0) == 0
        for row in range(1, 5):
            time.sleep(0.1)
            assert disk.put(row) == pytest.approx(0.1 * row)
        disk.writer.close()
        assert disk.batches == [[0], [1, 2, 3, 4]]
        assert disk.done == [(0, 1.0), (1, 2.0), (2, 2.0), (3, 2.0), (4, 2.0)]
        disk.writer.close()
        disk.put(5)
        assert disk.refused == [(5, "the journal is closed")]


def test_who_waits_for_room_when_it_is_closed_is_refused() -> None:
    with VirtualClock() as time:
        disk = Disk(1.0, batch=2)
        for row in range(4):
            time.spawn(lambda row=row: disk.put(row), f"worker {row}")  # type: ignore[misc]
        time.sleep(0.5)
        disk.writer.close()
        time.sleep(5)
        assert [row for row, _ in disk.done] == [0, 1]
        assert [row for row, _ in disk.refused] == [2, 3]


def test_a_row_alone_waits_for_no_other() -> None:
    with VirtualClock() as time:
        disk = Disk(0.5, batch=100)
        for row in range(3):
            disk.put(row)
            time.sleep(10)
        assert disk.done == [(0, 0.5), (1, 10.5), (2, 20.5)]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_never_more_than_a_batch_is_unwritten(batch: int) -> None:
    with VirtualClock() as time:
        disk = Disk(1.0, batch)
        taken: list[float] = []

        def work(first: int) -> None:
            for row in range(first, 40, 8):
                taken.append(disk.put(row))

        for first in range(8):
            time.spawn(lambda first=first: work(first), f"worker {first}")  # type: ignore[misc]
        time.sleep(100)
        assert sorted(row for row, _ in disk.done) == list(range(40))
        for now in (at + part for at in range(40) for part in (0.0, 0.5)):
            done = sum(at <= now for _, at in disk.done)
            assert sum(at <= now for at in taken) - done <= batch
        assert max(map(len, disk.batches)) <= batch
        assert len(disk.batches) < 40 or batch == 1


def test_after_a_commit_that_failed_all_are_refused_and_nobody_waits() -> None:
    with VirtualClock() as time:
        disk = Disk(1.0, batch=3, fails_at=1)
        disk.put(0)
        time.sleep(0.5)
        for row in range(1, 8):
            time.spawn(lambda row=row: disk.put(row), f"worker {row}")  # type: ignore[misc]
        time.sleep(9.5)
        assert disk.batches == [[0]]
        assert [row for row, _ in disk.done] == [0]
        assert sorted(disk.refused) == [(row, "no room") for row in range(1, 8)]
        assert disk.put(8) == 10
        assert disk.refused[-1] == (8, "no room")
        disk.writer.close()
        assert time.now() == 10


def test_where_no_thread_can_be_started_it_writes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with VirtualClock() as time:
        def spawn(function: object, name: str) -> None:
            raise RuntimeError("can't create new thread at interpreter shutdown")

        monkeypatch.setattr(time, "spawn", spawn)
        disk = Disk(1.0, batch=3)
        assert [disk.put(0), disk.put(1)] == [1.0, 2.0]
        assert disk.batches == [[0], [1]]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_order_of_threads_each_row_is_written_once(seed: int) -> None:
    with VirtualClock(seed, shuffle=True) as time:
        disk = Disk(0.01, batch=4)

        def work(first: int) -> None:
            for row in range(first, 60, 6):
                time.sleep(time.random.random() / 50)
                disk.put(row)

        for first in range(6):
            time.spawn(lambda first=first: work(first), f"worker {first}")  # type: ignore[misc]
        time.sleep(50)
        disk.writer.close()
        assert sorted(row for batch in disk.batches for row in batch) == list(range(60))
        assert sorted(row for row, _ in disk.done) == list(range(60))
