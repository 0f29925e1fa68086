"""Something is done after what happens, and not too often."""

from __future__ import annotations

from llm_guard.clock.virtual import VirtualClock
from llm_guard.telemetry.refresh import EVERY, Refresh


def test_it_is_done_at_once_then_now_and_then_and_once_more_at_the_end() -> None:
    done: list[float] = []
    with VirtualClock() as time:
        refresh = Refresh(lambda: done.append(time.now()))
        for _ in range(50):
            refresh.due(time.now())
            time.sleep(EVERY / 10)
        assert done == [0.0, *(done[0] + EVERY * number for number in range(1, 5))]
        time.sleep(EVERY)
        assert len(done) == 6  # what happened after the fifth time
        time.sleep(10 * EVERY)
        assert len(done) == 6


def test_it_is_done_at_once_after_a_rest() -> None:
    done: list[float] = []
    with VirtualClock() as time:
        refresh = Refresh(lambda: done.append(time.now()))
        for _ in range(3):
            refresh.due(time.now())
            time.sleep(5)
    assert done == [0.0, 5.0, 10.0]
