"""A workload through the real decorators, threads and mapping, against a simulated server, in virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from llm_guard import checks, clock
from llm_guard.clock.virtual import ClockClosed, VirtualClock
from llm_guard.errors import ConfigError
from llm_guard.mapping.mapping import map_with_backpressure
from llm_guard.testing.server import Scenario, best_answers, best_time
from llm_guard.testing.server import scenario as scenario_named
from llm_guard.testing.simulation.client import Call, Client, Setting, Strategy, check_client, connect, recommended
from llm_guard.testing.simulation.plain_time import plain_time
from llm_guard.testing.simulation.run import Run
from llm_guard.testing.simulation.story import overheard
from llm_guard.testing.simulation.watch import Watch
from llm_guard.testing.simulation.workload import Arrivals, arrivals
from llm_guard.testing.virtual_server import VirtualServer

THREADS = 64
#: Seconds that a run may take beyond a hundred times the best one, and calls beyond some hundreds an item: a client
#: that is not through then never will be.
ENDLESS_SECONDS, ENDLESS_CALLS = 100_000.0, 100_000


def simulate(scenario: str | Scenario, client: Client | Strategy = recommended, *, workload: str | Arrivals = "batch",
             seed: int = 0, items: int | None = None, threads: int | None = None, noise: float | None = None,
             clients: int = 1, apart: float = 0.0, sample_every: float | None = None, shuffle: bool = False,
             speed: float = 1.0, until: float | None = None) -> Run:
    """One run. The same arguments give the same run, to the last digit.

    `client`: a stack, a decorator of your own, or a `Strategy`, which is told what it is to call. Each of the `clients`
    has a state of its own: a copy of the stack as new, or what the decorator or the strategy makes anew for it. They
    begin `apart` seconds one after another and share the items of a batch evenly, each on `threads` threads (64).
    `workload`: "batch", "ramp", "spike" or `Arrivals` (of which each request goes to the clients in turn). `noise`: the
    share of calls that end in a 500, below 1, in place of the scenario's. `sample_every`: seconds between two looks at
    the paces (None: none). `shuffle`: threads that could run at the same instant do so in an order drawn from the seed.
    `speed`: how many times as fast the server is, and so the traffic of a named workload.

    A client waits by `clock.current().sleep` or `time.sleep`; one whose threads block one another otherwise, by a
    semaphore, say, is `Stalled`. A bug of its own (a TypeError, say) is raised at once; other errors are counted
    (`Run.unanswered`). `until`: seconds after which a client that is not through is given up, as `TimeUp` (None:
    100,000 and a hundred times the best). ConfigError for what cannot work, also for a server of which nobody could get
    an answer.
    """
    kind = scenario if isinstance(scenario, Scenario) else scenario_named(scenario)
    if noise is not None:
        kind = replace(kind, noise=noise)
    check_client(client)
    checks.whole("seed", seed, least=0)
    checks.number("speed", speed, above=0)
    checks.optional_number("sample_every", sample_every, least=0.001, unit="seconds")
    checks.optional_number("until", until, above=0, unit="seconds")
    requests = arrivals(workload, kind, seed, speed)
    count = _count(kind, requests, items, threads, clients, apart)
    at_once = THREADS if threads is None else threads
    setting = Setting(kind, at_once, requests.deadline if requests else None, speed)
    with VirtualClock(seed, shuffle=shuffle) as time, plain_time(time), overheard(time) as story:
        watch = Watch(VirtualServer(kind, seed, speed=speed), count, clients)
        connected = [connect(client, watch.call_of(number), setting) for number in range(clients)]
        best = _best(kind, seed, requests, count, at_once * clients, speed)
        watch.most_calls = ENDLESS_CALLS + 300 * count
        last = (clients - 1) * apart if requests is None else requests.instants[-1]
        time.until = until or last + ENDLESS_SECONDS + (100 * best if requests is None else 0.0)
        if sample_every is not None:
            policies = [policy for _, policies in connected for policy in policies]
            time.spawn(lambda: watch.sample(policies, sample_every), "samples")
        calls = [call for call, _ in connected]
        if requests is None:
            _run_batch(watch, calls, at_once, apart)
        else:
            _run_online(watch, calls, requests)
        seconds = time.now()
        seen = watch.server.stats()
    name = workload if isinstance(workload, str) else "arrivals"
    return Run(kind, name, seed, setting.deadline, best, seconds, tuple(watch.items), tuple(watch.called_at), seen,
               tuple(watch.samples), tuple(story))


def _count(kind: Scenario, requests: Arrivals | None, items: int | None, threads: int | None, clients: int,
           apart: float) -> int:
    """How many items there are."""
    checks.whole("clients", clients, least=1)
    checks.number("apart", apart, least=0, unit="seconds")
    if requests is not None:
        for name, value in (("items", items), ("threads", threads), ("apart", apart or None)):
            if value is not None:
                raise ConfigError(name, value, "only for a batch: online traffic says itself when requests come, and "
                                               "has a thread for each")
        return len(requests.instants)
    if apart and clients == 1:
        raise ConfigError("apart", apart, "only with several clients")
    if threads is not None:
        checks.whole("threads", threads, least=1)
    count = kind.items if items is None else checks.whole("items", items, least=1)
    if clients > count:
        raise ConfigError("clients", clients, f"at most as many as there are items, {count}")
    return count


def _best(kind: Scenario, seed: int, requests: Arrivals | None, count: int, threads: int, speed: float) -> float:
    if requests is None:
        return best_time(kind, seed, count, threads) / speed
    deadline = math.inf if requests.deadline is None else requests.deadline
    return best_answers(kind, seed, [at * speed for at in requests.instants], deadline * speed)


def _run_batch(watch: Watch, calls: list[Call], threads: int, apart: float) -> None:
    def batch(client: int, call: Call) -> Callable[[], None]:
        def run() -> None:
            clock.current().sleep(client * apart)
            own = [index for index, item in enumerate(watch.items) if item.client == client]
            for _ in map_with_backpressure(lambda index: watch.work(call, index), own, workers=threads, ordered=False):
                pass

        return run

    _run_all([batch(client, call) for client, call in enumerate(calls)])


def _run_online(watch: Watch, calls: list[Call], requests: Arrivals) -> None:
    time = clock.current()
    over = time.waiter()
    left = len(watch.items)
    wrong: list[BaseException] = []

    def request(index: int) -> Callable[[], None]:
        def run() -> None:
            nonlocal left
            try:
                watch.work(calls[watch.items[index].client], index)
            except ClockClosed:
                raise
            except BaseException as error:  # a bug of the client's, or an exit: the first one ends the run
                wrong.append(error)
                over.set()
            left -= 1
            if not left:
                over.set()

        return run

    for index, at in enumerate(requests.instants):
        time.sleep(at - time.now())
        if wrong:
            break
        time.spawn(request(index), "request")
    over.wait()
    if wrong:
        raise wrong[0]


def _run_all(jobs: list[Callable[[], None]]) -> None:
    """Runs them at once, and returns when all have ended; raises the first error."""
    if len(jobs) == 1:
        return jobs[0]()
    for _ in map_with_backpressure(lambda job: job(), jobs, workers=len(jobs), ordered=False):
        pass
    return None
