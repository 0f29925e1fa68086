"""`@ramp_up` under a schedule of the user's own: `ramp_time`, `max_growth`, `idle`."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from scripted import Server, Task, call_all, read

from llm_guard import ConfigError, ramp_up
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind


def ramped(seconds: float, start: float = 1, ceiling: float = 10, ramp: float = 60) -> float:
    """How many calls the linear ramp has allowed after so many seconds, the first one apart."""
    rising = min(seconds, ramp)
    return start * seconds + (ceiling - start) * (rising * rising / (2 * ramp) + max(0.0, seconds - ramp))


def assert_ramped(starts: list[float], start: float = 1, ceiling: float = 10, ramp: float = 60) -> None:
    """In every window, the ramp's integral, and one, and 10 ms of it; from the first start on, all of it."""
    times = [at - starts[0] for at in starts]
    most = [ramped(at, start, ceiling, ramp) for at in times]
    for first in range(len(times)):
        slack = 1 + 0.010 * ceiling + 1e-6
        assert all(at - first + 1 <= most[at] - most[first] + slack for at in range(first, len(times)))
    for number, allowed in enumerate(most):
        assert number >= 0.97 * allowed - 1


@pytest.mark.parametrize("seed", range(2))
def test_the_rate_rises_evenly_from_start_to_ceiling(seed: int) -> None:
    server, pace = Server(seconds=0.1), ramp_up(start=1, ceiling=10, ramp_time=60)
    with VirtualClock(seed, shuffle=True) as time:
        call_all(pace(lambda item: server(item)), range(500))
        assert_ramped(server.starts)
        assert pace.statistics().pace.rate == 10
        assert time.now() == pytest.approx(60 + (500 - ramped(60)) / 10, abs=1)


def test_the_rate_shown_is_that_of_the_ramp() -> None:
    pace = ramp_up(start=1, ceiling=7, ramp_time=60)
    with VirtualClock() as time:
        time.sleep(500)
        assert pace.statistics().pace.rate == 1
        pace(lambda: None)()
        time.sleep(30)
        assert pace.statistics().pace.rate == pytest.approx(4)


def test_a_slow_first_rate_does_not_outlast_the_ramp() -> None:
    server = Server(seconds=0.1)
    with VirtualClock():
        call_all(ramp_up(start=0.01, ceiling=10, ramp_time=60)(lambda item: server(item)), range(400))
    assert_ramped(server.starts, start=0.01)


def test_a_rate_limit_of_the_server_still_counts() -> None:
    server = Server(*[Kind.SUCCESS] * 100, (Kind.LIMITED, 1.0), seconds=0.1)
    pace = ramp_up(start=1, ceiling=10, ramp_time=60, classify=read)
    with VirtualClock():
        call_all(pace(lambda item: server(item)), range(101))
        rate = pace.statistics().pace.rate
    begun = server.starts[100] - server.starts[0]
    assert rate is not None
    assert rate < 0.95 * (1 + 9 * begun / 60)


@pytest.mark.parametrize(("idle", "pause", "anew"), [(60.0, 50, False), (60.0, 70, True), (10.0, 20, True),
                                                     (None, 5000, False)])
def test_after_idleness_the_ramp_begins_anew(idle: float | None, pause: float, anew: bool) -> None:
    server = Server(seconds=0.1)
    ask = ramp_up(start=1, ceiling=10, ramp_time=30, idle=idle)(lambda item: server(item))
    with VirtualClock() as time:
        call_all(ask, range(300))
        time.sleep(pause)
        before = len(server.starts)
        call_all(ask, range(200))
    again = server.starts[before:]
    if anew:
        assert_ramped(again, ramp=30)
    else:
        assert again[-1] - again[0] == pytest.approx(19.9, abs=0.3)


def test_when_the_model_loads_again_the_ramp_begins_anew() -> None:
    server = Server(*[Kind.SUCCESS] * 300, (Kind.LOADING, 5.0), seconds=0.1)
    ask = ramp_up(start=1, ceiling=10, ramp_time=30, classify=read)(lambda item: server(item))
    with VirtualClock():
        call_all(ask, range(450))
    refused = server.starts[300]
    opened = next(at for at in server.starts if at > refused + 2) + 0.1  # when the probe was answered
    assert_ramped([at for at in server.starts if at >= opened], ramp=30)


def test_calls_further_apart_than_the_idle_time_ramp_all_the_same() -> None:
    server = Server(seconds=0.1)
    with VirtualClock():
        call_all(ramp_up(start=0.01, ceiling=0.05, ramp_time=600, idle=20)(lambda item: server(item)), range(30))
    assert_ramped(server.starts, 0.01, 0.05, 600)


def test_a_server_left_alone_is_asked_by_few_again() -> None:
    server, pace = Server(seconds=1.0), ramp_up(idle=30)
    ask = pace(lambda item: server(item))
    with VirtualClock() as time:
        call_all(ask, range(100))
        assert server.peak > 10
        for wait, few in ((29.0, False), (31.0, True)):
            time.sleep(wait)
            server.peak = 0
            call_all(ask, range(12))
            assert (server.peak < 12) == few
        assert pace.statistics().pace.state == "ramping"


def test_another_ceiling_is_the_end_of_the_ramp() -> None:
    server, pace = Server(seconds=0.01), ramp_up(start=1, ceiling=2, ramp_time=10)
    with VirtualClock() as time:
        task = Task(lambda: call_all(pace(lambda item: server(item)), range(300)))
        time.sleep(20)
        pace.ceiling = 10
        task.wait()
    assert len([at for at in server.starts if at < 20]) == pytest.approx(ramped(20, 1, 2, 10), abs=2)
    later = [at for at in server.starts if at > 21]
    assert all(after - before == pytest.approx(0.1) for before, after in pairwise(later))


def test_max_growth_over_an_hour() -> None:
    server, pace = Server(seconds=0.05), ramp_up(start=1, ceiling=50, max_growth=(1.5, 900))
    with VirtualClock() as time:
        ask = pace(lambda item: server(item))
        Task(lambda: call_all(ask, iter(lambda: time.now() < 3600, False), threads=8))
        time.sleep(3700)
    minutes = Counter(int(at // 60) for at in server.starts)
    rates = [minutes[minute] / 60 for minute in range(60)]
    assert rates[:15] == pytest.approx([1.0] * 15, abs=0.02)
    assert rates[29] == pytest.approx(1.5, rel=0.05)
    assert all(now <= 1.5 * before + 0.02 for before, now in zip(rates, rates[15:], strict=False))
    assert rates[59] > 1.3 * rates[44] > 1.6 * rates[29]


def test_max_growth_builds_up_no_leap_while_nobody_calls() -> None:
    server, pace = Server(seconds=0.05), ramp_up(start=1, max_growth=(2, 60))
    ask = pace(lambda item: server(item))
    with VirtualClock() as time:
        call_all(ask, range(1500))
        assert server.starts[-1] - server.starts[-101] < 30
        time.sleep(3600)
        before = len(server.starts)
        call_all(ask, range(60))
    assert server.starts[-1] - server.starts[before] == pytest.approx(59, abs=0.5)


@pytest.mark.parametrize("options", [
    {"ramp_time": 60}, {"ramp_time": 60, "start": 1}, {"ramp_time": 60, "ceiling": 5}])
def test_a_ramp_needs_both_its_ends(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="only with start and ceiling") as error:
        ramp_up(**options)  # type: ignore[call-overload]
    assert error.value.parameter == "ramp_time"


def test_a_ramp_keeps_its_ceiling() -> None:
    pace = ramp_up(start=1, ceiling=5, ramp_time=60)
    with pytest.raises(ConfigError, match="ramp_time") as error:
        pace.ceiling = None
    assert error.value.parameter == "ceiling"
    assert pace.ceiling == 5
    with pytest.raises(ConfigError, match="ceiling, 2"):
        ramp_up(start=3, ceiling=2, ramp_time=60)
