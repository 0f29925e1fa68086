"""The iterator over the results of a mapping."""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Hashable, Iterable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from llm_guard import call
from llm_guard.call import CutOff
from llm_guard.errors import Cancelled
from llm_guard.fork import renew_after_fork
from llm_guard.mapping.crew import Crew
from llm_guard.mapping.finished import Finished, InOrder
from llm_guard.mapping.intake import Intake
from llm_guard.mapping.lanes import Lanes
from llm_guard.mapping.result import Result
from llm_guard.mapping.seams import Observer, Recorder, Why
from llm_guard.mapping.stopping import StopAfter, Verdict
from llm_guard.mapping.task import Job, Task, is_given_up
from llm_guard.runtime.guarded import Guarded

T = TypeVar("T")
R = TypeVar("R")
Y = TypeVar("Y")


class Mapping(Iterator[Y], Generic[T, R, Y]):
    """The iterator over the results. `stop()` begins no further item and yields what there is; `close()`, or leaving
    its `with` block, ends it and waits for what is in flight; dropping it ends it without waiting. Meant for one
    consumer thread; `stop()` and `close()` may come from any.

    A mapping inside a guarded call is given up with that call, and one that is still iterated when the main thread has
    ended is given up too: its iterator then raises `Cancelled`. So does one of before a fork, in the child.
    """

    def __init__(self, function: Callable[[T], R], items: Iterable[T], *, workers: int, ordered: bool, ahead: int,
                 raises: bool, show: Callable[[Result[T, R]], Y] | None, stop_after: StopAfter | None = None,
                 partition_by: Callable[[T], Hashable] | None = None, recorder: Recorder[T, R] | None = None,
                 observer: Observer | None = None) -> None:
        iterator = iter(items)  # before all else: it may raise
        self._raises = raises  # an error of an item; else it is yielded, unless it is an interrupt or an exit
        self._show = show  # None: the value, or the error
        self._recorder = recorder
        self._observer = observer
        self._lanes: Lanes[Job[T]] | None = None if partition_by is None else Lanes()
        self._verdict = Verdict(stop_after, function.stack.reads_with if isinstance(function, Guarded) else None)
        self._finished: Finished[T, R] = InOrder() if ordered else Finished()
        above = call.in_progress()
        cut_off = CutOff(None if above is None else above.cut_off, ends_waits=True)
        cut_off.watch(self._finished.end)
        task = Task(function, self._finished, self._verdict, cut_off, self._lanes, recorder, observer)
        self._crew = Crew(workers, task.run, cut_off, over=self._finished.end, failed=self._finished.fail,
                          spares=recorder is not None)
        self._intake = Intake(iterator, task, self._crew, self._finished, ahead=ahead, partition_by=partition_by,
                              lanes=self._lanes, recorder=recorder, observer=observer)
        self._yielded = 0
        self._failed = 0  # of those
        self._given_up = 0  # of those, and not shown
        self._flushed = False  # nothing will come any more, not even from the recorder
        self._closed = False
        self._once = allocate_lock()  # taken by who ends it
        renew_after_fork(self)
        if observer is not None:
            observer.total(_length(items))

    def after_fork(self) -> None:
        """In the child nothing is left of it: what it calls, records and shows is the parent's."""
        self._crew.after_fork()
        self._finished.discard()
        self._intake.close()
        self._recorder = self._observer = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Y:
        result: Result[T, R] | None = None
        intake = self._intake
        try:
            while True:
                if intake.items is not None:
                    intake.pull(self._yielded)
                result = self._finished.pop() or self._await()
                self._yielded += 1
                if result.error is None and self._observer is None:
                    return result.value if self._show is None else self._show(result)  # type: ignore[return-value]
                if not self._is_left_out(result):
                    return self._yield(result)
        except StopIteration:
            self._end("stopped" if self._crew.stopped and not self._closed else "done")
            raise
        except KeyboardInterrupt as interrupt:
            result = None
            self._interrupted(interrupt)
            raise
        except BaseException as error:
            result = None  # the traceback holds this frame
            self._end("error" if isinstance(error, Exception) else "interrupted")
            raise

    def _yield(self, result: Result[T, R]) -> Y:
        if self._observer is not None:
            self._observer.yielded()
        error = result.error
        self._failed += error is not None
        try:
            if error is not None and (self._raises or not isinstance(error, Exception)):
                if isinstance(error, StopIteration):
                    raise RuntimeError("the mapped function raised StopIteration") from error
                raise error
            if self._show is not None:
                return self._show(result)
            return error if error is not None else result.value  # type: ignore[return-value]
        finally:
            del error, result  # the traceback of what is raised holds this frame

    def _is_left_out(self, result: Result[T, R]) -> bool:
        """Of a mapping that stops: what it gave up, and, where errors are raised, what the quota refused: `Stopped`
        tells of that."""
        error = result.error
        try:
            if error is None or not self._crew.stopped or not isinstance(error, Exception):
                return False
            if is_given_up(error, self._crew.cut_off):
                self._given_up += 1
                return True
            if self._raises and self._verdict.reason == "quota" and self._verdict.is_quota(error):
                self._failed += 1
                return True
            return False
        finally:
            del error, result

    def _await(self) -> Result[T, R]:
        """The next result, which was not there just now; raises where there is none."""
        stopped = self._crew.stopped
        intake = self._intake
        if not self._closed and (intake.items is not None or self._yielded < intake.taken or self._crew.forked):
            result = self._finished.take()
            if result is not None:
                return result
            if self._finished.failure is not None:
                raise self._finished.failure
            if self._crew.forked:
                raise Cancelled("the mapping belongs to the process in which it was begun")
            if not self._closed and self._crew.cut_off.is_cut:
                raise Cancelled("the mapping was given up before its end")
            stopped = True
        if stopped and not self._closed:
            result = self._rest()
            if result is not None:
                return result
        if self._verdict.reason is not None and not self._closed:
            succeeded = self._yielded - self._failed - self._given_up
            raise self._verdict.error(succeeded, self._failed) from self._verdict.cause
        raise StopIteration if intake.error is None else intake.error

    def _rest(self) -> Result[T, R] | None:
        """One of those that ended though others before them never began, when all that was in flight has ended."""
        if not self._flushed:
            self._crew.wait()
            self._flush("stopped")
            if self._finished.failure is not None:
                raise self._finished.failure
        return self._finished.rest()

    def stop(self) -> None:
        """No further item begins, what is in flight ends, and the iterator ends when it has yielded what there is. What
        waits at a door or between two attempts is given up, and has no result. Returns at once; from any thread."""
        self._crew.wind_down()

    def abandon(self) -> None:
        """As `stop`, and cuts off what is in flight: the iterator raises `Cancelled`. Returns at once; from any thread.
        """
        self._crew.abandon()

    def close(self) -> None:
        """Ends it: nothing further begins, what waits is given up, what is in flight is waited for."""
        self._end("closed")

    def _interrupted(self, interrupt: KeyboardInterrupt) -> None:
        """What is in flight ends by itself, until a second interrupt."""
        self._end("interrupted")
        kept = ("" if self._recorder is None else
                "; what had ended is recorded: run it again with the same journal to go on")
        interrupt.add_note(f"llm_guard: interrupted; results given so far: {self._yielded}{kept}")

    def _end(self, why: Why) -> None:
        first = self._once.acquire(False)
        self._closed = True
        self._intake.close()
        try:
            if why == "interrupted":
                self._crew.wind_down()
            else:
                self._crew.stop()
            self._crew.wait()
        except BaseException:  # an interrupt
            self._crew.abandon()
            raise
        finally:
            self._crew.let_go()
            try:
                if first:
                    self._flush(why)
            finally:
                self._finished.discard()
                if self._observer is not None and first:
                    self._observer.closed(why)

    def _flush(self, why: Why) -> None:
        if not self._flushed:
            self._flushed = True
            if self._recorder is not None:
                self._recorder.close(why)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            if not self._closed:
                self._interrupted(error)
        else:
            self.close()

    def __del__(self) -> None:
        if not hasattr(self, "_once"):  # it was not made whole
            return
        self._crew.stop()
        self._crew.let_go()
        self._finished.discard()
        if self._once.acquire(False):
            if self._recorder is not None and not self._flushed:
                self._recorder.drop()
            if self._observer is not None:
                self._observer.closed("dropped")


def _length(items: object) -> int | None:
    try:
        return len(items)  # type: ignore[arg-type]
    except Exception:  # it has none, or does not know it
        return None
