"""`map_with_backpressure`: a function over a stream of inputs, on threads, never further ahead than it should be."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from llm_guard import checks
from llm_guard.errors import ConfigError
from llm_guard.mapping import progress_output
from llm_guard.mapping.iterator import Mapping
from llm_guard.mapping.progress_output import Show
from llm_guard.mapping.result import Result
from llm_guard.mapping.stopping import StopAfter
from llm_guard.mapping.task import left_open
from llm_guard.runtime.guarded import Guarded

if TYPE_CHECKING:
    from llm_guard.mapping.journal.identity import Key
    from llm_guard.mapping.journal.journal import Journal, Path
    from llm_guard.mapping.seams import Recorder

T = TypeVar("T")
R = TypeVar("R")

#: How many results for each worker may wait for their turn by default, in order and as they finish. In order a slow
#: call holds up all after it: where latencies are lognormal with sigma 0.8 and the server takes all that 32 workers
#: send, a batch takes 2.1 times as long as without order with 1, 1.3 times with 4, 1.08 with 8 and 1.00 with 16
#: (`benchmarks/read_ahead.py`). What is ahead of a consumer that stops early was called in vain.
ROOM_IN_ORDER, ROOM = 8, 1

OnError = Literal["raise", "return"]


def _whole(result: Result[T, R]) -> Result[T, R]:
    return result


@overload
def map_with_backpressure(function: Callable[[T], R], items: Iterable[T], *, workers: int = ..., ordered: bool = ...,
                          buffer: int | None = ..., on_error: Literal["raise"] = ...,
                          results: Literal[False] = ..., progress: Show = ..., total: int | None = ...,
                          stop_after: StopAfter | None = ..., partition_by: Callable[[T], Hashable] | None = ...,
                          journal: Path | Journal | None = ..., key: Callable[[T], Key] | None = ...
                          ) -> Mapping[T, R, R]: ...


@overload
def map_with_backpressure(function: Callable[[T], R], items: Iterable[T], *, workers: int = ..., ordered: bool = ...,
                          buffer: int | None = ..., on_error: Literal["return"],
                          results: Literal[False] = ..., progress: Show = ..., total: int | None = ...,
                          stop_after: StopAfter | None = ..., partition_by: Callable[[T], Hashable] | None = ...,
                          journal: Path | Journal | None = ..., key: Callable[[T], Key] | None = ...
                          ) -> Mapping[T, R, R | Exception]: ...


@overload
def map_with_backpressure(function: Callable[[T], R], items: Iterable[T], *, workers: int = ..., ordered: bool = ...,
                          buffer: int | None = ..., on_error: OnError = ...,
                          results: Literal[True], progress: Show = ..., total: int | None = ...,
                          stop_after: StopAfter | None = ..., partition_by: Callable[[T], Hashable] | None = ...,
                          journal: Path | Journal | None = ..., key: Callable[[T], Key] | None = ...
                          ) -> Mapping[T, R, Result[T, R]]: ...


def map_with_backpressure(function: Callable[[T], R], items: Iterable[T], *, workers: int = 32, ordered: bool = True,
                          buffer: int | None = None, on_error: OnError = "raise", results: bool = False,
                          stop_after: StopAfter | None = None, partition_by: Callable[[T], Hashable] | None = None,
                          progress: Show = False, total: int | None = None, journal: Path | Journal | None = None,
                          key: Callable[[T], Key] | None = None) -> Any:
    """Calls `function` with each of `items`, on `workers` threads; an iterator over what comes back.

    The input is taken lazily, in the thread that iterates, never more than `workers + buffer` items ahead of what was
    yielded, so it may be endless. With `ordered` the results come in the order of the input, and a slow one holds up
    the others only when the buffer is full; without it they come as they finish. `buffer` None: eight times as many as
    workers in order, since a call that takes long would have the workers wait; else as many as workers. Each item has
    exactly one result.

    `on_error`: "raise" raises an item's error at its place, after the results before it, and ends the mapping; "return"
    yields the error instead of a value. `results=True` yields `Result` objects. An exception of the input itself is
    raised at its place too. Ending early (an error, Ctrl-C, `close()`, dropping the iterator) begins nothing further,
    gives up what waits, and lets what is in flight end; a second Ctrl-C cuts that off too. Context variables of the
    caller reach the workers.

    `partition_by` tells an item's key: items of one key are called one after another, in the order of the input.
    `stop_after=stop_after(failures=100)` stops when so many have failed; where the account's quota is exhausted the
    mapping stops in any case. Then no further item begins, what has ended is yielded, and `Stopped` is raised.

    `progress=True` shows how far it is: a bar of tqdm in a terminal or a notebook, else (or without tqdm) a line each
    10 s in the logger `llm_guard`. A function is told a `Progress` at most each 0.1 s, also while nothing ends, and
    once at the end, in a thread of its own, before the mapping's end returns to the consumer; one that raises is logged
    and told no more. `total`: how many items there are, where the input has no `len`.

    `journal`: a file, or a `Journal`, in which each result is recorded before it is yielded. A further run yields what
    is recorded and calls only what is missing or failed. `key` tells by what an item is known, as a str, an int, bytes,
    or a tuple of these; without it, by its place in the input and by what it holds. `JournalError` for a journal of
    another input or another version of the function; `JournalBusy` while another mapping uses it.
    """
    checks.function("function", function)
    if isinstance(function, Guarded) and function.streams:
        raise left_open(function)
    checks.whole("workers", workers, least=1)
    checks.one_of("on_error", on_error, ("raise", "return"))
    for name, value in (("ordered", ordered), ("results", results)):
        if not isinstance(value, bool):
            raise ConfigError(name, value, "True or False")
    room = (ROOM_IN_ORDER if ordered else ROOM) * workers
    if buffer is not None:
        room = checks.whole("buffer", buffer, least=0)
    if stop_after is not None and not isinstance(stop_after, StopAfter):
        raise ConfigError("stop_after", stop_after, "stop_after(failures=..., failure_rate=...), or None")
    if partition_by is not None:
        checks.function("partition_by", partition_by)
    if not isinstance(items, Iterable) and not hasattr(items, "__getitem__"):
        raise ConfigError("items", type(items).__name__, "an iterable")
    progress_output.check(progress, total)
    if journal is None and key is not None:
        raise ConfigError("key", key, "only with a journal")
    recorder = None if journal is None else _recorder(function, journal, key)
    try:
        return Mapping(function, items, workers=workers, ordered=ordered, ahead=workers + room,
                       raises=on_error == "raise", show=_whole if results else None, recorder=recorder,
                       stop_after=stop_after, partition_by=partition_by,
                       observer=progress_output.watch(progress, function, total))
    except BaseException:  # of the input
        if recorder is not None:
            recorder.close("error")
        raise


def _recorder(function: Callable[[T], R], journal: Path | Journal, key: Callable[[T], Key] | None) -> Recorder[T, R]:
    from llm_guard.mapping.journal.journal import journal_of

    return journal_of(journal).open(function, key)
