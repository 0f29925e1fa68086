"""A workload through the real decorators, threads and mapping, against a simulated server, in virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from llm_guard import checks, clock
from llm_guard.clock.virtual import VirtualClock
from llm_guard.mapping.mapping import map_with_backpressure
from llm_guard.policies.ramp_up import RampUp
from llm_guard.runtime.stack import Stack
from llm_guard.state.pace_story import OPEN
from llm_guard.testing.server import Scenario, best_answers, best_time
from llm_guard.testing.server import scenario as scenario_named
from llm_guard.testing.simulation.client import Call, Client, Setting, Strategy, recommended, wrap
from llm_guard.testing.simulation.run import Item, Run, Sample
from llm_guard.testing.simulation.workload import Arrivals, arrivals
from llm_guard.testing.virtual_server import VirtualServer, answer_to


def simulate(scenario: str | Scenario, strategy: Strategy = recommended, *, workload: str | Arrivals = "batch",
             seed: int = 0, items: int | None = None, threads: int = 64, noise: float | None = None, clients: int = 1,
             apart: float = 0.0, sample_every: float | None = None, shuffle: bool = False, speed: float = 1.0) -> Run:
    """One run. The same arguments give the same run, to the last digit.

    `strategy` makes a client; it is asked once for each of the `clients`, which begin `apart` seconds one after another
    and share the items of a batch evenly, each on `threads` threads. `workload`: "batch", "ramp", "spike" or `Arrivals`
    (of which each request goes to the clients in turn). `noise`: the share of calls that end in a 500, in place of the
    scenario's. `sample_every`: seconds between two looks at the paces (None: none). `shuffle`: threads that could run
    at the same instant do so in an order drawn from the seed. `speed`: how many times as fast the server is, and so
    the traffic of a named workload.
    """
    server_kind = scenario if isinstance(scenario, Scenario) else scenario_named(scenario)
    if noise is not None:
        server_kind = replace(server_kind, noise=checks.number("noise", noise, least=0, most=1))
    checks.whole("clients", clients, least=1)
    checks.whole("threads", threads, least=1)
    checks.number("apart", apart, least=0, unit="seconds")
    checks.optional_number("sample_every", sample_every, above=0, unit="seconds")
    if items is not None:
        checks.whole("items", items, least=1)
    requests = arrivals(workload, server_kind, seed, speed)
    count = len(requests.instants) if requests else items if items is not None else server_kind.items
    setting = Setting(server_kind, threads, requests.deadline if requests else None, speed)
    with VirtualClock(seed, shuffle=shuffle) as time:
        watch = _Watch(VirtualServer(server_kind, seed, speed=speed), count, clients)
        made = [strategy(setting) for _ in range(clients)]
        calls = [wrap(client, watch.call, setting) for client in made]
        if sample_every is not None:
            time.spawn(lambda: watch.sample(made, sample_every), "samples")
        if requests is None:
            _run_batch(watch, calls, threads, apart)
        else:
            _run_online(watch, calls, requests)
        seconds = time.now()
        seen = watch.server.stats()
    if requests is None:
        best = best_time(server_kind, seed, count, threads * clients) / speed
    else:
        deadline = math.inf if requests.deadline is None else requests.deadline
        best = best_answers(server_kind, seed, [at * speed for at in requests.instants], deadline * speed)
    name = workload if isinstance(workload, str) else "arrivals"
    return Run(server_kind, name, seed, setting.deadline, best, seconds, tuple(watch.items), tuple(watch.called_at),
               seen, tuple(watch.samples))


#: Seconds without a call after which the paces are no longer looked at.
LULL = 10_000.0


class _Watch:
    """Stands between the clients and the server, and writes down what passes."""

    def __init__(self, server: VirtualServer, count: int, clients: int) -> None:
        self.server = server
        self.items = [Item(client=index % clients) for index in range(count)]
        self.called_at: list[float] = []
        self.samples: list[Sample] = []

    def call(self, item: object, /, timeout: float | None = None) -> str:
        now = clock.current().now()
        assert isinstance(item, int)
        self.items[item].called = now
        self.items[item].calls += 1
        self.called_at.append(now)
        return self.server.call(item, timeout)

    def work(self, call: Call, index: int) -> None:
        """Has one item answered by a client, and writes down what came of it."""
        item = self.items[index]
        now = clock.current().now
        item.offered = now()
        try:
            answer = call(index)
            assert answer == answer_to(index), "an item got the answer of another"
            item.answer = answer
        except Exception as error:
            if isinstance(error, AssertionError):
                raise
            item.error = type(error)
        item.ended = now()

    def sample(self, clients: list[Client], every: float) -> None:
        """Looks at the paces as long as the clock runs."""
        policies = [policy for client in clients if isinstance(client, Stack)
                    for policy in client.policies if isinstance(policy, RampUp)]
        time = clock.current()
        seen, seen_at = 0, 0.0
        while policies:
            if len(self.called_at) > seen:
                seen, seen_at = len(self.called_at), time.now()
            if time.now() - seen_at > LULL:
                return  # else a deadlock of the clients would go on for ever
            paces = [policy.statistics().pace for policy in policies]
            rates = [pace.rate for pace in paces if pace.rate is not None]
            self.samples.append(Sample(time.now(), sum(pace.window for pace in paces),
                                       sum(rates) if len(rates) == len(paces) else None,
                                       all(pace.gate_in > 0 or pace.state not in OPEN for pace in paces)))
            time.sleep(every)


def _run_batch(watch: _Watch, calls: list[Call], threads: int, apart: float) -> None:
    def batch(client: int, call: Call) -> Callable[[], None]:
        def run() -> None:
            clock.current().sleep(client * apart)
            own = [index for index, item in enumerate(watch.items) if item.client == client]
            for _ in map_with_backpressure(lambda index: watch.work(call, index), own, workers=threads, ordered=False):
                pass

        return run

    _run_all([batch(client, call) for client, call in enumerate(calls)])


def _run_online(watch: _Watch, calls: list[Call], requests: Arrivals) -> None:
    time = clock.current()
    all_ended = time.waiter()
    left = len(watch.items)
    wrong: list[BaseException] = []

    def request(index: int) -> Callable[[], None]:
        def run() -> None:
            nonlocal left
            try:
                watch.work(calls[watch.items[index].client], index)
            except AssertionError as error:
                wrong.append(error)
            left -= 1
            if not left:
                all_ended.set()

        return run

    for index, at in enumerate(requests.instants):
        time.sleep(at - time.now())
        time.spawn(request(index), "request")
    if watch.items:
        all_ended.wait()
    if wrong:
        raise wrong[0]


def _run_all(jobs: list[Callable[[], None]]) -> None:
    """Runs them at once, and returns when all have ended."""
    if len(jobs) == 1:
        return jobs[0]()
    for _ in map_with_backpressure(lambda job: job(), jobs, workers=len(jobs)):
        pass
    return None
