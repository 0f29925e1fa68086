"""`steer` in virtual time: real decorators and threads, measures as functions."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from llm_guard import ConfigError, bounded, clock, events, ramp_up, retry
from llm_guard.clock.virtual import VirtualClock
from llm_guard.policies.ramp_up import RampUp
from llm_guard.telemetry.sources import NoMeasure
from llm_guard.telemetry.steer import Steer, SteerStatistics, steer


class Traffic:
    """Four callers who always want an answer; each takes 0.1 s. Ends with its clock."""

    def __init__(self, pace: RampUp) -> None:
        self.calls = 0
        self.resting = False
        self._ask = pace(bounded(4)(retry(self._call)))
        for _ in range(4):
            clock.current().spawn(self._loop, "caller")

    def _call(self) -> None:
        clock.current().sleep(0.1)
        self.calls += 1

    def _loop(self) -> None:
        while True:
            if self.resting:
                clock.current().sleep(1)
            else:
                self._ask()


class Reads:
    """A source that counts how often it is read, and gives or raises `answer`."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.count = 0

    def __call__(self) -> Any:
        self.count += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer() if callable(self.answer) else self.answer


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of steering."""
    return [record.getMessage() for record in caplog.records
            if "steer" in record.getMessage() or "measure" in record.getMessage()]


def steered(source: Callable[[], Any], **options: Any) -> tuple[Traffic, RampUp, Steer]:
    pace = ramp_up(ceiling=10)
    traffic = Traffic(pace)
    return traffic, pace, steer(pace, source, **{"window": 20, "every": 5, "least": 1, **options})


def test_the_ceiling_goes_down_while_the_measure_is_above_the_target_and_up_again() -> None:
    reads = Reads(8.0)
    with VirtualClock() as time:
        _, pace, handle = steered(reads)
        time.sleep(300)
        low = pace.ceiling
        assert low is not None
        assert low < 5
        reads.answer = 0.5
        time.sleep(1500)
        assert pace.ceiling == 10  # where it was at first, and no further
        shown = handle.statistics()
    assert (shown.state, shown.measure, shown.target, shown.ceiling) == ("steering", 0.5, 2.0, 10)
    assert shown.fresh_for is not None
    assert shown.fresh_for <= 5
    assert shown.downs >= 2
    assert shown.ups >= 2
    with pytest.raises(FrozenInstanceError):
        shown.ceiling = 3  # type: ignore[misc]


def test_what_it_lowers_is_the_rate_of_the_calls() -> None:
    with VirtualClock() as time:
        traffic, pace, _ = steered(Reads(8.0), least=2, window=10)
        time.sleep(400)
        assert pace.ceiling == 2
        before = traffic.calls
        time.sleep(100)
        assert traffic.calls - before == pytest.approx(200, abs=3)


@pytest.mark.figures
@pytest.mark.parametrize("wrong", [
    NoMeasure("HTTP 503"), OSError("secret"), SystemExit("secret"), KeyboardInterrupt("secret"), None, float("nan"),
    0.0, -1.0, float("inf"), "2", True, (2.0, 0.0), (2.0, "now"), (None, 5)],
    ids=["NoMeasure", "OSError", "SystemExit", "KeyboardInterrupt", "None", "nan",
         "0", "negative", "inf", "text", "bool", "old", "no time", "no value"])
def test_a_source_without_a_measure_holds_the_ceiling_and_stops_no_call(wrong: Any,
                                                                       caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="llm_guard")
    reads = Reads(8.0)
    with VirtualClock() as time:
        traffic, pace, handle = steered(reads)
        time.sleep(63)
        held, reads.answer = pace.ceiling, wrong
        assert held is not None
        assert held < 8
        time.sleep(600)
        before = traffic.calls
        time.sleep(100)
        assert pace.ceiling == held
        assert traffic.calls - before == pytest.approx(100 * held, rel=0.02)
        shown = handle.statistics()
        assert shown.state == "holding"
        assert shown.measure == 8.0
        reads.answer = 8.0
        time.sleep(60)
        assert pace.ceiling < held
        assert handle.statistics().state == "steering"
    said = lines(caplog)
    assert len(said) == 3, said  # one for each change, none a read
    assert "gone" in said[1]
    assert f"{held:.3g} calls a second" in said[1]
    assert "back" in said[2]
    assert "secret" not in caplog.text


def test_one_read_that_fails_is_no_change_of_state(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="llm_guard")
    reads = Reads(None)
    reads.answer = lambda: 2.0 if reads.count % 3 else None
    with VirtualClock() as time:
        _, _, handle = steered(reads)
        time.sleep(600)
        assert handle.statistics().state == "steering"
    assert len(lines(caplog)) == 1


def test_a_sample_with_its_time_counts_while_it_is_young() -> None:
    with VirtualClock() as time:
        reads = Reads(lambda: (8.0, time.wall() - 14))
        _, pace, handle = steered(reads)  # stale after 15 s
        time.sleep(60)
        assert handle.statistics().state == "steering"
        held = pace.ceiling
        assert held is not None
        assert held < 8
        reads.answer = lambda: (8.0, time.wall() - 16)
        time.sleep(300)
        assert pace.ceiling == held
        assert handle.statistics().why == "the newest sample is 16 s old"


def test_a_source_that_hangs_holds_neither_calls_nor_the_state_and_is_not_called_again() -> None:
    with VirtualClock() as time:
        never = time.waiter()

        def hang() -> float:
            never.wait()
            return 8.0

        reads = Reads(hang)
        traffic, pace, handle = steered(reads, timeout=3)
        time.sleep(300)
        assert reads.count == 1
        assert pace.ceiling == 10
        assert handle.statistics().state == "holding"
        assert "does not answer within 3 s" in handle.statistics().why
        assert traffic.calls == pytest.approx(3000, rel=0.01)
        reads.answer = 8.0
        never.set()
        time.sleep(60)
        assert handle.statistics().state == "steering"


def test_it_reads_only_while_calls_are_made_and_a_night_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="llm_guard")
    reads = Reads(2.0)
    with VirtualClock() as time:
        traffic, _, handle = steered(reads)
        time.sleep(60)
        traffic.resting, reads.answer = True, None
        time.sleep(10)
        before = reads.count
        time.sleep(36_000)
        assert reads.count == before
        assert handle.statistics().why == "no calls"
        traffic.resting = False
        time.sleep(8)
        assert reads.count > before  # without an answer, as a measure of no calls has none
        reads.answer = 2.0
        time.sleep(20)
        assert handle.statistics().state == "steering"
    assert len(lines(caplog)) == 1


def test_stopped_it_reads_no_more_and_leaves_the_ceiling() -> None:
    reads = Reads(8.0)
    with VirtualClock() as time:
        pace = ramp_up(ceiling=10)
        Traffic(pace)
        with steer(pace, reads, window=20, every=5, least=1) as handle:
            time.sleep(60)
        held, count = pace.ceiling, reads.count
        assert held is not None
        assert held < 8
        handle.stop()
        time.sleep(300)
        assert (pace.ceiling, reads.count) == (held, count)
        assert handle.statistics().state == "stopped"


def test_it_ends_when_the_pace_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="llm_guard")
    with VirtualClock() as time:
        pace = ramp_up(ceiling=7)
        handle = steer(pace, Reads(8.0), every=500)
        time.sleep(1)
        del pace
        gc.collect()
        time.sleep(1)
        assert handle.statistics().state == "stopped"
        assert handle.statistics().ceiling == 7
    assert "the pace is gone" in lines(caplog)[-1]


def test_the_handle_may_be_dropped() -> None:
    reads = Reads(8.0)
    with VirtualClock() as time:
        _, pace, handle = steered(reads)
        del handle
        gc.collect()
        time.sleep(100)
        assert pace.ceiling is not None
        assert pace.ceiling < 8


def test_changes_of_state_are_told_to_listeners() -> None:
    told: list[tuple[str, str]] = []
    drop = events.everywhere.add(lambda event: told.append((event.before, event.after))
                                 if isinstance(event, events.StateChanged) and event.policy == "steer" else None)
    reads = Reads(2.0)
    try:
        with VirtualClock() as time:
            _, _, handle = steered(reads)
            time.sleep(60)
            reads.answer = None
            time.sleep(60)
            reads.answer = 2.0
            time.sleep(60)
            handle.stop()
    finally:
        drop()
    assert told == [("waiting", "steering"), ("steering", "holding"), ("holding", "steering"), ("steering", "stopped")]


def test_a_guarded_function_stands_for_its_ramp() -> None:
    with VirtualClock():
        ask = ramp_up(ceiling=5)(retry(lambda: None))
        assert steer(ask, lambda: 2.0).statistics().ceiling == 5


def test_most_bounds_the_ceiling_from_the_first_on() -> None:
    with VirtualClock():
        pace = ramp_up()
        steer(pace, lambda: 2.0, most=8)
        assert pace.ceiling == 8


def test_it_has_the_window_and_the_timeout_of_its_source() -> None:
    reads = Reads(8.0)
    reads.window, reads.timeout = 100.0, 2.0  # type: ignore[attr-defined]
    with VirtualClock() as time:
        pace = ramp_up(ceiling=10)
        Traffic(pace)
        steer(pace, reads, every=5, least=1)
        time.sleep(95)
        assert pace.ceiling == 10
        time.sleep(30)
        assert pace.ceiling < 8


@pytest.mark.parametrize(("option", "value"), [
    ("target", 0), ("target", "2"), ("every", 0), ("least", 0), ("most", -1), ("step", 0.7), ("step", (1.1, 1.2)),
    ("step", (0.7, 1.0)), ("tolerance", 1), ("window", 0), ("stale_after", 1), ("timeout", 0), ("source", 3)],
    ids=lambda value: str(value))
def test_options_that_cannot_work_are_refused(option: str, value: Any) -> None:
    options: dict[str, Any] = {"source": lambda: 2.0, option: value}
    with pytest.raises(ConfigError, match=option):
        steer(ramp_up(), **options)


def test_the_least_is_not_above_the_ceiling() -> None:
    with pytest.raises(ConfigError, match="least"):
        steer(ramp_up(ceiling=5), lambda: 2.0, least=6)


@pytest.mark.parametrize("pace", [ramp_up(key="model"), retry(lambda: None), 3],
                         ids=["with a key", "a function without a ramp", "no pace"])
def test_only_one_pace_can_be_steered(pace: Any) -> None:
    with pytest.raises(ConfigError, match="pace"):
        steer(pace, lambda: 2.0)


def test_no_statistics_hold_more_than_figures_and_fixed_words() -> None:
    shown = SteerStatistics("waiting", "no calls", 2.0, None, None, None, 0, 0)
    assert "measure=None" in repr(shown)


@pytest.mark.real
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_steers_its_own_pace() -> None:
    code = """
import os, time, threading
from llm_guard import ramp_up
from llm_guard.telemetry.steer import steer
pace = ramp_up(ceiling=1000)
ask = pace(lambda: time.sleep(0.02))
handle = steer(pace, lambda: 8.0, window=0.2, every=0.05, least=1)
child = os.fork()
began = time.monotonic()
while time.monotonic() < began + 5 and handle.statistics().downs < 2:
    ask()
ok = handle.statistics().downs >= 2 and pace.ceiling < 1000
if child == 0:
    os._exit(0 if ok else 1)
print(ok, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.stdout.split() == ["True", "0"], ended.stderr  # and the interpreter's exit waits for nobody
