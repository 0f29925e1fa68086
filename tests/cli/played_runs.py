"""Progress as it might come, for what shows it."""

from __future__ import annotations

from typing import Any

from llm_guard.cli.history import History
from llm_guard.mapping.progress import Percentiles, Progress, Standing
from llm_guard.outcome import Kind


def progress(elapsed: float = 83.0, **facts: Any) -> Progress:
    """420 of 1000 items, unless told otherwise."""
    usual: dict[str, Any] = {
        "wall": 1_000_000_000.0 + elapsed, "elapsed": elapsed, "total": 1000, "succeeded": 415, "failed": 5,
        "recorded": 100, "in_flight": 16, "waiting": 4, "attempts": 400, "retries": 12, "rate": 9.84, "eta": 61.0,
        "outcomes": {Kind.SUCCESS: 315, Kind.LIMITED: 40, Kind.OVERLOAD: 21, Kind.TIMEOUT: 8},
        "failures": {"invalid: HTTPError": 3, "CallTimeout": 2}, "latency": Percentiles(0.18, 1.2, 12.0),
        "standing": Standing("steady", "x", None)}
    return Progress(**{**usual, **facts})


def run(seconds: int = 60, every: float = 0.1, *, until: int | None = None) -> tuple[History, Progress]:
    """A run that is cold for 10 s, then does 10 items a second, holds from 30 to 40 s, and is over after `seconds`."""
    history = History()
    done = 0.0
    told = progress(0.0)
    for tick in range(1, round((until or seconds) / every) + 1):
        at = tick * every
        works = at > 10 and not 30 < at <= 40
        state = "cold" if at <= 10 else "steady" if works else "holding"
        done += 10 * every * works
        total = 10 * (seconds - 20)
        told = progress(at, succeeded=round(done), failed=0, recorded=0, in_flight=8 * works, rate=10.0 * works,
                        total=total, outcomes={Kind.SUCCESS: round(done), Kind.LIMITED: tick // 50},
                        standing=Standing(state, None, None if works else 3.2), over=at >= seconds,
                        eta=None if not works else (total - done) / 10)
        history(told)
    return history, told
