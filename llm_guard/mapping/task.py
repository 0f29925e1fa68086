"""The call of one item, as the job of a worker."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

from llm_guard import call, clock
from llm_guard.call import Call, CutOff
from llm_guard.errors import Cancelled, ConfigError, Rejected
from llm_guard.mapping.finished import Finished
from llm_guard.mapping.lanes import Lane, Lanes
from llm_guard.mapping.result import Result
from llm_guard.mapping.seams import Observer, Recorder
from llm_guard.mapping.stopping import Verdict
from llm_guard.runtime.streams import Stream
from llm_guard.state.workers import Surroundings, surroundings

T = TypeVar("T")
R = TypeVar("R")


#: An item for the workers: its index, itself, and the lane of its key, where it has one. A plain tuple costs least.
Job = tuple[int, T, Lane[Any] | None]


class Task(Generic[T, R]):
    """What the calls of one mapping have in common. It knows nothing of the iterator, which may be dropped."""

    def __init__(self, function: Callable[[T], R], finished: Finished[T, R], verdict: Verdict,
                 cut_off: CutOff, lanes: Lanes[Job[T]] | None, recorder: Recorder[T, R] | None,
                 observer: Observer | None) -> None:
        self._function = function
        self._finished = finished
        self._verdict = verdict
        self._cut_off = cut_off
        self._lanes = lanes
        self._recorder = recorder
        self._observer = observer
        self._above = call.in_progress()
        self._context = contextvars.copy_context()
        self._surroundings: dict[int, Surroundings] = {}

    def surround(self, index: int) -> None:
        """Called in the consumer's thread, before the item is handed over: see `workers.around_each_job`."""
        made = surroundings()
        if made is not None:
            self._surroundings[index] = made

    def run(self, job: Job[T], put: Callable[[Job[T]], None]) -> bool:
        """Does one, and puts the next of its lane. Whether no further one is to begin."""
        index, item, lane = job
        stops = self._do(index, item)
        if lane is not None and self._lanes is not None:
            try:
                following = self._lanes.leave(lane)
                if following is not None and not stops:
                    put(following)
            except BaseException as error:  # of the key's own `__eq__`, or of a thread that could not be started
                self._finished.fail(error)
                return True
        return stops

    def _do(self, index: int, item: T) -> bool:
        if self._observer is not None:
            self._observer.began(index)
        result = self._call(index, item)
        stops = False
        if result.error is None or not is_given_up(result.error, self._cut_off):
            stops = self._verdict.says_stop(result)
            if self._observer is not None:
                self._observer.ended(result, False)
            if self._recorder is not None:
                self._record(self._recorder, result)
                del result  # an error's traceback leads to this frame
                return stops or self._finished.failure is not None
        self._finished.put(result)
        del result  # as well
        return stops

    def _call(self, index: int, item: T) -> Result[T, R]:
        now = clock.current().now
        began = now()
        above, cut_off = self._above, self._cut_off
        if above is None:
            tally = Call(cut_off=cut_off)
        else:  # the mapping is a guarded call's: that one's deadline holds, and what it holds is held
            tally = Call(above.deadline, cut_off, above.held if above.active else ())
        made = self._surroundings.pop(index, None) if self._surroundings else None
        try:
            if made is None:
                value = self._context.copy().run(_under, tally, self._function, item)
            else:
                value = made.run(partial(self._context.copy().run, _under, tally, self._function, item))
        except BaseException as error:
            turned_away = isinstance(error, (Rejected, Cancelled))
            return Result(index, item, None, error, tally.attempts or int(not turned_away), now() - began)
        return Result(index, item, value, None, tally.attempts or 1, now() - began)

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


def is_given_up(error: BaseException, cut_off: CutOff) -> bool:
    """Whether it is no end of a call that counts: an interrupt, an exit, or the mapping gave the call up."""
    return not isinstance(error, Exception) or (isinstance(error, Cancelled) and cut_off.waits.is_cut)


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
