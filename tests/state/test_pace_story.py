"""The story of a pace: its state in one word, since when and why, and the lines that are due."""

from __future__ import annotations

import logging
import math
from random import Random

import pytest

from llm_guard.outcome import FAILURE, SUCCESS, TIMEOUT, Kind, Outcome
from llm_guard.state.pace import FAILURES_TO_CLOSE, Pace, Start
from llm_guard.state.pace_snapshot import PaceSnapshot, together
from llm_guard.state.pace_story import ENOUGH, SETTLED
from llm_guard.state.pace_words import coming, number, seconds

LIMITED, OVERLOAD = Outcome(Kind.LIMITED), Outcome(Kind.OVERLOAD)


class Middle(Random):
    """Chance that always draws the middle."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


class Caller:
    """One call after the other, half a second each, and what is told after each."""

    def __init__(self, now: float = 100.0, **options: float | None) -> None:
        self.pace = Pace(Middle(), **options)  # type: ignore[arg-type]
        self.now = now
        self.lines: list[tuple[int, str]] = []

    def start(self) -> Start:
        while (at := self.pace.ready_at(self.now)) > self.now:
            assert at < math.inf
            self.now = at
        return self.pace.start(self.now)

    def end(self, call: Start, outcome: Outcome) -> None:
        self.pace.end(call, self.now, outcome, self.now - call.started)
        news = self.pace.story.news(self.now)
        if news is not None:
            self.lines.append(news)

    def call(self, *outcomes: Outcome, takes: float = 0.5) -> None:
        for outcome in outcomes:
            self.now += 1e-6  # a call that starts in the very instant of a refusal does not vote
            call = self.start()
            self.now += takes
            self.end(call, outcome)

    def refused(self, hint: float | None, kind: Kind = Kind.LIMITED) -> None:
        """Refusals until the gate is shut, the last with this hint."""
        self.call(Outcome(kind), Outcome(kind, hint))

    def seen(self) -> PaceSnapshot:
        return self.pace.snapshot(self.now)

    def told(self) -> list[str]:
        said, self.lines = [line for _, line in self.lines], []
        return said


# The states.

def test_it_is_cold_since_the_first_call_until_one_succeeds() -> None:
    caller = Caller()
    seen = caller.seen()
    assert (seen.state, seen.why, seen.since) == ("cold", "no call has been answered yet", 0.0)
    caller.call(FAILURE, FAILURE, takes=2.0)
    assert (caller.seen().state, caller.seen().since) == ("cold", pytest.approx(4.0))
    caller.call(SUCCESS)
    seen = caller.seen()
    assert (seen.state, seen.why, seen.since) == ("ramping", "first answer after 4.5 s", 0.0)
    assert caller.told() == ["first answer after 4.5 s, ramping from 4 calls in flight"]


def test_it_is_cold_while_the_model_loads_and_says_so_once() -> None:
    caller = Caller()
    caller.call(Outcome(Kind.LOADING, 20.0))
    seen = caller.seen()
    assert (seen.state, seen.why, seen.next_probe_in) == ("cold", "the model is loading", pytest.approx(14.0))
    caller.call(Outcome(Kind.LOADING, 30.0), OVERLOAD)
    assert caller.seen().state == "cold"
    assert caller.told() == ["model is loading, next probe in 14 s"]
    began = 100.0
    caller.call(SUCCESS)
    waited = caller.now - began
    assert waited > 30
    assert caller.told() == [f"first answer after {waited:.0f} s, ramping from 4 calls in flight"]
    caller.call(Outcome(Kind.LOADING, 10.0), SUCCESS)  # it was unloaded
    assert caller.told() == ["model is loading, next probe in 7 s",
                             "answered again after 7.5 s, ramping from 4 calls in flight"]


def test_a_probe_under_way_is_no_further_off_than_now() -> None:
    caller = Caller()
    caller.call(SUCCESS)
    assert caller.seen().next_probe_in is None
    caller.refused(30.0)
    assert caller.seen().next_probe_in == pytest.approx(30.0)
    caller.start()
    caller.now += 1
    assert caller.seen().next_probe_in == 0.0


@pytest.mark.parametrize(("outcome", "words"), [
    (LIMITED, "the server refuses (rate limit)"), (OVERLOAD, "the server refuses (overload)"),
    (Outcome(Kind.GROWTH_LIMITED), "the server refuses (traffic grew too fast)")])
def test_refusals_hold(outcome: Outcome, words: str) -> None:
    caller = Caller()
    caller.call(SUCCESS, outcome, Outcome(outcome.kind, 4.0))
    seen = caller.seen()
    assert (seen.state, seen.why, seen.since) == ("holding", words, 0.0)
    assert seen.next_probe_in == pytest.approx(4.0)
    assert seen.growth_limited == (outcome.kind is Kind.GROWTH_LIMITED)
    assert caller.lines[-1] == (logging.WARNING, f"{words}, holding; next probe in 4 s")


@pytest.mark.parametrize(("outcome", "words"), [
    (FAILURE, "calls fail one after another"), (TIMEOUT, "calls time out one after another")])
def test_failures_in_a_row_hold(outcome: Outcome, words: str) -> None:
    caller = Caller()
    caller.call(SUCCESS, *[outcome] * FAILURES_TO_CLOSE)
    assert (caller.seen().state, caller.seen().why) == ("holding", words)
    began = caller.now
    while caller.seen().since < 20:
        caller.call(outcome)
        assert caller.seen().state == "holding"
    caller.call(SUCCESS)
    took = caller.now - began
    lines = caller.told()
    assert len(lines) == 3
    assert lines[1].startswith(f"{words}, holding; next probe in ")
    assert lines[2] == f"answered again after {took:.0f} s, going on with at most 2 calls in flight"


def test_a_server_that_never_answered_is_held_off_without_a_warning() -> None:
    caller = Caller()
    caller.refused(5.0)
    assert caller.seen().state == "holding"
    assert caller.lines == [(logging.INFO, "the server refuses (rate limit), holding; next probe in 5 s")]


def test_a_late_end_from_before_the_gate_was_shut_is_not_its_reason() -> None:
    caller = Caller()
    caller.call(SUCCESS)
    late = caller.start()
    caller.call(Outcome(Kind.LOADING, 9.0), takes=0.02)
    caller.now += 30
    probe = caller.start()
    caller.now += 1
    caller.end(late, Outcome(Kind.QUOTA))
    assert (caller.seen().state, caller.seen().why) == ("cold", "the model is loading")
    caller.end(probe, Outcome(Kind.QUOTA))
    assert caller.seen().state == "exhausted"


def test_it_is_exhausted_until_a_probe_shows_that_the_quota_is_back() -> None:
    caller = Caller()
    caller.call(SUCCESS, Outcome(Kind.QUOTA))
    seen = caller.seen()
    assert (seen.state, seen.why, seen.next_probe_in) == ("exhausted", "the account's quota is exhausted", 60.0)
    caller.now += 75
    assert (caller.seen().state, caller.seen().since, caller.seen().next_probe_in) == ("exhausted", 75.0, 0.0)
    caller.call(Outcome(Kind.QUOTA, 7200.0))
    assert caller.seen().state == "exhausted"
    assert caller.lines[1:] == [(logging.WARNING, "the account's quota is exhausted, next try in 60 s")]
    caller.call(FAILURE)
    assert (caller.seen().state, caller.seen().why) == ("holding", "calls fail one after another")
    caller.call(SUCCESS)
    assert caller.seen().state == "steady"


def test_a_pause_by_hand_goes_before_all_but_the_quota_and_ends_at_its_instant() -> None:
    caller = Caller()
    caller.call(SUCCESS)
    caller.pace.pause(caller.now, 30)
    assert (caller.seen().state, caller.seen().why) == ("paused", "paused by hand for 30 s")
    assert caller.pace.story.news(caller.now) == (logging.INFO, "paused by hand for 30 s")
    caller.now += 10
    caller.pace.pause(caller.now, 40)
    assert (caller.seen().since, caller.seen().why) == (10.0, "paused by hand for 40 s")
    caller.now += 45
    assert (caller.seen().state, caller.seen().since) == ("ramping", pytest.approx(5.0))
    assert caller.seen().why == "the pause is over"
    caller.call(SUCCESS)
    assert caller.told()[-1] == "the pause is over, ramping from 4 calls in flight"
    caller.call(Outcome(Kind.LOADING, 20.0))
    caller.pace.pause(caller.now, 30)
    assert caller.seen().state == "paused"
    caller.now += 31
    assert (caller.seen().state, caller.seen().why) == ("cold", "the model is loading")
    caller.call(Outcome(Kind.QUOTA))
    caller.pace.pause(caller.now, 30)
    assert caller.seen().state == "exhausted"


def test_resume_is_told_also_before_the_first_call() -> None:
    caller = Caller()
    caller.pace.pause(caller.now, 30)
    caller.pace.story.news(caller.now)
    caller.pace.resume(caller.now)
    assert caller.seen().state == "cold"
    line = "resumed by hand, going on with at most 4 calls in flight"
    assert caller.pace.story.news(caller.now) == (logging.INFO, line)


def test_idleness_makes_it_cold_from_its_instant_on_and_is_worth_one_line_at_the_end() -> None:
    caller = Caller(idle=60.0)
    caller.call(SUCCESS)
    last = caller.now
    caller.told()
    caller.now += 59
    assert caller.seen().state == "steady"
    caller.now += 16
    seen = caller.seen()
    assert (seen.state, seen.since, seen.why) == ("cold", pytest.approx(15.0), "no call for 60 s")
    assert caller.pace.story.news(caller.now) is None
    caller.call(SUCCESS)
    assert caller.seen().state == "ramping"
    assert caller.told() == ["answered again after 75 s without a call, ramping from 4 calls in flight"]
    assert caller.now - last == pytest.approx(75.5, abs=1e-4)


def test_an_idleness_that_is_over_is_no_reason_later() -> None:
    caller = Caller(idle=60.0)
    caller.call(SUCCESS)
    caller.now += 75
    caller.call(SUCCESS)
    caller.pace.pause(caller.now, 10)
    caller.now += 100
    assert (caller.seen().state, caller.seen().why) == ("cold", "the pause is over")
    caller.call(SUCCESS)
    assert caller.seen().why == "answered again after 0.5 s"


def test_none_left_by_the_server_s_word_holds_without_a_gate_or_a_warning() -> None:
    caller = Caller()
    caller.call(SUCCESS)
    caller.told()
    caller.call(Outcome(Kind.SUCCESS, remaining=0, reset=40.0))
    until = caller.now + 40.0
    seen = caller.seen()
    assert (seen.state, seen.why) == ("holding", "the account has no calls left for now")
    assert seen.next_probe_in == seen.gate_in == pytest.approx(40.0)
    assert caller.lines == [(logging.INFO, "the account has no calls left for now, holding; next call in 40 s")]
    caller.now = until + 3
    assert (caller.seen().state, caller.seen().since) == ("ramping", pytest.approx(3.0))
    caller.call(SUCCESS)
    assert len(caller.told()) == 1
    caller.call(*[SUCCESS] * 30)
    assert caller.told() == ["the account has calls left again, ramping from 4 calls in flight"]


def test_last_calls_that_come_back_one_by_one_are_told_of_once() -> None:
    caller = Caller()
    caller.call(SUCCESS)
    caller.told()
    for remaining in (0, 1, 0, 2, 0, 1):
        caller.pace._allowance.until = -math.inf
        caller.call(Outcome(Kind.SUCCESS, remaining=remaining, reset=50.0))
        assert caller.seen().state == ("ramping" if remaining else "holding")
    assert [line[:38] for line in caller.told()] == ["the account has no calls left for now,"]
    caller.pace._allowance.until = -math.inf
    caller.refused(5.0)
    assert caller.lines == [(logging.WARNING, "the server refuses (rate limit), holding; next probe in 5 s")]


def test_a_used_up_window_that_was_foreseen_holds_without_a_warning() -> None:
    caller = Caller()
    caller.call(SUCCESS)
    caller.told()
    caller.pace._gate.shut_until(caller.now, caller.now + 30)
    caller.pace.story.note(caller.now, False)
    seen = caller.seen()
    assert (seen.state, seen.why, seen.next_probe_in) == ("holding", "the account has no calls left for now", 30.0)
    caller.call(LIMITED)  # a moment too early
    assert caller.lines == [(logging.INFO, "the account has no calls left for now, holding; next call in 0.5 s")]
    assert (caller.seen().state, caller.seen().why) == ("holding", "the account has no calls left for now")
    caller.call(SUCCESS)
    assert (caller.seen().since, caller.seen().why) == (0.0, "the account has calls left again")
    caller.call(SUCCESS, Outcome(Kind.QUOTA, 20.0), SUCCESS)
    caller.pace._gate.shut_until(caller.now, caller.now + 30)
    assert caller.seen().state == "holding"


# What it learned.

def test_full_slots_are_its_capacity() -> None:
    caller = Caller()
    caller.call(SUCCESS)
    assert (caller.seen().capacity, caller.seen().limit) == (None, None)
    calls = [caller.start() for _ in range(4)]
    caller.now += 0.5
    for call in calls[:3]:
        caller.end(call, SUCCESS)
    caller.end(calls[3], OVERLOAD)
    seen = caller.seen()
    assert (seen.state, seen.capacity, seen.limit) == ("steady", 3, None)
    assert seen.why == "the server's slots were full with 3 calls in flight"


def test_a_rate_that_was_refused_is_its_limit() -> None:
    caller = Caller()
    caller.call(*[SUCCESS] * 20, LIMITED)
    seen = caller.seen()
    assert seen.state == "steady"
    assert seen.capacity is None
    assert seen.limit == pytest.approx(2.0, rel=0.2)
    assert seen.why == "the server refused a call (rate limit)"
    assert not seen.growth_limited


def test_slower_answers_end_the_ramp() -> None:
    caller = Caller()
    caller.call(*[SUCCESS] * 12)
    while caller.seen().state == "ramping":
        caller.pace._load.window.make_wait(caller.now)
        caller.call(SUCCESS, takes=4.0)
    assert (caller.seen().state, caller.seen().why) == ("steady", "answers became slower")


def test_a_first_rate_ramps_until_it_is_at_the_ceiling() -> None:
    caller = Caller(start=1.0, ceiling=2.0)
    caller.call(SUCCESS, *[SUCCESS] * 5)
    caller.pace._load.window.slow_start = False
    caller.pace._load.rate._value = 1.5
    assert caller.seen().state == "ramping"
    caller.call(*[SUCCESS] * 8, takes=0.1)
    assert (caller.seen().state, caller.seen().why) == ("steady", "the rate has reached its ceiling")


def test_nobody_who_waits_ends_the_ramp_and_somebody_begins_it_again() -> None:
    caller = Caller()
    caller.call(SUCCESS)
    since = caller.now
    while caller.seen().state == "ramping":
        caller.call(SUCCESS)
    assert (caller.seen().state, caller.seen().why) == ("steady", "no more calls came")
    assert caller.now - since == pytest.approx(ENOUGH, abs=0.6)
    caller.call(*[SUCCESS] * 50)
    assert caller.seen().state == "steady"
    calls = [caller.start() for _ in range(4)]
    assert caller.pace.ready_at(caller.now) == math.inf
    for call in calls:
        caller.end(call, SUCCESS)
    assert (caller.seen().state, caller.seen().why) == ("ramping", "more calls came")


def test_at_the_ceiling_a_window_that_keeps_nobody_waiting_does_not_ramp() -> None:
    caller = Caller(ceiling=2.0)
    for _ in range(80):
        caller.call(SUCCESS, takes=0.1)
    assert caller.pace._load.window.slow_start
    assert (caller.seen().state, caller.seen().why) == ("steady", "the rate has reached its ceiling")


# When it is told.

def steadied() -> Caller:
    """It was ramping for long, and is steady for a moment."""
    caller = Caller()
    caller.call(*[SUCCESS] * 20)
    caller.told()
    caller.call(LIMITED, takes=0.02)
    assert caller.seen().state == "steady"
    return caller


def test_a_turn_to_steady_is_told_when_it_has_lasted() -> None:
    caller = steadied()
    since = caller.now
    while caller.now < since + SETTLED - 1:
        caller.call(SUCCESS)
    assert caller.told() == []
    caller.call(*[SUCCESS] * 8)
    line = caller.told()
    assert len(line) == 1
    assert line[0].startswith("steady at about ")
    assert line[0].endswith(" calls a second")
    caller.call(*[SUCCESS] * 8)
    assert caller.told() == []


def test_flips_between_ramping_and_steady_are_not_told_but_counted() -> None:
    caller = steadied()
    window = caller.pace._load.window
    states = []
    for flip in range(60):
        window.slow_start = flip % 2 == 0
        caller.call(SUCCESS, takes=1.0)
        states.append(caller.seen().state)
    assert states == ["ramping", "steady"] * 30
    assert caller.told() == []
    window.slow_start = True
    caller.call(*[SUCCESS] * 12, takes=1.0)
    assert caller.told() == []  # as it was told before


def test_a_gate_that_is_shut_for_a_moment_is_not_told_but_counted() -> None:
    caller = steadied()
    caller.call(SUCCESS)
    caller.told()
    caller.refused(0.2)
    assert caller.seen().state == "holding"
    caller.call(SUCCESS)
    assert caller.told() == []
    caller.call(*[SUCCESS] * 40)
    assert [line[:15] for line in caller.told()] == ["steady at about"]
    caller.refused(0.2)
    caller.call(Outcome(Kind.LIMITED, 3.0))
    assert caller.told() == ["the server refuses (rate limit), holding; next probe in 3 s"]


def test_one_that_hears_nothing_of_no_change_is_asked_for_nothing() -> None:
    caller = Caller()
    caller.call(SUCCESS)
    assert caller.pace.story.tell_at == math.inf
    caller.call(*[SUCCESS] * 30)
    assert caller.pace.story.tell_at == math.inf
    caller.call(Outcome(Kind.LOADING, 9.0))
    assert len(caller.told()) == 2
    assert caller.pace.story.tell_at == math.inf


def test_a_pace_that_is_reset_begins_anew() -> None:
    caller = Caller()
    caller.call(SUCCESS, Outcome(Kind.QUOTA))
    caller.pace.reset()
    seen = caller.seen()
    assert (seen.state, seen.since, seen.next_probe_in) == ("cold", 0.0, None)
    assert seen.why == "no call has been answered yet"


# Words.

@pytest.mark.parametrize(("value", "text"), [(0.214, "0.21"), (4.0, "4"), (9.8123, "9.8"), (9.96, "10"), (38.4, "38"),
                                             (86400, "86400")])
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_waits_are_told_to_a_tenth_of_a_second() -> None:
    assert [seconds(value) for value in (0.0002, 0.57, 1.04, 9.94, 23.49)] == ["0.1 s", "0.6 s", "1 s", "9.9 s", "23 s"]
    assert [coming(wait) for wait in (0.003, 0.3, 12.2)] == ["at once", "in 0.3 s", "in 12 s"]


# Several at once.

def test_several_are_added_up() -> None:
    one, other = Caller(), Caller()
    one.call(*[SUCCESS] * 20, LIMITED)
    other.call(*[SUCCESS] * 20, LIMITED, Outcome(Kind.LIMITED, 9.0))
    first, second = one.seen(), other.seen()
    whole = together([first, second])
    assert (whole.state, whole.why) == ("mixed", "several reasons")
    assert first.limit
    assert second.limit
    assert whole.limit == first.limit + second.limit
    assert whole.capacity is None
    assert whole.next_probe_in == second.next_probe_in
    assert whole.since == min(first.since, second.since)
    same = together([first, first])
    assert (same.state, same.why, same.next_probe_in) == (first.state, first.why, None)
    nothing = together([])
    assert (nothing.state, nothing.since, nothing.limit) == ("cold", 0.0, None)
    assert nothing.why == "no call has been answered yet"
