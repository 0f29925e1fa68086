"""The yardstick: what a sender would reach that knows at every moment whether the server would serve one more.

It looks every 20 ms (after 200 s without an answer: each 10,000th of that time) and whenever something ends. Nobody
can do so in earnest; a strategy's time is told as a multiple of this sender's. What a used-up quota leaves over is
dropped: its batch ends with the last call that was accepted. A server of which not even this sender gets an answer is
a ConfigError.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence

from llm_guard.errors import ConfigError
from llm_guard.testing.server.model import REFUSAL_SECONDS, ServerModel
from llm_guard.testing.server.scenarios import server_random
from llm_guard.testing.server.settings import Scenario

_LOOK = 0.02
_LOOKS = 10_000
# Without an answer after so many calls or seconds of asking there will be none.
_MOST_CALLS = 2_000
_MOST_SECONDS = 200_000.0  # more than two days: a quota may come back each day


def best_time(scenario: Scenario, seed: int, items: int | None = None, threads: int = 64) -> float:
    """Seconds in which the batch is answered, as far as a quota allows, with at most `threads` in flight."""
    count = scenario.items if items is None else items
    return _Sender(ServerModel(scenario, server_random(seed)), threads).send([(0.0, math.inf)] * count)[1]


def best_answers(scenario: Scenario, seed: int, arrivals: Sequence[float], deadline: float = 30.0) -> int:
    """How many requests, arriving at these instants, are answered within `deadline` seconds of their arrival."""
    sender = _Sender(ServerModel(scenario, server_random(seed)), threads=None)
    return sender.send([(at, at + deadline) for at in arrivals])[0]


#: When a request arrives, and until when its answer is of use.
_Request = tuple[float, float]


class _Sender:
    def __init__(self, model: ServerModel, threads: int | None) -> None:
        self._model = model
        self._threads = math.inf if threads is None else threads
        self._todo: deque[_Request] = deque()
        self._flying: dict[int, _Request] = {}
        self._given_up: list[tuple[float, int]] = []  # a heap: when the client's patience ends, call
        self._needs = min(8.0, 2.5 * model.scenario.mean_service)  # with less time left a call is not worth making
        self._sent = 0
        self._answered = 0
        self._sent_in_vain = 0  # since the last answer
        self._waits_since = 0.0  # the last answer, or the first request after a time without any

    def send(self, requests: Sequence[_Request]) -> tuple[int, float]:
        """Sends all; how many were answered in time, and when it was over."""
        coming = deque(requests)
        now = 0.0
        while True:
            while coming and coming[0][0] <= now:
                self._todo.append(coming.popleft())
            self._end(now)
            self._start(now)
            if not (coming or self._todo or self._flying):
                return self._answered, now
            if not (self._todo or self._flying):
                self._waits_since = coming[0][0]
            elif self._sent_in_vain > _MOST_CALLS or now - self._waits_since > _MOST_SECONDS:
                scenario = self._model.scenario
                raise ConfigError("scenario", scenario.name, "a server that answers: of this one not even a sender "
                                  f"that knows its state got an answer in {now - self._waits_since:.0f} s and "
                                  f"{self._sent_in_vain} calls. See to its noise, its timeout and its limits")
            now = self._next(now, coming[0][0] if coming else math.inf)

    def _end(self, now: float) -> None:
        for call, ok, at, _ in self._model.advance(now):
            request = self._flying.pop(call, None)
            if request is not None and ok:
                self._answered += at <= request[1]
                self._sent_in_vain, self._waits_since = 0, now
            elif request is not None:
                self._todo.appendleft(request)
        while self._given_up and self._given_up[0][0] <= now:
            request = self._flying.pop(heapq.heappop(self._given_up)[1], None)
            if request is not None:
                self._todo.appendleft(request)

    def _start(self, now: float) -> None:
        if self._model.is_used_up():
            self._todo.clear()
        while self._todo and self._todo[0][1] < now + self._needs:
            self._todo.popleft()
        while self._todo and len(self._flying) < self._threads:
            wakes = self._model.is_cold(now)
            if not wakes and not self._model.would_serve(now):
                break
            self._sent += 1
            self._sent_in_vain += 1
            patience = now + self._model.scenario.timeout
            if self._model.arrive(now, self._sent) is not None:
                patience = now + REFUSAL_SECONDS
            self._flying[self._sent] = self._todo.popleft()
            heapq.heappush(self._given_up, (patience, self._sent))

    def _next(self, now: float, arrival: float) -> float:
        at = min(arrival, self._model.next_event() or math.inf, self._given_up[0][0] if self._given_up else math.inf)
        if self._todo and len(self._flying) < self._threads:
            at = min(at, now + max(_LOOK, (now - self._waits_since) / _LOOKS))
        return at
