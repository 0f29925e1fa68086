"""The input of a mapping: taken lazily, as far ahead as there is room, and handed to the workers item by item."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

from llm_guard import clock
from llm_guard.mapping.crew import Crew
from llm_guard.mapping.finished import Finished
from llm_guard.mapping.lanes import Lanes
from llm_guard.mapping.seams import Observer, Recorder
from llm_guard.mapping.task import Job, Task

T = TypeVar("T")
R = TypeVar("R")

#: An input that takes so many seconds for an item is a slow one.
SLOW_INPUT = 0.001


class Intake(Generic[T, R]):
    """`items` is what is left of the input, None once nothing more is taken from it; `error` with which it ended, to be
    raised after the results of what lay before; `taken` counts the items. For the consumer's thread, but for `close`.
    """

    __slots__ = ("_ahead", "_crew", "_finished", "_lanes", "_observer", "_partition_by", "_recorder", "_task", "error",
                 "items", "taken")

    def __init__(self, items: Iterator[T], task: Task[T, R], crew: Crew[Job[T]], finished: Finished[T, R], *,
                 ahead: int, partition_by: Callable[[T], Hashable] | None, lanes: Lanes[Job[T]] | None,
                 recorder: Recorder[T, R] | None, observer: Observer | None) -> None:
        self.items: Iterator[T] | None = items
        self.error: BaseException | None = None
        self.taken = 0
        self._task = task
        self._crew = crew
        self._finished = finished
        self._ahead = ahead
        self._partition_by = partition_by
        self._lanes = lanes
        self._recorder = recorder
        self._observer = observer

    def pull(self, yielded: int) -> None:
        """Takes what there is room for, `yielded` results being with the consumer; but while the next result is there,
        one item of a slow input is enough: else its results would fall behind by all that there is room for.
        """
        room = self._ahead - (self.taken - yielded)
        now = clock.current().now if room > 1 else None
        spent = began = 0.0  # seconds, on the input alone
        while room > 0 and (items := self.items) is not None and not self._is_over():
            if spent >= SLOW_INPUT and self._finished.ready():
                return
            room -= 1
            if now is not None:
                began = now()
            try:
                item = next(items)
            except StopIteration:
                self.items = None
                self._ended()
            except Exception as error:
                self._fail(error)
            else:
                if now is not None:
                    spent += now() - began
                self._begin(item)

    def close(self) -> None:
        """Nothing more is taken, and nothing raised of it. From any thread."""
        self.items = self.error = None

    def _is_over(self) -> bool:
        crew = self._crew
        return crew.stopped or crew.cut_off.is_cut or self._finished.failure is not None

    def _fail(self, error: BaseException) -> None:
        self.items, self.error = None, error

    def _ended(self) -> None:
        if self._recorder is not None:
            self._recorder.input_ended(self.taken)
        if self._observer is not None:
            self._observer.total(self.taken)

    def _begin(self, item: T) -> None:
        if self._recorder is None and self._lanes is None:
            self._task.surround(self.taken)
            self._crew.put((self.taken, item, None))
            self.taken += 1
            return
        try:
            recorded = None if self._recorder is None else self._recorder.recall(self.taken, item)
            if recorded is None:
                self._task.surround(self.taken)
            job = None if recorded is not None else self._job(item)
        except Exception as error:
            self._fail(error)
            return
        if job is not None:
            self._crew.put(job)
        elif recorded is not None:
            if self._observer is not None:
                self._observer.ended(recorded, True)
            self._finished.put(recorded)
        self.taken += 1

    def _job(self, item: T) -> Job[T] | None:
        """None: it waits for its turn in its lane."""
        if self._lanes is None or self._partition_by is None:
            return (self.taken, item, None)
        try:
            return self._lanes.enter(self._partition_by(item), lambda lane: (self.taken, item, lane))
        except Exception as error:
            error.add_note(f"llm_guard: partition_by could not tell the key of the item at index {self.taken}")
            if isinstance(error, StopIteration):
                raise RuntimeError("partition_by raised StopIteration") from error
            raise
