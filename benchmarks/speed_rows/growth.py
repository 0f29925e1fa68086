"""How the cost of a call grows: with the calls made before it, with keys, with callers that wait, with the window."""

from __future__ import annotations

from _thread import LockType, allocate_lock
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, repeat
from statistics import median
from threading import Event, Thread
from time import sleep

import timing
from overhead import bare, never_waits

from llm_guard import Limiter, bounded, breaker, retry, stack
from speed_rows.row import Effort, Row
from speed_rows.turns import in_turns, run_together

#: Beyond what is by chance, on a machine that others use.
FLAT = 1.25


@dataclass(frozen=True, slots=True)
class Curve:
    """CPU microseconds by size. `machine`: what the same takes without this project, where that grows by itself."""

    name: str
    costs: dict[int, float]
    machine: dict[int, float] | None = None

    @property
    def grown(self) -> float:
        """The most that a size costs, times the smallest one; over what the machine grows."""
        first, *others = (cost / (self.machine[size] if self.machine else 1.0) for size, cost in self.costs.items())
        return max(others) / first


def curves(effort: Effort) -> list[Curve]:
    """Each size of one curve takes turns with its others, but of the last, where they follow one another."""
    calls = max(200, round(2000 * effort.scale))
    rounds = max(effort.rounds, 7)
    return [
        _curve("calls made before (four decorators)", (1000, 10_000, 100_000),
               lambda size: _made(size, calls // 8), rounds),
        _curve("keys in use (@bounded for each key)", (1, 10, 100, 1000), lambda size: _keys(size, calls), rounds),
        _curve("window of a @breaker, calls", (10, 100, 1000, 10_000), lambda size: _window(size, calls), rounds),
        *_waiters((1, 10, 100, 1000), calls, rounds),
    ]


def rows(found: list[Curve]) -> list[Row]:
    return [_row(curve) for curve in found]


def _row(curve: Curve) -> Row:
    figure, beside = f"{curve.name}: most, times that of the smallest", _in_words(curve.costs)
    if curve.machine:
        figure, beside = f"{figure}, over what raw locks grow", f"{beside}; of raw locks {_in_words(curve.machine)}"
    return Row("how cost grows", figure, curve.grown, FLAT, beside=beside)


def _in_words(costs: dict[int, float]) -> str:
    return ", ".join(f"{size:,}: {cost:.1f} us" for size, cost in costs.items())


def _curve(name: str, sizes: tuple[int, ...], make: Callable[[int], Callable[[], float]], rounds: int) -> Curve:
    turns = {f"{size}": make(size) for size in sizes}
    in_turns(turns, 1)
    took = in_turns(turns, rounds)
    return Curve(name, {size: median(took[f"{size}"]) for size in sizes})


def _us(call: Callable[[], object], calls: int) -> float:
    began = timing.read()
    for _ in repeat(None, calls):
        call()
    return 1e6 * began.passed().cpu / calls


def _made(size: int, calls: int) -> Callable[[], float]:
    function = stack(retry(), never_waits(), bounded(8), breaker())(bare)
    for _ in repeat(None, size):
        function("hello")
    return lambda: _us(lambda: function("hello"), calls)


def _keys(size: int, calls: int) -> Callable[[], float]:
    function = bounded(8, per_key="prompt")(bare)
    names = [f"tenant {number}" for number in range(size)]
    for name in names:
        function(name)
    turn = count()
    return lambda: _us(lambda: function(names[next(turn) % size]), calls)


def _window(size: int, calls: int) -> Callable[[], float]:
    function = breaker(window=size, min_calls=min(10, size))(bare)
    for _ in repeat(None, size):
        function("hello")
    return lambda: _us(lambda: function("hello"), calls)


def _waiters(sizes: tuple[int, ...], calls: int, rounds: int) -> list[Curve]:
    """A place that is handed from thread to thread while so many wait; and a call that passes by callers who wait for
    another function's place."""
    callers = (2, *sizes[1:])
    ways = {"own": _handed_on, "raw": _ring}
    turns = {f"{way} {size}": make(size, calls) for size in callers for way, make in ways.items()}
    in_turns(turns, 1)
    took = in_turns(turns, rounds)
    own, raw = ({size: median(took[f"{way} {size}"]) for size in callers} for way in ways)
    waiting = {size: _beside_waiters(size, calls, rounds) for size in sizes}
    return [Curve("callers that wait (a Limiter's place handed on)", own, raw),
            Curve("waiters at the door for something else (@bounded)", waiting)]


def _handed_on(size: int, calls: int) -> Callable[[], float]:
    """A Limiter with one place: each of so many threads takes it in its turn, again and again."""
    each = max(5, calls // size)

    def turn() -> float:
        limiter = Limiter(1)

        def caller() -> None:
            for _ in repeat(None, each):
                limiter.acquire()
                limiter.release()

        limiter.acquire()
        return _from_the_start([caller] * size, lambda: limiter.waiting == size, limiter.release) / (each * size)

    return turn


def _ring(size: int, calls: int) -> Callable[[], float]:
    """As many threads on raw locks, each of which wakes the next: what the machine takes for it."""
    each = max(5, calls // size)

    def turn() -> float:
        locks = [allocate_lock() for _ in range(size)]
        for lock in locks:
            lock.acquire()

        def caller(mine: LockType, following: LockType) -> None:
            for _ in repeat(None, each):
                mine.acquire()
                following.release()

        jobs = [partial(caller, lock, locks[(number + 1) % size]) for number, lock in enumerate(locks)]
        return _from_the_start(jobs, lambda: True, locks[0].release) / (each * size)

    return turn


def _from_the_start(jobs: Sequence[Callable[[], None]], are_there: Callable[[], bool],
                    start: Callable[[], object]) -> float:
    """CPU microseconds until all jobs have ended, from when they were there and `start` let them go."""
    began: list[timing.Seconds] = []

    def let_go() -> None:
        while not are_there():
            sleep(0.001)
        began.append(timing.read())
        start()

    run_together([*jobs, let_go])
    return 1e6 * began[0].passed().cpu


def _beside_waiters(size: int, calls: int, rounds: int) -> float:
    entered, leave = Event(), Event()

    def hold(prompt: str) -> str:
        if prompt == "first":
            entered.set()
            leave.wait()
        return prompt

    held, passing = bounded(1)(hold), bounded(8)(bare)
    threads = [Thread(target=held, args=("first",), daemon=True)]
    threads[0].start()
    entered.wait()
    threads += [Thread(target=held, args=("next",), daemon=True) for _ in range(size)]
    for thread in threads[1:]:
        thread.start()
    while held.waiting() < size:
        sleep(0.001)
    _us(lambda: passing("hello"), calls)
    cost = median(_us(lambda: passing("hello"), calls) for _ in range(rounds))
    leave.set()
    for thread in threads:
        thread.join()
    return cost
