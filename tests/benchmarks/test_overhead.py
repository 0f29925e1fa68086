from __future__ import annotations

import overhead
import pytest
import timing


def test_how_many_calls_take_so_long_is_not_judged_by_a_slow_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 0.0

    def call(prompt: str) -> str:
        nonlocal seconds
        seconds += 0.001 if seconds else 10.0
        return prompt

    monkeypatch.setattr(timing, "process_time", lambda: seconds)
    monkeypatch.setattr(timing, "perf_counter", lambda: seconds)
    assert overhead.calls_in(1.0, call) == 1000
