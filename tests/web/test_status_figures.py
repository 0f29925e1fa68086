"""The figures of the status page: what is kept of the last minutes, told the time."""

from __future__ import annotations

import random
import sys
from typing import Any

import pytest

from llm_guard.events import AttemptEnded, AttemptStarted, CallRejected, RetryScheduled
from llm_guard.outcome import Kind
from llm_guard.web.status.curves import BINS, WIDTH, Curves
from llm_guard.web.status.latencies import SLICE, SLICES, Latencies
from llm_guard.web.status.record import Record


def test_percentiles_are_true_to_within_five_percent() -> None:
    chance, latencies = random.Random(1), Latencies()
    seconds = [chance.lognormvariate(0, 1.5) for _ in range(5000)]
    for value in seconds:
        latencies.add(0.0, value)
    seconds.sort()
    found = latencies.percentiles(0.0, (0.5, 0.9, 0.99))
    assert found == pytest.approx([seconds[2499], seconds[4499], seconds[4949]], rel=0.05)
    assert latencies.count(0.0) == 5000


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e9], ids=["none", "hardly any", "decades"])
def test_any_duration_has_a_bucket(seconds: float) -> None:
    latencies = Latencies()
    latencies.add(0.0, seconds)
    found = latencies.percentiles(0.0, (0.5,))
    assert found is not None
    assert found[0] >= 0


def test_what_is_older_than_five_minutes_is_forgotten() -> None:
    latencies = Latencies()
    assert latencies.percentiles(0.0, (0.5,)) is None
    latencies.add(0.0, 1.0)
    latencies.add(200.0, 8.0)
    assert latencies.count(299.0) == 2
    assert latencies.percentiles(SLICE * (SLICES + 1), (0.5,)) == pytest.approx([8.0], rel=0.05)
    assert latencies.percentiles(10_000.0, (0.5,)) is None


def test_latencies_take_bounded_memory() -> None:
    chance, latencies = random.Random(1), Latencies()
    for at in range(20_000):
        latencies.add(at / 10, chance.lognormvariate(0, 5))
    assert len(latencies._slices) == SLICES + 1
    assert sum(sys.getsizeof(counts) for _, counts in latencies._slices) < 150_000


def bins(told: dict[str, Any], name: str) -> dict[int, int]:
    return {told["first"] + at: value for at, value in enumerate(told[name]) if value}


def test_each_bin_has_what_happened_in_its_seconds() -> None:
    curves = Curves(0.0)
    for at, name in [(1.0, "answered"), (4.9, "answered"), (5.0, "refused"), (12.0, "answered")]:
        curves.advance(at, 0)
        curves.count(name)
    told: Any = curves.since(None)
    assert bins(told, "answered") == {0: 2, 2: 1}
    assert bins(told, "refused") == {1: 1}
    assert len(told["answered"]) == BINS


def test_the_ring_forgets_what_is_older_than_fifteen_minutes() -> None:
    curves = Curves(0.0)
    curves.count("answered")
    curves.advance(WIDTH * (BINS - 1), 0)
    assert bins(curves.since(None), "answered") == {0: 1}
    curves.advance(WIDTH * BINS, 0)
    assert bins(curves.since(None), "answered") == {}
    curves.count("answered")
    curves.advance(WIDTH * BINS * 1000, 0)
    assert bins(curves.since(None), "answered") == {}


def test_who_was_there_before_is_told_what_is_new() -> None:
    curves = Curves(0.0)
    for at in (1.0, 6.0, 11.0):
        curves.advance(at, 0)
        curves.count("answered")
    assert curves.since(1)["first"] == 1
    assert curves.since(1)["answered"] == [1, 1]
    assert curves.since(2)["answered"] == [1]
    for number in (3, -1000):  # of another process, or from too long ago
        assert curves.since(number)["first"] == 3 - BINS


def test_where_time_goes_backwards_the_newest_bin_counts() -> None:
    curves = Curves(100.0)
    curves.advance(50.0, 0)
    curves.count("answered")
    assert bins(curves.since(None), "answered") == {20: 1}


def test_a_rate_is_one_of_the_last_seconds() -> None:
    curves = Curves(0.0)
    for second in range(20):
        curves.advance(float(second), 0)
        curves.count("started")
        curves.count("started")
    assert curves.rate(20.0, "started") == pytest.approx(2.0)
    curves.advance(40.0, 0)
    assert curves.rate(40.0, "started") == 0.0


def record_of(*events: tuple[float, Any]) -> Record:
    """Of attempts that start (None), end as a kind after so many seconds, or are rejected by a policy."""
    record = Record(lambda: None)
    for at, what in events:
        if what is None:
            record.hear(AttemptStarted(at, "ask", attempt=1, waited=0.0))
        elif isinstance(what, str):
            record.hear(CallRejected(at, "ask", policy=what, retry_after=None))
        else:
            kind, seconds = what
            record.hear(AttemptEnded(at, "ask", attempt=1, kind=kind, seconds=seconds, hint=None))
    return record


def test_a_record_counts_how_attempts_end_and_what_is_in_flight() -> None:
    record = record_of((0.0, None), (0.5, None), (1.0, (Kind.SUCCESS, 1.0)), (1.5, None), (2.0, (Kind.LIMITED, 1.5)),
                       (3.0, "breaker"), (3.0, "breaker"), (3.0, "bounded"))
    record.hear(RetryScheduled(3.0, "ask", attempt=1, kind=Kind.LIMITED, wait=2.0))
    found = record.figures(4.0, None)
    assert found["in_flight"] == 1
    assert found["outcomes"] == {"success": 1, "limited": 1}
    assert found["rejected"] == {"breaker": 2, "bounded": 1}
    assert found["latency"]["answers"] == 1
    assert found["latency"]["p50"] == pytest.approx(1.0, rel=0.05)
    curves = found["curves"]
    assert [curves[name][-1] for name in ("started", "answered", "refused", "failed", "in_flight", "latency")] == [
        3, 1, 1, 0, 2, 1.0]


@pytest.mark.parametrize(("kind", "curve"), [(kind, "answered" if kind is Kind.SUCCESS else "failed" if kind in (
    Kind.FAILURE, Kind.TIMEOUT, Kind.INVALID, Kind.IGNORED) else "refused") for kind in Kind],
    ids=lambda value: getattr(value, "value", value))
def test_each_kind_has_its_curve(kind: Kind, curve: str) -> None:
    curves = record_of((0.0, None), (1.0, (kind, 1.0))).figures(1.0, None)["curves"]
    assert [name for name in ("answered", "refused", "failed") if curves[name][-1]] == [curve]


def test_what_stays_in_flight_is_in_flight_in_every_bin() -> None:
    record = record_of((0.0, None), (0.0, None))
    assert record.figures(21.0, None)["curves"]["in_flight"][-5:] == [2] * 5


def test_who_waits_is_sampled_and_the_most_is_shown() -> None:
    record = Record(lambda: None)
    assert not record.sample(1.0, 0)
    assert record.sample(2.0, 7)
    assert record.sample(3.0, 2)
    assert not record.sample(17.0, 0)
    assert record.figures(22.0, None)["curves"]["waiting"][-5:] == [7, 2, 2, 2, 0]  # the first bin is that of 2 s


def test_an_end_whose_start_was_not_heard_is_no_debt() -> None:
    record = record_of((0.0, (Kind.SUCCESS, 1.0)), (1.0, None))
    assert record.figures(1.0, None)["in_flight"] == 1


def test_a_record_begins_anew_where_it_is_told_to() -> None:
    record = record_of((0.0, None), (1.0, (Kind.SUCCESS, 1.0)), (1.0, None))
    record._lock.acquire()  # by a thread that the child of a fork does not have
    record.forget()
    found = record.figures(2.0, None)
    assert (found["in_flight"], found["outcomes"], found["latency"]) == (0, {}, None)
