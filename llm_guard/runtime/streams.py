"""The iterator that a guarded streaming function returns: it carries the attempt, and what that holds, to its end."""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Generator
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from llm_guard import call
from llm_guard.call import Call
from llm_guard.errors import Cancelled
from llm_guard.outcome import IGNORED, SUCCESS, TIMEOUT, Outcome
from llm_guard.runtime.items import Items
from llm_guard.runtime.stream_source import Attempt, Late, OtherProcess, Source
from llm_guard.state.stream_time import Limit, StreamTime

T = TypeVar("T")

_TAKEN = object()


class Stream(Generator[T, Any, Any]):
    """An iterator over the items of a guarded call that is still in progress.

    What the call holds (a place in `@bounded`, in the pace's window) is held until the stream is exhausted, raises, is
    closed (`close()`, or the end of its `with` block) or is dropped. It comes into the user's hands when its first item
    is there. An error after that is raised as it is, and nothing is tried again. Its outcome goes to the guards at its
    end; whoever ends it early was well served until then, and that is its outcome.

    It does what a generator does, for one consumer at a time; `send` and `throw` reach a generator function's frame.
    """

    __slots__ = ("__weakref__", "_attempt", "_call", "_deadline", "_first", "_items", "_now", "_over", "_policies",
                 "_returned", "_source", "_time", "_turn")

    def __init__(self, items: Items, source: Source, mine: Call, attempt: Attempt, time: StreamTime,
                 now: Callable[[], float], deadline: float, policies: tuple[object, ...]) -> None:
        self._items = items
        self._source = source
        self._call = mine
        self._attempt = attempt
        self._time = time
        self._now = now
        self._deadline = deadline
        self._policies = policies
        self._turn = allocate_lock()  # one consumer at a time
        self._first: Any = _TAKEN  # or the item that `begin` got
        self._returned: Any = None  # by a generator that ended before its first item
        self._over = False

    def begin(self) -> bool:
        """Gets the first item; False where there is none: then it is at its end."""
        try:
            self._first = self._ask(self._items.first, self._limit())
        except StopIteration as end:
            self._returned = end.value
            return False
        return True

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return self._resume(self._items.next)

    def send(self, value: Any, /) -> T:
        """Sends `value` into the generator function's frame, and gives the next item."""
        if value is None or self._over:
            return self._resume(self._items.next)
        if self._first is not _TAKEN:
            raise TypeError("only None can be sent before the first item was taken")
        if not self._items.takes_values:
            raise TypeError("nothing can be sent into a stream that no generator function made")
        return self._resume(partial(self._items.send, value))

    def throw(self, kind: Any, value: Any = None, trace: TracebackType | None = None, /) -> T:
        """Raises an error in the generator function's frame, and gives the next item where it yields one."""
        error = value if isinstance(value, BaseException) else kind
        if isinstance(error, type) and issubclass(error, BaseException):
            error = error() if value is None else error(value)
        if not isinstance(error, BaseException):
            raise TypeError("an exception is needed to throw")
        errors, thrown = [error if trace is None else error.with_traceback(trace)], [error]
        del kind, value, error  # its traceback will hold this frame
        if self._over:
            del thrown
            raise errors.pop()
        return self._resume(partial(self._items.throw, errors), thrown)

    def close(self) -> None:
        """Ends it, and gives all back that it holds. Waits for a generator's clean-up, within the bounds of an item,
        and raises what that raises."""
        self._take_turn()
        try:
            if self._over:
                return
            self._first = _TAKEN
            limit = self._limit()
            try:
                self._source.ask(self._items.close, limit)
            except (Late, OtherProcess):  # it is closed where it is made, nobody need wait for that
                pass
            finally:
                self._time.stop(self._now())
                self._end(self._served(), None)
        finally:
            self._turn.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        # It may come anywhere, in the midst of anything: no lock is taken, nobody is waited for or told.
        if not getattr(self, "_over", True):
            self._over = True
            self._source.drop(self._attempt, self._attempt.ending(SUCCESS, None, self._time))

    def __reduce__(self) -> Any:
        raise TypeError("a stream cannot be pickled or copied")

    def __repr__(self) -> str:
        return f"<stream, {'at its end' if self._over else 'open'}>"

    def _take_turn(self) -> None:
        if not self._turn.acquire(False):
            raise ValueError("the stream is being read already, by another thread or by itself")

    def _resume(self, step: Callable[[], Any], thrown: list[BaseException] | None = None) -> T:
        self._take_turn()
        try:
            if self._over:
                value, self._returned = self._returned, None
                raise StopIteration(value)
            first, self._first = self._first, _TAKEN
            if first is not _TAKEN and thrown is None:
                return first  # type: ignore[no-any-return]  # what the function yields
            limit = self._limit()
            if self._is_given_up():
                self._quit(IGNORED)
                raise Cancelled("the call was given up while its stream was read")
            if limit.within <= 0:
                self._quit(IGNORED if limit.name == "deadline" else TIMEOUT)
                raise limit.error(still_running=False)
            return self._ask(step, limit, thrown)  # type: ignore[no-any-return]  # what the function yields
        finally:
            self._turn.release()

    def _limit(self) -> Limit:
        """What bounds the wait for an item, which begins now. The frame that makes it holds what the consumer holds,
        and has its deadline."""
        asker = call.in_progress()
        deadline = self._deadline if asker is None else min(self._deadline, asker.deadline)
        limit = self._time.ask(self._now(), deadline)
        self._call.deadline = self._time.deadline(deadline)
        self._call.held = self._policies if asker is None or not asker.active else (*self._policies, *asker.held)
        return limit

    def _is_given_up(self) -> bool:
        asker, cut_off = call.in_progress(), self._call.cut_off
        return ((cut_off is not None and cut_off.is_cut)
                or (asker is not None and asker.cut_off is not None and asker.cut_off.is_cut))

    def _ask(self, step: Callable[[], Any], limit: Limit, thrown: list[BaseException] | None = None) -> Any:
        try:
            try:
                item = self._source.ask(step, limit)
            except Late:
                raise limit.error(still_running=True) from None
        except BaseException as error:
            self._time.stop(self._now())
            by_consumer = thrown is not None and thrown.pop() is error
            well = by_consumer or isinstance(error, StopIteration)
            self._end(self._served(getattr(error, "value", None)) if well else self._attempt.read(error), error)
            raise
        self._time.item(self._now())
        self._call.deadline = self._deadline  # the consumer's own time brings no other bound nearer
        return item

    def _served(self, returned: object = None) -> Outcome:
        """The outcome where all was well, with what the returned value, or a response heard, tells of the account."""
        heard, self._call.heard = self._call.heard, None
        return self._attempt.read_end(returned, heard)

    def _end(self, outcome: Outcome, error: BaseException | None) -> None:
        self._attempt.end(self._attempt.ending(outcome, error, self._time))
        self._over = True  # only now: where that was cut short, it is done when the stream is dropped
        self._source.over()

    def _quit(self, outcome: Outcome) -> None:
        self._over = True
        self._time.stop(self._now())
        self._source.quit(self._attempt, self._attempt.ending(outcome, None, self._time))
