"""How near a steered ramp keeps the mean response time to its target, in virtual time.

The real decorators, threads and `steer`, against servers whose latency grows with load, by a measure as Prometheus has.

    python benchmarks/steered.py [--seeds N] [--markdown] [--picture FILE]

The measure is the mean over a window that has passed, of counters that are read every 5 s, as a PromQL
rate(sum[1m]) / rate(count[1m]) is. 32 callers always want an answer. Printed is, beside the same run without steering,
the mean response time of the calls after a time to settle, as a share of the target, and the spread of its minutes.
"""

from __future__ import annotations

import argparse
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count, takewhile
from pathlib import Path
from random import Random
from statistics import mean

import timing

from llm_guard import bounded, clock, map_with_backpressure, ramp_up, retry
from llm_guard.clock.virtual import VirtualClock
from llm_guard.telemetry.steer import steer
from llm_guard.testing.server.settings import Scenario, Spell
from llm_guard.testing.virtual_server import VirtualServer

CALLERS = 32
#: Seconds between two readings of the counters, of a measure's averages in the table, and until a run has settled.
SCRAPE, MINUTE, SETTLES = 5.0, 60.0, 900.0


class Sharing:
    """A server that works on all at once, as one that batches does: with n calls in flight each takes
    `seconds` * (1 + n / `half`)."""

    def __init__(self, seconds: float, half: float, seed: int) -> None:
        self._seconds, self._half, self._random = seconds, half, Random(f"sharing {seed}")
        self._in_flight = 0

    def call(self, _: object) -> None:
        work = self._seconds * math.exp(self._random.gauss(0, 0.3))
        self._in_flight += 1
        try:
            for _ in range(10):  # so that it feels who comes and goes meanwhile
                clock.current().sleep(work / 10 * (1 + self._in_flight / self._half))
        finally:
            self._in_flight -= 1


@dataclass(frozen=True)
class Case:
    """A server and how its clients are steered; `window` of the measure, `lasts` of the run, in seconds."""

    name: str
    server: Callable[[int], Sharing | VirtualServer]
    target: float
    window: float = 60.0
    lasts: float = 2400.0


def _virtual(**settings: object) -> Callable[[int], VirtualServer]:
    kind = Scenario("E", slots=8, median=0.5, sigma=0.3, **settings)  # type: ignore[arg-type]
    return lambda seed: VirtualServer(kind, seed)


CASES = (
    Case("batches: latency grows with the calls in flight", lambda seed: Sharing(0.5, 8, seed), 2.0),
    Case("batches, slow, a mean over 5 minutes", lambda seed: Sharing(2.0, 8, seed), 6.0, 300.0, 7200.0),
    Case("8 slots and an endless queue", _virtual(), 0.8),
    Case("8 slots, of which half are gone from 1200 to 2400 s",
         _virtual(spells=(Spell(1200, 2400, 0.5),)), 0.8, lasts=3600.0),
)


@dataclass
class Told:
    """What a run shows: (end, seconds) of each call, and (instant, measure, ceiling) of each look."""

    calls: list[tuple[float, float]] = field(default_factory=list)
    looks: list[tuple[float, float | None, float | None]] = field(default_factory=list)

    def share(self, target: float, since: float, until: float = math.inf) -> float:
        """The mean response time of calls that ended then, over the target."""
        return mean(seconds for end, seconds in self.calls if since <= end < until) / target

    def minutes(self, target: float, since: float) -> list[float]:
        """That of each minute."""
        last = self.calls[-1][0]
        return [self.share(target, at, at + MINUTE)
                for at in takewhile(lambda at: at + MINUTE < last, count(since, MINUTE))]

    def rate(self, since: float) -> float:
        """Answers a second."""
        return sum(end >= since for end, _ in self.calls) / (self.calls[-1][0] - since)


class Counters:
    """The sum and the count of response times, as they are scraped: a source for `steer`."""

    def __init__(self, told: Told, window: float) -> None:
        self.window = window
        self._told = told
        self._sum, self._count = 0.0, 0
        self._scraped: deque[tuple[float, float, int]] = deque()

    def add(self, end: float, seconds: float) -> None:
        self._told.calls.append((end, seconds))
        self._sum, self._count = self._sum + seconds, self._count + 1

    def scrape_until(self, end: float) -> None:
        time = clock.current()
        while (now := time.now()) < end:
            self._scraped.append((now, self._sum, self._count))
            while self._scraped[0][0] < now - self.window:
                self._scraped.popleft()
            time.sleep(SCRAPE)

    def __call__(self) -> float | None:
        (_, sum_before, before), (_, sum_now, now) = self._scraped[0], self._scraped[-1]
        return (sum_now - sum_before) / (now - before) if now > before else None


def run(case: Case, seed: int = 0, *, steers: bool = True) -> Told:
    """One run of a case; the same for a seed."""
    told = Told()
    with VirtualClock(seed) as time:
        server, counters, pace = case.server(seed), Counters(told, case.window), ramp_up()

        def call(item: int) -> None:
            began = time.now()
            server.call(item)
            counters.add(time.now(), time.now() - began)

        def look_on() -> None:
            while True:
                time.sleep(10)
                told.looks.append((time.now(), counters(), pace.ceiling))

        guarded = pace(bounded(CALLERS)(retry(call)))
        time.spawn(lambda: counters.scrape_until(case.lasts), "scrapes")
        time.spawn(look_on, "looks")
        handle = steer(pace, counters, case.target) if steers else None
        items = takewhile(lambda _: time.now() < case.lasts, count())
        for _ in map_with_backpressure(guarded, items, workers=CALLERS, ordered=False):
            pass
        if handle is not None:
            handle.stop()
    return told


def row(case: Case, seeds: int) -> list[str]:
    steered = [run(case, seed) for seed in range(seeds)]
    free = run(case, steers=False)
    minutes = sorted(minute for told in steered for minute in told.minutes(case.target, SETTLES))
    tenth = len(minutes) // 10
    return [case.name, f"{case.target:g}", f"{case.window:g}", f"{free.share(case.target, SETTLES) * case.target:.2f}",
            f"{mean(told.share(case.target, SETTLES) for told in steered):.2f}",
            f"{minutes[tenth]:.2f} to {minutes[-1 - tenth]:.2f}",
            f"{free.rate(SETTLES):.1f}", f"{mean(told.rate(SETTLES) for told in steered):.1f}"]


HEAD = ["server", "target, s", "window, s", "mean unsteered, s", "mean steered, of the target",
        "its minutes, 10th to 90th in 100", "answers/s unsteered", "steered"]


def draw(cases: tuple[Case, ...], file: Path) -> None:
    """The measure and the ceiling of each case over time."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "steered"
    from matplotlib import pyplot

    figure, all_axes = pyplot.subplots(len(cases), 2, figsize=(11, 2.4 * len(cases)), layout="constrained",
                                       squeeze=False)
    for case, (left, right) in zip(cases, all_axes, strict=True):
        told, free = run(case), run(case, steers=False)
        for looks, colour, name in ((free.looks, "0.6", "unsteered"), (told.looks, "tab:blue", "steered")):
            left.plot([at for at, _, _ in looks], [value or math.nan for _, value, _ in looks], color=colour,
                      label=name)
        left.axhline(case.target, color="tab:red", linestyle=":", label="target")
        left.set(title=case.name, ylabel="mean, s", ylim=(0, 3 * case.target))
        right.plot([at for at, _, _ in told.looks], [ceiling or math.nan for _, _, ceiling in told.looks],
                   color="tab:blue")
        right.set(title="ceiling", ylabel="calls/s", ylim=(0, None))
        left.legend(fontsize="small")
    for axes in all_axes[-1]:
        axes.set_xlabel("seconds")
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the first seed's runs there (.svg or .png)")
    chosen = parser.parse_args()
    print(timing.table(HEAD, [row(case, chosen.seeds) for case in CASES], markdown=chosen.markdown))
    if chosen.picture is not None:
        draw(CASES, chosen.picture)


if __name__ == "__main__":
    main()
