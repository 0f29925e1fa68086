"""The iterator over the results of a mapping."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from llm_guard import call, clock
from llm_guard.errors import Cancelled
from llm_guard.mapping.crew import Crew
from llm_guard.mapping.finished import Finished
from llm_guard.mapping.result import Result
from llm_guard.mapping.seams import Observer, Recorder, Why
from llm_guard.mapping.task import Task

T = TypeVar("T")
R = TypeVar("R")
Y = TypeVar("Y")

#: An input that takes so many seconds for an item is a slow one.
SLOW_INPUT = 0.001


class Mapping(Iterator[Y], Generic[T, R, Y]):
    """The iterator over the results. `close()`, or leaving its `with` block, ends it and waits for what is in flight;
    dropping it ends it without waiting. Meant for one consumer thread; `close()` may come from any.

    A mapping inside a guarded call is given up with that call, and one that is still iterated when the main thread has
    ended is given up too: its iterator then raises `Cancelled`.
    """

    def __init__(self, function: Callable[[T], R], items: Iterable[T], *, workers: int, ordered: bool, ahead: int,
                 raises: bool, show: Callable[[Result[T, R]], Y], recorder: Recorder[T, R] | None = None,
                 observer: Observer | None = None) -> None:
        self._items: Iterator[T] | None = iter(items)
        self._input_error: BaseException | None = None
        self._ahead = ahead
        self._raises = raises  # an error of an item; else it is yielded, unless it is an interrupt or an exit
        self._show = show
        self._recorder = recorder
        self._observer = observer
        above = call.in_progress()
        self._crew = Crew(workers, None if above is None else above.cut_off)
        self._finished: Finished[T, R] = Finished(ordered)
        self._task = Task(function, self._finished, self._crew.cut_off, recorder, observer)
        self._pulled = 0
        self._yielded = 0
        self._closed = False
        if observer is not None:
            observer.total(_length(items))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Y:
        try:
            return self._yield(self._take())
        except StopIteration:
            self._end("done")
            raise
        except BaseException as error:
            self._end("error" if isinstance(error, Exception) else "interrupted")
            raise

    def _yield(self, result: Result[T, R]) -> Y:
        if self._observer is not None:
            self._observer.yielded()
        error = result.error
        try:
            if error is not None and (self._raises or not isinstance(error, Exception)):
                if isinstance(error, StopIteration):
                    raise RuntimeError("the mapped function raised StopIteration") from error
                raise error
            return self._show(result)
        finally:
            del error, result  # the traceback of what is raised holds this frame

    def _take(self) -> Result[T, R]:
        cut_off = self._crew.cut_off
        if not cut_off.is_cut and self._finished.failure is None:
            self._pull()
        if not self._closed and (self._items is not None or self._yielded < self._pulled):
            result = self._finished.take(cut_off)
            if result is not None:
                self._yielded += 1
                return result
            if self._finished.failure is not None:
                raise self._finished.failure
            if not self._closed:
                raise Cancelled("the mapping was given up before its end")
        raise StopIteration if self._input_error is None else self._input_error

    def _pull(self) -> None:
        """Takes from the input what there is room for; but while the next result is there, one item of a slow input
        is enough: else its results would fall behind by all that there is room for.
        """
        now = clock.current().now
        slow_at = now() + SLOW_INPUT
        while (items := self._items) is not None and self._pulled - self._yielded < self._ahead:
            if now() >= slow_at and self._finished.ready():
                return
            try:
                item = next(items)
            except StopIteration:
                self._items = None
                self._input_ended()
            except Exception as error:
                # It comes at its place: after the results of what lay before it.
                self._items, self._input_error = None, error
            else:
                self._begin(item)

    def _begin(self, item: T) -> None:
        recorded: Result[T, R] | None = None
        if self._recorder is not None:
            try:
                recorded = self._recorder.recall(self._pulled, item)
            except Exception as error:
                self._items, self._input_error = None, error
                return
        if recorded is None:
            self._crew.put(self._task.of(self._pulled, item))
        else:
            if self._observer is not None:
                self._observer.ended(recorded, True)
            self._finished.put(recorded)
        self._pulled += 1

    def _input_ended(self) -> None:
        if self._recorder is not None:
            self._recorder.input_ended(self._pulled)
        if self._observer is not None:
            self._observer.total(self._pulled)

    def close(self) -> None:
        """Ends it: nothing further begins, what waits is given up, what is in flight is waited for."""
        self._end("closed")

    def _end(self, why: Why) -> None:
        first, self._closed = not self._closed, True
        self._items = self._input_error = None
        self._crew.close()
        try:
            if self._recorder is not None and first:
                self._recorder.close(why)
        finally:
            self._finished.discard()
            if self._observer is not None and first:
                self._observer.closed(why)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if not hasattr(self, "_closed"):  # it was not made whole
            return
        self._crew.drop()
        self._finished.discard()
        if not self._closed:
            if self._recorder is not None:
                self._recorder.drop()
            if self._observer is not None:
                self._observer.closed("dropped")


def _length(items: object) -> int | None:
    try:
        return len(items)  # type: ignore[arg-type]
    except Exception:  # it has none, or does not know it
        return None
