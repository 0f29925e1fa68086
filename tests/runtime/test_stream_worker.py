"""The worker behind a stream that is bounded in time, where even the thread that gives it up is interrupted."""

from __future__ import annotations

from collections.abc import Iterator

from scripted import Task

from llm_guard.call import Call, CutOff
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import SUCCESS
from llm_guard.runtime.attempt import Abandonment
from llm_guard.runtime.items import Items
from llm_guard.runtime.stream_worker import OnWorker
from llm_guard.state.stream_time import UNLIMITED


def test_a_stream_that_is_over_while_an_item_is_made_leaves_no_worker_behind() -> None:
    ends: list[float] = []

    def words() -> Iterator[str]:
        try:
            yield "a"
            time.sleep(5)
            yield "b"
        finally:
            ends.append(time.now())

    with VirtualClock() as time:
        items, mine = Items(words, lambda value: SUCCESS), Call(cut_off=CutOff())
        source = OnWorker(items, mine, Abandonment(CutOff(), (), ()), time)
        assert source.ask(items.first, UNLIMITED) == "a"
        asks = Task(lambda: source.ask(items.next, UNLIMITED))
        source.over()
        source.over()
        assert asks.wait() == "b"
        time.sleep(0)
        assert (ends, mine.active) == ([5.0], False)
