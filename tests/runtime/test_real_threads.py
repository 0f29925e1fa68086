"""The same promises on real threads, which may switch anywhere."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from scripted import Ended, call_all, read

from llm_guard import CallTimeout, bounded, breaker, map_with_backpressure, ramp_up, retry, timeout
from llm_guard.outcome import Kind

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def _switches_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Flaky:
    def __init__(self) -> None:
        self._random = Random(1)
        self._lock = threading.Lock()
        self.running = self.peak = 0

    def __call__(self, item: int) -> int:
        with self._lock:
            self.running += 1
            self.peak = max(self.peak, self.running)
            chance = self._random.random()
        time.sleep(0.06 if chance < 0.04 else 0.001)
        with self._lock:
            self.running -= 1
        if chance > 0.9:
            raise Ended(Kind.FAILURE)
        return item


@pytest.mark.parametrize("timed_above", [True, False], ids=["timeout above retry", "timeout below retry"])
def test_under_load_no_permit_is_lost_and_no_limit_passed(timed_above: bool) -> None:
    server, limit, pace, bound, votes = Flaky(), bounded(8), ramp_up(), timeout(0.03), breaker(failure_rate=1)
    again = retry(attempts=20, wait=0.001, classify=read)
    ask = votes(lambda item: server(item))
    ask = bound(again(ask)) if timed_above else again(bound(ask))
    ask = limit(pace(ask))
    results = call_all(ask, range(400), threads=24)
    assert [result.index for result in results] == list(range(400))
    if not timed_above:
        assert Counter(type(result.error) for result in results) == {type(None): 400}
    assert any(isinstance(result.error, CallTimeout) for result in results) == timed_above
    assert 4 < server.peak <= 8
    until = time.monotonic() + 5
    while (bound.statistics().still_running or limit.statistics().in_flight) and time.monotonic() < until:
        time.sleep(0.01)
    assert limit.statistics().in_flight == limit.statistics().waiting == 0
    assert bound.statistics().still_running == pace.statistics().pace.in_flight == 0


def test_an_interrupt_in_the_consumer_ends_the_mapping_and_keeps_no_permit() -> None:
    limit, pace = bounded(2), ramp_up()
    ask = limit(pace(retry(lambda item: time.sleep(0.005))))

    def consume() -> None:
        with map_with_backpressure(ask, range(1000), workers=8) as mapping:
            for seen, _ in enumerate(mapping):
                if seen == 5:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert limit.statistics().in_flight == limit.statistics().waiting == pace.statistics().pace.in_flight == 0
