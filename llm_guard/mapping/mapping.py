"""`map_with_backpressure`: a function over a stream of inputs, on threads, never further ahead than it should be."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, overload

from llm_guard import call, checks, clock
from llm_guard.call import Call, CutOff
from llm_guard.errors import Cancelled, ConfigError, Rejected
from llm_guard.mapping.crew import Crew
from llm_guard.mapping.finished import Finished
from llm_guard.mapping.result import Result
from llm_guard.runtime.guarded import Guarded
from llm_guard.runtime.streams import Stream

T = TypeVar("T")
R = TypeVar("R")
Y = TypeVar("Y")

#: How many results for each worker may wait for their turn by default, in order and as they finish. In order a slow
#: call holds up all after it: where latencies are lognormal with sigma 0.8 and the server takes all that 32 workers
#: send, a batch takes 2.1 times as long as without order with 1, 1.3 times with 4, 1.08 with 8 and 1.00 with 16
#: (`benchmarks/read_ahead.py`). What is ahead of a consumer that stops early was called in vain.
ROOM_IN_ORDER, ROOM = 8, 1

#: An input that takes so many seconds for an item is a slow one.
SLOW_INPUT = 0.001

OnError = Literal["raise", "return"]


class Mapping(Iterator[Y], Generic[T, R, Y]):
    """The iterator over the results. `close()`, or leaving its `with` block, ends it and waits for what is in flight;
    dropping it ends it without waiting. Meant for one consumer thread; `close()` may come from any.

    A mapping inside a guarded call is given up with that call, and one that is still iterated when the main thread has
    ended is given up too: its iterator then raises `Cancelled`.
    """

    def __init__(self, function: Callable[[T], R], items: Iterable[T], *, workers: int, ordered: bool, ahead: int,
                 raises: bool, show: Callable[[Result[T, R]], Y]) -> None:
        self._function = function
        self._items: Iterator[T] | None = iter(items)
        self._input_error: BaseException | None = None
        self._ahead = ahead
        self._raises = raises  # an error of an item; else it is yielded, unless it is an interrupt or an exit
        self._show = show
        above = call.in_progress()
        self._crew = Crew(workers, None if above is None else above.cut_off)
        self._above = above
        self._finished: Finished[T, R] = Finished(ordered)
        self._context = contextvars.copy_context()
        self._pulled = 0
        self._yielded = 0
        self._closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Y:
        try:
            return self._yield(self._take())
        except BaseException:
            self.close()
            raise

    def _yield(self, result: Result[T, R]) -> Y:
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
        if not cut_off.is_cut:
            self._pull()
        if not self._closed and (self._items is not None or self._yielded < self._pulled):
            result = self._finished.take(cut_off)
            if result is not None:
                self._yielded += 1
                return result
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
            except Exception as error:
                # It comes at its place: after the results of what lay before it.
                self._items, self._input_error = None, error
            else:
                self._crew.put(_job(self._function, self._pulled, item, self._finished.put, self._crew.cut_off,
                                    self._above, self._context))
                self._pulled += 1

    def close(self) -> None:
        """Ends it: nothing further begins, what waits is given up, what is in flight is waited for."""
        self._closed = True
        self._items = self._input_error = None
        self._crew.close()
        self._finished.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_finished"):  # it was made whole
            self._crew.drop()
            self._finished.discard()


def _job(function: Callable[[T], R], index: int, item: T, put: Callable[[Result[T, R]], None], cut_off: CutOff,
         above: Call | None, context: contextvars.Context) -> Callable[[], None]:
    def job() -> None:
        now = clock.current().now
        began = now()
        if above is None:
            tally = Call(cut_off=cut_off)
        else:  # the mapping is a guarded call's: that one's deadline holds, and what it holds is held
            tally = Call(above.deadline, cut_off, above.held if above.active else frozenset())
        value: R | None = None
        error: BaseException | None = None
        try:
            value = context.copy().run(_under, tally, function, item)
        except BaseException as raised:
            error = raised
        turned_away = isinstance(error, (Rejected, Cancelled))
        put(Result(index, item, value, error, tally.attempts or int(not turned_away), now() - began))
        error = None  # its traceback holds this frame

    return job


def _under(tally: Call, function: Callable[[T], R], item: T) -> R:
    """Runs in a context of its own, so that what is begun here needs no end."""
    call.begin(tally)
    try:
        value = function(item)
        if isinstance(value, Stream):
            value.close()
            raise _left_open(function)
        return value
    finally:
        tally.active = False


def _left_open(function: object) -> ConfigError:
    """Streams that wait to be read keep all places there are: nobody could go on."""
    return ConfigError("function", function, "a function that reads its stream to the end, such as "
                                             "`lambda item: list(ask(item))`")


def _value_or_error(result: Result[T, R]) -> R | BaseException | None:
    return result.value if result.error is None else result.error


def _whole(result: Result[T, R]) -> Result[T, R]:
    return result


@overload
def map_with_backpressure(function: Callable[[T], R], items: Iterable[T], *, workers: int = ..., ordered: bool = ...,
                          buffer: int | None = ..., on_error: Literal["raise"] = ...,
                          results: Literal[False] = ...) -> Mapping[T, R, R]: ...


@overload
def map_with_backpressure(function: Callable[[T], R], items: Iterable[T], *, workers: int = ..., ordered: bool = ...,
                          buffer: int | None = ..., on_error: Literal["return"],
                          results: Literal[False] = ...) -> Mapping[T, R, R | Exception]: ...


@overload
def map_with_backpressure(function: Callable[[T], R], items: Iterable[T], *, workers: int = ..., ordered: bool = ...,
                          buffer: int | None = ..., on_error: OnError = ...,
                          results: Literal[True]) -> Mapping[T, R, Result[T, R]]: ...


def map_with_backpressure(function: Callable[[T], R], items: Iterable[T], *, workers: int = 32, ordered: bool = True,
                          buffer: int | None = None, on_error: OnError = "raise", results: bool = False) -> Any:
    """Calls `function` with each of `items`, on `workers` threads; an iterator over what comes back.

    The input is taken lazily, in the thread that iterates, never more than `workers + buffer` items ahead of what was
    yielded, so it may be endless. With `ordered` the results come in the order of the input, and a slow one holds up
    the others only when the buffer is full; without it they come as they finish. `buffer` None: eight times as many as
    workers in order, since a call that takes long would have the workers wait; else as many as workers. Each item has
    exactly one result.

    `on_error`: "raise" raises an item's error at its place, after the results before it, and ends the mapping; "return"
    yields the error instead of a value. `results=True` yields `Result` objects. An exception of the input itself is
    raised at its place too. Ending early (an error, Ctrl-C, `close()`, dropping the iterator) begins nothing further,
    gives up what waits, and lets what is in flight end. Context variables of the caller reach the workers.
    """
    checks.function("function", function)
    if isinstance(function, Guarded) and function.streams:
        raise _left_open(function)
    checks.whole("workers", workers, least=1)
    checks.one_of("on_error", on_error, ("raise", "return"))
    for name, value in (("ordered", ordered), ("results", results)):
        if not isinstance(value, bool):
            raise ConfigError(name, value, "True or False")
    room = (ROOM_IN_ORDER if ordered else ROOM) * workers
    if buffer is not None:
        room = checks.whole("buffer", buffer, least=0)
    if not isinstance(items, Iterable) and not hasattr(items, "__getitem__"):
        raise ConfigError("items", type(items).__name__, "an iterable")
    return Mapping(function, items, workers=workers, ordered=ordered, ahead=workers + room, raises=on_error == "raise",
                   show=_whole if results else _value_or_error)
