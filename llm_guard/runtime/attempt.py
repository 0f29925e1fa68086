"""What the door gave for an attempt or a call, and the function run on a worker where time bounds it."""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Sequence
from typing import Any

from llm_guard.call import Call, CutOff
from llm_guard.errors import CallTimeout
from llm_guard.outcome import IGNORED
from llm_guard.runtime.door import door
from llm_guard.runtime.plan import Timed
from llm_guard.state.gate import Ending, Gate, Request
from llm_guard.state.workers import workers

_ENDED_LATE = Ending(IGNORED, 0.0)


class Permits:
    """Permits of one attempt, or of a whole call. Each goes back once.

    Those of gates that outlive a timeout go back only when every function that was left to itself has ended.
    """

    __slots__ = ("_ended", "_left_running", "_lock", "_permits", "_request")

    def __init__(self, request: Request, permits: Sequence[tuple[Gate, Any]]) -> None:
        self._request = request
        self._permits = permits
        self._lock = allocate_lock()
        self._left_running = 0
        self._ended = False

    @property
    def is_probe(self) -> bool:
        """Whether it asked on behalf of all if the server is back."""
        return any(gate.is_probe(permit) for gate, permit in self._permits)

    def end(self, ending: Ending) -> None:
        """The attempt, or the call, has ended."""
        if not self._permits:
            return
        with self._lock:
            self._ended = True
            some_run = self._left_running > 0
        door.leave(self._request, [held for held in self._permits if not (some_run and held[0].outlives)], ending)

    def end_later(self, ending: Ending, follow: Callable[[], object] | None = None) -> None:
        """`end`, for a finaliser: takes no lock, and is done by whoever comes to the door next; `follow` is called some
        time afterwards. Only where no function was left to itself."""
        door.leave_later(self._request, self._permits, ending, follow)

    def function_left(self) -> None:
        """A function that holds them runs on by itself."""
        with self._lock:
            self._left_running += 1

    def function_ended(self) -> None:
        """Such a function has ended after all."""
        with self._lock:
            self._left_running -= 1
            last = self._ended and not self._left_running
        if last:
            door.leave(self._request, [held for held in self._permits if held[0].outlives], _ENDED_LATE)


class Abandonment:
    """How a function that did not end in time is left to itself: its call is cut off, and its permits and timeouts know
    that it still runs, until it has ended after all.

    `held` are the permits that it runs under, `bounds` the timeouts that count what still runs.
    """

    __slots__ = ("_bounds", "_cut_off", "_held")

    def __init__(self, cut_off: CutOff, held: Sequence[Permits], bounds: Sequence[Timed]) -> None:
        self._cut_off = cut_off
        self._held = held
        self._bounds = bounds

    def leave(self, give_up: Callable[[Callable[[], None]], bool]) -> bool:
        """Leaves the function to itself, and cuts its call off. `give_up` stops waiting for it, and is told what to
        call when it has ended; False from it, and from here, where it just has."""
        for permits in self._held:
            permits.function_left()
        self._count(1)
        if give_up(self._ended):
            self._cut_off.cut()
            return True
        self._ended()
        return False

    def _ended(self) -> None:
        self._count(-1)
        for permits in self._held:
            permits.function_ended()

    def _count(self, change: int) -> None:
        with door.locked():
            for bound in self._bounds:
                bound.still_running += change


def run_in_time(function: Callable[[], Any], mine: Call, seconds: float, until: float, held: Sequence[Permits],
                bounds: Sequence[Timed]) -> Any:
    """Runs `function` on a worker thread, as the call `mine`, and returns or raises what it does.

    After `seconds`, at the instant `until`, it is left to itself and cut off, and `CallTimeout` raised.
    """
    cut_off = mine.cut_off = CutOff(mine.cut_off, until)

    def bare() -> Any:
        try:
            return function()
        finally:
            mine.active = False  # here, for its caller may have gone

    try:
        job = workers().start(bare)
        try:
            ended = job.wait(seconds)
        except BaseException:  # an interrupt in the thread that waits
            Abandonment(cut_off, held, bounds).leave(job.leave)
            raise
        if not ended and Abandonment(cut_off, held, bounds).leave(job.leave):
            raise CallTimeout(f"no answer within {seconds:.3g} s", seconds=seconds, still_running=True)
        return job.result()
    finally:
        cut_off.close()


def close_quietly(value: Any) -> None:
    """A refused response, or an iterator that failed, gives its connection back: nobody will see it again."""
    try:
        close = getattr(value, "close", None)
        if callable(close):
            close()
    except Exception:  # it is of no use to anybody
        pass
