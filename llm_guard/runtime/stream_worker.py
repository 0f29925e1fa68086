"""A stream whose items are made by a worker thread, so that its consumer can go on when one does not come in time."""

from __future__ import annotations

import os
from _thread import allocate_lock
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from llm_guard import call, clock
from llm_guard.call import FOREVER, Call
from llm_guard.runtime.attempt import Abandonment
from llm_guard.runtime.items import Items
from llm_guard.runtime.stream_source import Attempt, Late, OtherProcess
from llm_guard.state.gate import Ending
from llm_guard.state.stream_time import Limit
from llm_guard.state.workers import workers


class _Answer(NamedTuple):
    value: Any
    error: BaseException | None


class OnWorker:
    """One worker from the first item to the clean-up: the items are asked for, and closed, in its thread and in its
    copy of the consumer's context. Between two items it waits to be asked.

    `abandonment` is for a worker that is left to itself, in the midst of an item that did not come in time.
    """

    __slots__ = ("_abandonment", "_afterwards", "_answer", "_asked", "_call", "_items", "_lock", "_parting",
                 "_process", "_step", "_time", "_told")

    def __init__(self, items: Items, mine: Call, abandonment: Abandonment, time: clock.Clock) -> None:
        self._items = items
        self._call = mine
        self._abandonment = abandonment
        self._time = time
        self._process = os.getpid()
        self._lock = allocate_lock()
        self._asked = self._time.waiter()  # set by who wants something; a new one before each answer is told
        self._told = self._time.waiter()  # set by the worker when the answer is there
        self._step: Callable[[], Any] | None = None
        self._answer: _Answer | None = None
        self._afterwards: Callable[[], None] | None = None  # where the worker was left to itself: to be called then
        self._parting: Callable[[], None] | None = None  # where no more is wanted: to be called when all is closed
        token = call.begin(mine)
        try:
            workers().start(self._work)
        finally:
            call.end(token)

    def ask(self, step: Callable[[], Any], limit: Limit) -> Any:
        if os.getpid() != self._process:
            raise OtherProcess("a stream that is bounded in time can be read only in the process that began it")
        told = self._told = self._time.waiter()
        try:
            self._step = step
            self._asked.set()
            in_time = told.wait(None if limit.within == FOREVER else limit.within)
        except BaseException:  # an interrupt in the thread that waits
            self._abandonment.leave(self._give_up)
            raise
        if not in_time and self._abandonment.leave(self._give_up):
            raise Late
        answer, self._answer = self._answer, None
        assert answer is not None
        if answer.error is None:
            return answer.value
        try:
            raise answer.error
        finally:
            del answer  # its traceback holds this frame

    def quit(self, attempt: Attempt, ending: Ending) -> None:
        self._part(partial(attempt.end, ending))

    drop = quit  # it only sets a waiter

    def over(self) -> None:
        self._part(_nothing)

    def _part(self, parting: Callable[[], None]) -> None:
        if self._parting is None:
            self._parting = parting
        self._asked.set()

    def _give_up(self, afterwards: Callable[[], None]) -> bool:
        with self._lock:
            if self._answer is not None:
                return False
            self._afterwards = afterwards
            return True

    # In the worker.

    def _work(self) -> None:
        try:
            while self._serve():
                pass
        finally:
            self._let_go()

    def _serve(self) -> bool:
        """Does what is asked; False when it was the last."""
        if self._parting is None:
            self._asked.wait()
        step, self._step = self._step, None
        if step is None:
            self._close()
            return False
        answer = _made(step)
        last = self._items.are_over
        self._asked = self._time.waiter()
        with self._lock:
            wanted, told = self._afterwards is None, self._told
            if wanted:
                self._answer = answer
        del answer  # the traceback of an error holds this frame
        if not wanted:
            self._close()
            return False
        if last:
            self._let_go()
        told.set()
        return not last

    def _close(self) -> None:
        try:
            self._items.close()
        except BaseException:  # there is nobody whom it concerns
            pass
        self._let_go()
        with self._lock:
            afterwards = self._afterwards
        for each in (afterwards, self._parting):
            if each is not None:
                each()

    def _let_go(self) -> None:
        self._call.active = False  # its context may outlive it
        if self._call.cut_off is not None:
            self._call.cut_off.close()


def _made(step: Callable[[], Any]) -> _Answer:
    try:
        return _Answer(step(), None)
    except BaseException as error:
        return _Answer(None, error)


def _nothing() -> None:
    """After an end that was told already."""
