"""`ramp_up(cost=...)`: tokens a minute beside calls a second, reserved before and settled after."""

from __future__ import annotations

from typing import Any

import pytest
from scripted import Ended, Server, Task, call_all, read

from llm_guard import ConfigError, Kind, Outcome, clock, ramp_up, retry, stack
from llm_guard.clock.virtual import VirtualClock

CEILING = 6000.0  # within 60 s


class Model:
    """Each call takes as many tokens as it is told to, and tells so."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, float]] = []

    def __call__(self, size: int) -> dict[str, Any]:
        time = clock.current()
        self.calls.append((time.now(), float(size)))
        time.sleep(0.5)
        return {"choices": [{"message": {"content": "..."}}], "usage": {
            "prompt_tokens": size // 2, "completion_tokens": size - size // 2, "total_tokens": size}}

    def most_in_a_minute(self) -> float:
        return max(sum(cost for at, cost in self.calls if begin <= at < begin + 60) for begin, _ in self.calls)


def sizes(count: int) -> list[int]:
    return [(10, 100, 300, 50)[number % 4] for number in range(count)]


@pytest.mark.parametrize("estimated", [1.0, 3.0], ids=["as it is", "three times too high"])
def test_no_minute_costs_more_however_many_threads_call(estimated: float) -> None:
    model = Model()
    guarded = ramp_up(cost=lambda size: estimated * size, cost_ceiling=CEILING)(lambda size: model(size))
    with VirtualClock(1, shuffle=True) as time:
        results = call_all(guarded, sizes(300))
        minutes = time.now() / 60
    assert all(result.error is None for result in results)
    assert model.most_in_a_minute() <= CEILING
    # What was reserved too much is used by others.
    assert sum(sizes(300)) / minutes >= 0.85 * CEILING


def test_an_estimate_that_is_too_low_is_made_up_for() -> None:
    model = Model()
    guarded = ramp_up(cost=10, cost_ceiling=CEILING)(lambda size: model(size))
    with VirtualClock() as time:
        assert all(result.error is None for result in call_all(guarded, sizes(300), threads=4))
        minutes = time.now() / 60
    assert sum(sizes(300)) / minutes <= 1.1 * CEILING


def test_one_larger_than_the_ceiling_goes_alone_and_those_after_it_wait_for_it() -> None:
    model = Model()
    guarded = ramp_up(cost="size", cost_ceiling=CEILING)(lambda size: model(size))
    with VirtualClock():
        assert all(result.error is None for result in call_all(guarded, [100, 9000, 100], threads=3))
    before, large, after = sorted(model.calls)
    assert large[1] == 9000
    assert large[0] - before[0] >= 60
    assert after[0] - large[0] >= 60 * 9000 / CEILING - 1


def test_refused_calls_cost_nothing_and_retries_cost_again() -> None:
    server = Server(Kind.OVERLOAD, Kind.FAILURE, seconds=0.1)
    pace = ramp_up(cost=1000, cost_ceiling=CEILING)
    ask = pace(retry(classify=read)(lambda: server()))
    with VirtualClock():
        assert ask() == "answer"
        assert pace.statistics().spent == 2000  # what the failed one cost is not known
    assert server.starts[2] >= 10 - 1e-6
    assert server.starts[1] < 1


def test_calls_and_costs_hold_together() -> None:
    model = Model()
    pace = ramp_up(ceiling=1.0, cost="size", cost_ceiling=CEILING)
    with VirtualClock() as time:
        call_all(pace(lambda size: model(size)), [1] * 30)
        assert time.now() >= 29
        call_all(pace(lambda size: model(size)), [600] * 10)
        assert time.now() >= 29 + 9 * 6


def test_what_the_server_says_is_left_is_kept_to() -> None:
    starts: list[float] = []

    def told(end: object) -> Outcome | None:
        return Outcome(Kind.SUCCESS, remaining_tokens=100, reset_tokens=30.0) if isinstance(end, int) else None

    pace = ramp_up(cost=300, cost_ceiling=60_000, classify=told)
    with VirtualClock() as time:
        def ask() -> int:
            starts.append(time.now())
            return 1

        guarded = pace(ask)
        guarded()
        guarded()
    assert starts[1] - starts[0] >= 0.2 - 1e-9  # 200 are short, at 1,000 a second


def test_each_key_has_its_own() -> None:
    model = Model()
    pace = ramp_up(key="name", cost="size", cost_ceiling=CEILING)
    guarded = pace(lambda name, size: model(size))
    with VirtualClock() as time:
        for name in ("small", "large"):
            guarded(name, 3000)
        assert time.now() < 2
        assert pace.statistics().spent == 6000
        assert pace.statistics_of("small").spent == 3000
        assert pace.statistics_of("other").spent == 0
        guarded("small", 1)
        assert time.now() >= 30


def test_another_ceiling_wakes_those_who_wait() -> None:
    model = Model()
    pace = ramp_up(cost="size", cost_ceiling=CEILING)
    guarded = pace(lambda size: model(size))
    with VirtualClock() as time:
        guarded(6000)
        waits = Task(lambda: guarded(6000))
        time.sleep(1)
        pace.cost_ceiling = 600_000
        waits.wait()
        assert time.now() < 5
        assert pace.cost_ceiling == 600_000


def test_without_a_cost_nothing_is_spent() -> None:
    pace = ramp_up()
    with VirtualClock():
        assert pace(lambda: 1)() == 1
    assert pace.statistics().spent is None
    assert pace.cost_ceiling is None
    with pytest.raises(ConfigError, match="cost_ceiling"):
        pace.cost_ceiling = 5.0


def test_a_method_and_a_single_call_are_read_too() -> None:
    class Client:
        @ramp_up(cost=lambda client, size: size, cost_ceiling=CEILING)
        def ask(self, size: int) -> int:
            return size

    pace = ramp_up(cost=lambda size: size, cost_ceiling=CEILING)
    with VirtualClock():
        assert Client().ask(5) == 5
        assert stack(pace).call(lambda size: size, 7) == 7
        assert pace.statistics().spent == 7
    twin = pace.anew()
    twin.cost_ceiling = 1.0
    assert pace.cost_ceiling == CEILING


@pytest.mark.parametrize(("options", "named"), [
    ({"cost": 5}, "cost_ceiling"), ({"cost_ceiling": 5}, "cost"), ({"cost": -1, "cost_ceiling": 5}, "cost"),
    ({"cost": True, "cost_ceiling": 5}, "cost"), ({"cost": 1, "cost_ceiling": 0}, "cost_ceiling"),
    ({"cost": 1, "cost_ceiling": float("nan")}, "cost_ceiling"),
    ({"cost": 1, "cost_ceiling": 5, "cost_per": 0}, "cost_per"), ({"cost_per": -1}, "cost_per"),
    ({"cost": [], "cost_ceiling": 5}, "cost")])
def test_what_cannot_work_is_told_at_decoration(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as error:
        ramp_up(**options)
    assert error.value.parameter == named


def test_a_parameter_that_is_not_there_is_told_at_decoration() -> None:
    with pytest.raises(ConfigError, match="prompt"):
        ramp_up(cost="size", cost_ceiling=5)(lambda prompt: prompt)


@pytest.mark.parametrize("cost", ["a secret prompt", None, -1, float("inf"), float("nan"), True])
def test_a_cost_that_is_none_is_told_at_the_call_and_not_shown(cost: Any) -> None:
    called: list[object] = []
    guarded = ramp_up(cost="prompt", cost_ceiling=5)(lambda prompt: called.append(prompt))
    with pytest.raises(ConfigError) as error:
        guarded(cost)
    assert "secret" not in str(error.value)
    assert error.value.parameter == "cost"
    assert called == []


def test_what_the_user_s_estimate_raises_is_raised() -> None:
    def estimate() -> float:
        raise Ended(Kind.FAILURE)

    with pytest.raises(Ended):
        ramp_up(cost=estimate, cost_ceiling=5)(lambda: 1)()
