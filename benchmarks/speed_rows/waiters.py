"""5,000 threads wait at 200 a second: the processor time that they take, and how many threads wake for one grant."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import count
from statistics import median

import timing
from overhead import bare

from llm_guard import LeakyBucket, clock, ramp_up
from llm_guard.clock.system import SystemClock, SystemWaiter
from speed_rows.row import Effort, Row

THREADS, RATE = 5000, 200.0
#: Bytes of a thread's stack: many are started.
STACK = 256 * 1024


class _Counted:
    """Counts of all threads: `next` of a count is one step of the interpreter."""

    def __init__(self) -> None:
        self.woken, self.ends = count(), count()
        self._read = 0

    def read(self) -> tuple[int, int]:
        """How many were woken, and how many waits have ended, so far; each reading counts itself."""
        self._read += 1
        return next(self.woken) - self._read + 1, next(self.ends) - self._read + 1


class CountingClock(SystemClock):
    """Real time; counts whose wait ends because another woke it, and whose ends at all, by the time too."""

    def __init__(self) -> None:
        super().__init__()
        self.counted = counted = _Counted()

        class Waiter(SystemWaiter):
            __slots__ = ()

            def wait(self, timeout: float | None = None) -> bool:
                was_set = super().wait(timeout)
                next(counted.ends)
                if was_set:
                    next(counted.woken)
                return was_set

        self._made: Callable[[], SystemWaiter] = Waiter

    def waiter(self) -> SystemWaiter:
        return self._made()


def rows(effort: Effort) -> list[Row]:
    bucket = LeakyBucket(RATE)
    pace = ramp_up(start=RATE, ceiling=RATE)
    guarded = pace(bare)
    found = []
    for part, wait, release in (
            ("LeakyBucket", bucket.acquire, lambda: setattr(bucket, "rate", 1e9)),
            ("@ramp_up", lambda: guarded("hello"), lambda: setattr(pace, "ceiling", None))):
        found += _rows(part, wait, release, effort)
    return found


def _rows(part: str, wait: Callable[[], object], release: Callable[[], object], effort: Effort) -> list[Row]:
    passed, over = count(), False
    spent, woken, ends, rates, alone = [], [], [], [], []
    seconds, threads = max(0.2, effort.scale), THREADS if not effort.few else 500

    def caller() -> None:
        while not over:
            wait()
            next(passed)

    mine = CountingClock()
    before = threading.stack_size(STACK)
    with clock.use(mine):
        all_of_them = [threading.Thread(target=caller, daemon=True) for _ in range(threads)]
        try:
            for thread in all_of_them:
                thread.start()
        finally:
            threading.stack_size(before)
        time.sleep(max(1.0, 2 * effort.scale))  # until all are in line
        for _ in range(effort.rounds):
            began, at, first = timing.read(), next(passed), mine.counted.read()
            time.sleep(seconds)
            took, until, last = began.passed(), next(passed), mine.counted.read()
            grants = max(1, until - at - 1)
            spent.append(100 * took.cpu / took.wall)
            woken.append((last[0] - first[0]) / grants)
            ends.append((last[1] - first[1]) / grants)
            rates.append(grants / took.wall)
            alone.append(_sleeper_cpu(seconds))
        over = True
        release()
        for thread in all_of_them:
            thread.join()
    name = f"{part}, {threads:,} threads wait at {RATE:g}/s"
    return [Row(name, "CPU, % of one core", median(spent), 5.0,
                beside=f"{median(rates):.0f} a second were granted; of one thread that sleeps as often "
                       f"{median(alone):.2f}"),
            Row(name, "threads woken a grant", median(woken), 1.05,
                beside=f"waits that ended, with those that ended by the time: {median(ends):.2f}")]


def _sleeper_cpu(seconds: float) -> float:
    """What it takes this thread, in % of one core, to wake as often, and do nothing."""
    began, spent = time.perf_counter(), time.thread_time()
    for _ in range(max(1, round(seconds * RATE))):
        time.sleep(1 / RATE)
    return 100 * (time.thread_time() - spent) / (time.perf_counter() - began)
