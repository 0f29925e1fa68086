"""Stands between the clients and the server of a run, and writes down what passes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from llm_guard import call, clock
from llm_guard.call import CutOff
from llm_guard.clock.virtual import ClockClosed, VirtualClock
from llm_guard.errors import ConfigError
from llm_guard.policies.ramp_up import RampUp
from llm_guard.runtime.policy import Policy
from llm_guard.runtime.reading import BUGS
from llm_guard.state.pace_story import OPEN
from llm_guard.testing.simulation.client import Call, ServerCall
from llm_guard.testing.simulation.run import Item, NoAnswer, Sample
from llm_guard.testing.virtual_server import VirtualServer, answer_to

#: Seconds without a call after which the paces are no longer looked at.
LULL = 10_000.0


class Watch:
    """The items of a run, and what became of them. `most_calls`: with more the run is given up."""

    def __init__(self, server: VirtualServer, count: int, clients: int) -> None:
        self.server = server
        self.items = [Item(client=index % clients) for index in range(count)]
        self.called_at: list[float] = []
        self.samples: list[Sample] = []
        self.most_calls = math.inf
        self._clients = clients
        self._answers = {answer_to(index) for index in range(count)}
        self._given_up: list[CutOff | None] = [None] * count  # with the batch that the item is of

    def call_of(self, client: int) -> ServerCall:
        """The call to the server as one of the clients makes it: the policies name their lines after it."""
        def server_call(item: object, /, timeout: float | None = None) -> str:
            return self._call(item, timeout)

        server_call.__name__ = server_call.__qualname__ = "client" if self._clients == 1 else f"client {client}"
        return server_call

    def _call(self, item: object, timeout: float | None) -> str:
        if not isinstance(item, int) or not 0 <= item < len(self.items):
            raise TypeError("the client called the server with something else than the item that it was given")
        batch = self._given_up[item]
        if batch is not None and batch.is_cut:
            raise ClockClosed  # an interrupt, or a bug elsewhere: which no loop of "try again, whatever it is" holds up
        time = clock.current()
        now = self.items[item].called = time.now()
        self.items[item].calls += 1
        self.called_at.append(now)
        if len(self.called_at) > self.most_calls and isinstance(time, VirtualClock):
            time.give_up(f"after {len(self.called_at)} calls, {len(self.called_at) / len(self.items):.0f} an item, "
                         "not all is answered or given up")
        return self.server.call(item, timeout)

    def work(self, ask: Call, index: int) -> None:
        """Has one item answered by a client, and writes down what came of it. A bug of the client's is raised."""
        item = self.items[index]
        above = call.in_progress()
        self._given_up[index] = None if above is None else above.cut_off
        now = clock.current().now
        item.offered = now()
        try:
            answer: object = ask(index)
        except (*BUGS, ConfigError) as bug:
            bug.add_note(f"llm_guard: the client itself raised this, for item {index} of the simulation")
            raise
        except Exception as error:
            item.error = type(error)
        else:
            if answer == answer_to(index):
                item.answer = str(answer)
            elif isinstance(answer, str) and answer in self._answers:
                raise AssertionError(f"item {index} got the answer of another: {answer!r}")
            else:
                item.error = NoAnswer
        item.ended = now()

    def sample(self, policies: Sequence[Policy], every: float) -> None:
        """Looks at the paces as long as the clock runs."""
        pacing = [policy for policy in policies if isinstance(policy, RampUp)]
        time = clock.current()
        seen, seen_at = 0, 0.0
        while pacing:
            if len(self.called_at) > seen:
                seen, seen_at = len(self.called_at), time.now()
            if time.now() - seen_at > LULL:
                return  # else a deadlock of the clients would go on for ever
            paces = [policy.statistics().pace for policy in pacing]
            rates = [pace.rate for pace in paces if pace.rate is not None]
            self.samples.append(Sample(time.now(), sum(pace.window for pace in paces),
                                       sum(rates) if len(rates) == len(paces) else None,
                                       all(pace.gate_in > 0 or pace.state not in OPEN for pace in paces)))
            time.sleep(every)
