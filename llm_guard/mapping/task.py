"""The call of one item, as the job of a worker."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Generic, TypeVar

from llm_guard import call, clock
from llm_guard.call import Call, CutOff
from llm_guard.errors import Cancelled, ConfigError, Rejected
from llm_guard.mapping.finished import Finished
from llm_guard.mapping.result import Result
from llm_guard.mapping.seams import Observer, Recorder
from llm_guard.runtime.streams import Stream

T = TypeVar("T")
R = TypeVar("R")


class Task(Generic[T, R]):
    """What the calls of one mapping have in common. It knows nothing of the iterator, which may be dropped."""

    def __init__(self, function: Callable[[T], R], finished: Finished[T, R], cut_off: CutOff,
                 recorder: Recorder[T, R] | None, observer: Observer | None) -> None:
        self._function = function
        self._finished = finished
        self._cut_off = cut_off
        self._recorder = recorder
        self._observer = observer
        self._above = call.in_progress()
        self._context = contextvars.copy_context()

    def of(self, index: int, item: T) -> Callable[[], None]:
        """The job that calls the function with `item`."""
        return lambda: self._run(index, item)

    def _run(self, index: int, item: T) -> None:
        if self._observer is not None:
            self._observer.began(index)
        result = self._call(index, item)
        error = result.error
        given_up = not isinstance(error, Exception | None) or (isinstance(error, Cancelled) and self._cut_off.is_cut)
        del error  # its traceback holds frames
        if self._observer is not None and not given_up:
            self._observer.ended(result, False)
        if self._recorder is None or given_up:
            self._finished.put(result)
        else:
            self._record(self._recorder, result)
        del result  # as well, by the way of the frames below

    def _call(self, index: int, item: T) -> Result[T, R]:
        now = clock.current().now
        began = now()
        above = self._above
        if above is None:
            tally = Call(cut_off=self._cut_off)
        else:  # the mapping is a guarded call's: that one's deadline holds, and what it holds is held
            tally = Call(above.deadline, self._cut_off, above.held if above.active else frozenset())
        value: R | None = None
        error: BaseException | None = None
        try:
            value = self._context.copy().run(_under, tally, self._function, item)
        except BaseException as raised:
            error = raised
        turned_away = isinstance(error, (Rejected, Cancelled))
        try:
            return Result(index, item, value, error, tally.attempts or int(not turned_away), now() - began)
        finally:
            del error  # its traceback holds this frame

    def _record(self, recorder: Recorder[T, R], result: Result[T, R]) -> None:
        def then(error: BaseException | None = None, /) -> None:
            if error is None:
                self._finished.put(result)
            else:
                self._finished.fail(error)

        try:
            recorder.record(result, then)
        except BaseException as error:
            self._finished.fail(error)


def left_open(function: object) -> ConfigError:
    """Streams that wait to be read keep all places there are: nobody could go on."""
    return ConfigError("function", function, "a function that reads its stream to the end, such as "
                                             "`lambda item: list(ask(item))`")


def _under(tally: Call, function: Callable[[T], R], item: T) -> R:
    """Runs in a context of its own, so that what is begun here needs no end."""
    call.begin(tally)
    try:
        value = function(item)
        if isinstance(value, Stream):
            value.close()
            raise left_open(function)
        return value
    finally:
        tally.active = False
