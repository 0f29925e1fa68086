"""The state beneath a mapping's progress: rates, percentiles, counts. No thread, no clock."""

from __future__ import annotations

import random
from typing import Any

import pytest

from llm_guard.mapping import progress_words as words
from llm_guard.mapping.progress import Progress, Standing
from llm_guard.mapping.progress_counts import OTHERS, REASONS, Counts
from llm_guard.mapping.progress_latency import Latencies
from llm_guard.mapping.progress_rate import Rate
from llm_guard.outcome import Kind


@pytest.mark.parametrize("a_second", [0.3, 4.0, 2000.0])
def test_a_constant_rate_is_told_from_the_first_second_on(a_second: float) -> None:
    rate = Rate(100.0)
    for tick in range(1, 600):
        rate.add(0, 100 + tick / 10 - 0.05)
        before = int((tick - 1) * a_second / 10)
        rate.add(int(tick * a_second / 10) - before, 100 + tick / 10)
        if tick > 10 and a_second > 10:
            assert rate.a_second() == pytest.approx(a_second, rel=0.02)
    assert rate.a_second() == pytest.approx(a_second, rel=0.35 if a_second < 1 else 0.05)


@pytest.mark.parametrize("seconds", [0.5, 2.0, 10.0, 60.0])
def test_the_rate_of_random_arrivals_is_unbiased_however_short_the_run(seconds: float) -> None:
    chance, found = random.Random(7), []
    for _ in range(2000):
        rate, now = Rate(0.0), 0.0
        while (now := now + chance.expovariate(3.0)) < seconds:
            rate.add(1, now)
        rate.add(0, seconds)
        found.append(rate.a_second())
    # The instants of the arrivals are ticks here, which shares each out over the gap before it: a small bias.
    assert sum(found) / len(found) == pytest.approx(3.0, rel=0.08)


def test_the_rate_follows_a_change_within_some_ten_seconds_and_fades_to_nothing() -> None:
    rate = Rate(0.0)
    for second in range(1, 31):
        rate.add(10, float(second))
    for second in range(31, 46):
        rate.add(40, float(second))
    assert rate.a_second() == pytest.approx(40, rel=0.05)
    rate.add(0, 105.0)
    assert rate.a_second() < 0.001


def test_counts_of_one_instant_are_not_lost() -> None:
    rate = Rate(0.0)
    rate.add(5, 0.0)
    assert rate.a_second() == 0
    rate.add(5, 1.0)
    assert rate.a_second() == pytest.approx(10)


@pytest.mark.parametrize("seed", range(3))
def test_percentiles_are_within_two_percent(seed: int) -> None:
    chance = random.Random(seed)
    values = sorted(chance.lognormvariate(0.0, 1.5) for _ in range(5000))
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    found = latencies.percentiles()
    assert found is not None
    for share, told in ((0.5, found.p50), (0.9, found.p90), (0.99, found.p99)):
        assert told == pytest.approx(values[round(share * 5000) - 1], rel=0.021)


def test_percentiles_of_nothing_of_one_and_of_no_time() -> None:
    latencies = Latencies()
    assert latencies.percentiles() is None
    latencies.add(0.0)
    found = latencies.percentiles()
    assert found is not None
    assert found.p50 == found.p99 < 1e-5


def test_items_and_attempts_are_counted_apart() -> None:
    counts = Counts(0.0, total=10)
    for _ in range(3):
        counts.took()
    counts.attempt_started(1)
    counts.attempt_started(1)
    counts.attempt_ended(Kind.LIMITED, 0.1)
    counts.attempt_started(2)
    counts.attempt_ended(Kind.SUCCESS, 2.0)
    counts.ended(None)
    counts.recalled()
    counts.recalled("ValueError")
    told = counts.at(4.0, 1000.0)
    assert (told.succeeded, told.failed, told.recorded, told.done) == (2, 1, 2, 3)
    assert (told.in_flight, told.waiting) == (1, 1)
    assert (told.attempts, told.retries) == (3, 1)
    assert told.outcomes == {Kind.LIMITED: 1, Kind.SUCCESS: 1}
    assert told.failures == {"ValueError": 1}
    assert told.latency is not None
    assert told.latency.p50 == pytest.approx(2.0, rel=0.02)


def test_where_nothing_is_guarded_items_are_attempts() -> None:
    counts = Counts(0.0)
    counts.took()
    counts.took()
    counts.unguarded(False, 1.0)
    counts.ended("ValueError")
    told = counts.at(1.0, 0.0)
    assert (told.in_flight, told.waiting, told.attempts, told.outcomes) == (1, None, 1, {Kind.FAILURE: 1})


def test_what_the_journal_gave_is_not_in_the_rate_and_hastens_no_end() -> None:
    counts = Counts(0.0, total=1100)
    for _ in range(1000):
        counts.recalled()
    told = counts.at(1.0, 1.0)
    assert (told.rate, told.eta) == (0, None)
    for second in range(2, 52):
        counts.took()
        counts.ended(None)
        told = counts.at(float(second), float(second))
    assert told.rate == pytest.approx(1.0, rel=0.05)
    assert told.eta == pytest.approx(50, rel=0.1)


def test_the_time_in_which_a_model_loads_is_not_taken_to_come_back() -> None:
    counts = Counts(0.0, total=1000)
    counts.at(300.0, 0.0)
    for tick in range(1, 101):
        counts.took()
        counts.ended(None)
        told = counts.at(300 + tick / 10, 0.0)
    assert told.eta == pytest.approx(90, rel=0.1)


def test_a_pause_is_added_to_the_rest_and_an_exhausted_quota_has_no_end() -> None:
    counts = Counts(0.0, total=20)
    for second in range(1, 11):
        counts.took()
        counts.ended(None)
        told = counts.at(float(second), 500.0 + second)
    assert told.eta is not None
    paused = counts.at(10.0, 510.0, Standing("paused", paused_until=570.0))
    assert paused.eta == pytest.approx(60 + told.eta)
    assert counts.at(10.0, 510.0, Standing("exhausted")).eta is None
    assert counts.at(10.0, 510.0, over=True).eta is None


def test_reasons_do_not_grow_without_end() -> None:
    counts = Counts(0.0)
    for number in range(3 * REASONS):
        counts.recalled(f"Error{number}")
    failures = counts.at(1.0, 0.0).failures
    assert len(failures) == REASONS + 1
    assert failures[OTHERS] == 2 * REASONS


def told(**facts: Any) -> Progress:
    usual = {"wall": 0.0, "elapsed": 83.0, "total": 1000, "succeeded": 415, "failed": 5, "recorded": 100,
             "in_flight": 16, "waiting": 4, "attempts": 400, "retries": 12, "rate": 9.84, "eta": 61.0,
             "standing": Standing("holding", None, 3.2)}
    return Progress(**{**usual, **facts})


@pytest.mark.parametrize(("facts", "line"), [
    ({}, "420 of 1000 (42%) done; 9.8/s; 100 from the journal; 5 failed; 16 in flight; 12 retries; "
         "holding, next probe in 4 s; about 1:01 left"),
    ({"total": None, "eta": None, "recorded": 0, "failed": 0, "retries": 1, "standing": Standing("steady")},
     "415 done, 9.8/s, 16 in flight, 1 retry, steady"),
    ({"over": True, "eta": None}, "420 of 1000 (42%) done, 1:23, 100 from the journal, 5 failed, 12 retries"),
], ids=["all", "endless", "over"])
def test_a_line_tells_all_that_there_is(facts: dict[str, Any], line: str) -> None:
    assert words.line(told(**facts)) == line


@pytest.mark.parametrize(("standing", "said"), [
    (None, ""), (Standing("steady"), "steady"), (Standing("cold", None, 11.2), "cold, next probe in 12 s"),
    (Standing("cold", None, 0.0), "cold, probing"), (Standing("holding", None, 150.0), "holding, next probe in 2:30"),
    (Standing("exhausted", None, 60.0), "quota exhausted, next probe in 60 s"),
    (Standing("open", None, 2.5), "circuit open, next probe in 3 s"), (Standing("mixed"), "in several states"),
], ids=lambda value: value if isinstance(value, str) else getattr(value, "state", "none"))
def test_states_in_words(standing: Standing | None, said: str) -> None:
    assert words.state(standing) == said


def test_a_pause_says_until_when_in_local_time() -> None:
    said = words.state(Standing("paused", None, None, 1_000_000_000.0))
    assert said.startswith("paused until ")
    assert said[-5:] == "46:40"  # wherever the test runs; time zones differ by whole quarters of an hour


@pytest.mark.parametrize(("seconds", "said"), [(0, "0:00"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")])
def test_durations(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


def test_only_all_is_a_hundred_percent() -> None:
    assert words.percent(9999 / 10000) == "99%"
    assert words.counts(told(total=0, succeeded=0, failed=0)) == "0 of 0 (100%)"
    assert words.percent(0.29) == "29%"


@pytest.mark.parametrize(("a_second", "said"), [(0.0, "0/s"), (0.05, "3.0/min"), (0.002, "0.12/min"),
                                                (0.47, "0.47/s"), (9.84, "9.8/s"), (1234.5, "1234/s")])
def test_rates(a_second: float, said: str) -> None:
    assert words.rate(a_second) == said
