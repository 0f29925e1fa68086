"""`key=` and `per_key=`: a state for each key."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from scripted import Ended, Server, Task, assert_paced, call_all, read

from llm_guard import ConfigError, Saturated, bounded, clock, events, fallback, ramp_up, retry, stack, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.events import Event, StateChanged
from llm_guard.outcome import Kind

SECRET = "tenant-4711"


@pytest.fixture
def everywhere() -> Iterator[list[Event]]:
    seen: list[Event] = []
    take_off = events.everywhere.add(seen.append)
    yield seen
    take_off()


class Tenants:
    """Counts who is in flight, by key."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds
        self.running: Counter[object] = Counter()
        self.peaks: Counter[object] = Counter()
        self.served = 0

    def __call__(self, tenant: object) -> object:
        self.running[tenant] += 1
        self.peaks[tenant] = max(self.peaks[tenant], self.running[tenant])
        clock.current().sleep(self._seconds)
        self.running[tenant] -= 1
        self.served += 1
        return tenant


# A state for each.

def test_at_most_n_in_flight_for_each_key() -> None:
    tenants, limit = Tenants(), bounded(2, per_key=lambda tenant: tenant)
    with VirtualClock(1, shuffle=True) as time:
        call_all(limit(tenants), [item % 5 for item in range(50)])
        assert time.now() == pytest.approx(5)  # all keys go at once
        assert limit.statistics().keys == 5
        assert limit.statistics().peak == 2
    assert set(tenants.peaks.values()) == {2}


def test_the_refusals_of_one_model_do_not_slow_another() -> None:
    servers = {"good": Server(seconds=0.2), "bad": Server(then=(Kind.LIMITED, 20.0), seconds=0.2)}
    pace = ramp_up(key="model", classify=read)

    @pace
    @retry(max_refusal_wait=300)
    def ask(item: int, model: str) -> Any:
        return servers[model](item)

    def alone(item: int) -> Any:
        return server(item)

    with VirtualClock() as time:
        server = Server(seconds=0.2)
        call_all(ramp_up(retry(alone)), range(200), threads=32)
        takes = time.now()
    with VirtualClock() as time:
        bad = [Task(lambda: ask(0, "bad")) for _ in range(20)]
        call_all(lambda item: ask(item, model="good"), range(200), threads=32)
        assert time.now() == pytest.approx(takes, rel=0.05)
        assert pace.statistics_of("bad").waiting > 10
        assert pace.statistics_of("bad").pace.state != pace.statistics_of("good").pace.state
        assert pace.statistics_of("good").waiting == 0
        for task in bad:
            assert isinstance(task.ended().error, Ended | Saturated)


def test_the_ceiling_is_that_of_each_key_present_and_future() -> None:
    servers, pace = {key: Server(seconds=0.05) for key in "abc"}, ramp_up(ceiling=1, key=lambda key, item: key)
    ask = pace(lambda key, item: servers[key](item))
    with VirtualClock() as time:
        tasks = [Task(lambda key=key: call_all(partial(ask, key), range(30))) for key in "ab"]  # type: ignore[misc]
        time.sleep(5)
        pace.ceiling = 10
        tasks.append(Task(lambda: call_all(partial(ask, "c"), range(30))))
        for task in tasks:
            task.wait()
        assert time.now() < 9
        assert pace.ceiling == 10
    for key, server in servers.items():
        assert_paced([at for at in server.starts if at > 5 or key == "c"], 10)
        assert key == "c" or len([at for at in server.starts if at < 5]) == 5


def test_a_pause_holds_all_keys_also_those_to_come_or_one() -> None:
    server, pace = Server(seconds=0.1), ramp_up(key=lambda key: key)
    ask = pace(lambda key: server(key))
    with VirtualClock() as time:
        ask("old")
        pace.pause(60)
        tasks = [Task(lambda key=key: ask(key)) for key in ("old", "new")]  # type: ignore[misc]
        assert pace.statistics_of("to come").pace.state == "paused"
        time.sleep(50)
        assert len(server.starts) == 1
        pace.resume(key="old")
        time.sleep(1)
        assert len(server.starts) == 2
        pace.resume()
        time.sleep(1)
        assert len(server.starts) == 3
        pace.pause(1000, key="new")
        tasks.append(Task(lambda: ask("new")))
        assert ask("other") == "other"
        assert pace.statistics_of("new").waiting == 1
        pace.pause(5, key="new")  # takes the place of the longer one
        time.sleep(6)
        for task in tasks:
            task.wait()
        assert time.now() < 60


def test_a_shorter_pause_takes_the_place_of_a_longer_one_without_keys_too() -> None:
    pace = ramp_up()
    with VirtualClock() as time:
        pace.pause(1000)
        task = Task(pace(lambda: None))
        pace.pause(3)
        task.wait()
        assert time.now() == pytest.approx(3)


def test_the_limit_can_be_set_while_threads_wait() -> None:
    tenants, limit = Tenants(10.0), bounded(1, per_key=lambda tenant: tenant)
    with VirtualClock() as time:
        ask = limit(tenants)
        tasks = [Task(lambda key=key: ask(key)) for key in "aabb"]  # type: ignore[misc]
        time.sleep(1)
        limit.n = 2
        assert (limit.n, limit.statistics().limit, limit.statistics_of("new").limit) == (2, 2, 2)
        for task in tasks:
            task.wait()
        assert time.now() == 11
        with pytest.raises(ConfigError):
            limit.n = 0
        assert limit.n == 2


def test_shared_with_a_limit_for_all_both_hold() -> None:
    tenants, whole, each = Tenants(), bounded(6), bounded(2, per_key="tenant")
    pace = ramp_up(key="tenant", ceiling=3)

    @stack(whole, each, pace, retry())
    def ask(tenant: int) -> object:
        return tenants(tenant)

    with VirtualClock(3, shuffle=True):
        call_all(ask, [item % 40 for item in range(200)])
        assert whole.statistics().peak == 6
        assert each.statistics().in_flight == each.statistics().waiting == pace.statistics().pace.in_flight == 0
    assert max(tenants.peaks.values()) <= 2
    assert tenants.served == 200


def test_held_for_the_call_it_is_a_mutex_for_each_key() -> None:
    server, limit = Server(Kind.FAILURE, Kind.FAILURE), bounded(1, per_key="key", holds="call")

    @limit
    @retry(wait=5, jitter=None, classify=read)
    def ask(key: str) -> str:
        order.append(key)
        return str(server(key))

    order: list[str] = []
    with VirtualClock():
        tasks = [Task(lambda key=key: ask(key)) for key in "aba"]  # type: ignore[misc]
        for task in tasks:
            task.wait()
    assert "".join(order) == "ababa"


# Only idle keys are dropped.

def test_a_key_that_is_held_or_waited_for_is_never_dropped() -> None:
    tenants, limit = Tenants(10.0), bounded(1, per_key="tenant", max_keys=2)

    @limit
    def ask(tenant: str) -> object:
        return tenants(tenant)

    with VirtualClock() as time:
        tasks = [Task(lambda key=key: ask(key)) for key in "aabbcdef"]  # type: ignore[misc]
        time.sleep(1)
        assert limit.statistics().keys == 6
        assert limit.statistics().waiting == 2
        tasks += [Task(lambda: ask("a"))]
        for task in tasks:
            task.wait()
        assert time.now() == 30
        ask("g")
        assert limit.statistics().keys == 2  # all others were idle, and gave way
    assert set(tenants.peaks.values()) == {1}


def test_a_key_for_which_calls_only_wait_is_not_dropped() -> None:
    server, pace = Server(seconds=0.1), ramp_up(key="key", max_keys=1)

    @pace
    def ask(key: str) -> object:
        return server(key)

    with VirtualClock() as time:
        pace.pause(100, key="a")
        first = Task(lambda: ask("a"))
        for key in "bcd":
            ask(key)
        second = Task(lambda: ask("a"))
        assert pace.statistics_of("a").waiting == 2
        first.wait()
        second.wait()
        assert min(server.starts[3:]) >= 100
        assert time.now() < 101


def test_a_place_that_a_late_function_keeps_is_not_dropped() -> None:
    limit = bounded(1, per_key="key", max_keys=1, max_wait=0)

    @limit
    @timeout(1)
    def ask(key: str, seconds: float) -> None:
        clock.current().sleep(seconds)

    with VirtualClock() as time:
        with pytest.raises(TimeoutError):
            ask("a", 100)
        for key in "bcd":
            ask(key, 0)
        with pytest.raises(Saturated):
            ask("a", 0)
        time.sleep(100)
        ask("a", 0)


def test_what_was_learned_is_kept_for_so_many_keys() -> None:
    pace = ramp_up(key="key", max_keys=3)

    @pace
    def ask(key: int) -> None:
        clock.current().sleep(0.1)

    with VirtualClock():
        for key in (1, 2, 3, 1, 4):
            ask(key)
        known = [pace.statistics_of(key).pace.state != "cold" for key in (1, 2, 3, 4)]
    assert known == [True, False, True, True]


def test_policies_and_keys_that_are_dropped_leave_nothing_behind() -> None:
    class Key:
        pass

    def made() -> list[weakref.ref[Any]]:
        limit, pace, key = bounded(1, per_key="key"), ramp_up(key="key"), Key()
        ask = limit(pace(retry(lambda key: None)))
        ask(key)
        return [weakref.ref(each) for each in (ask, limit, pace, limit._gate, pace._gate, key)]

    with VirtualClock():
        kept = made()
        gc.collect()
        assert [each() for each in kept] == [None] * 6


@pytest.mark.real
def test_among_threads_no_key_has_two_limits() -> None:
    limit = bounded(1, per_key="key", max_keys=1)
    inside: Counter[int] = Counter()
    wrong: list[int] = []

    @limit
    def ask(key: int) -> None:
        inside[key] += 1
        if inside[key] != 1:
            wrong.append(key)
        for _ in range(50):
            pass
        inside[key] -= 1

    def work(first: int) -> None:
        for item in range(400):
            ask((first + item) % 4)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(6)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    finally:
        sys.setswitchinterval(before)
    assert not wrong
    assert limit.statistics().in_flight == 0


# Which key a call has.

def taken(function: Callable[..., Any], *args: Any, option: Any = "model", **kwargs: Any) -> list[object]:
    """The keys that a call of `function` uses."""
    limit = bounded(1, per_key=option)
    limit(function)(*args, **kwargs)
    return [key for key in ("x", "y", "default", None, 3) if limit.statistics_of(key).peak]


def plain(prompt: str, model: str = "default") -> None: ...
def by_name_only(prompt: str, *, model: str = "default", **more: object) -> None: ...
def by_place_only(model: str, /, **more: object) -> None: ...
def both_by_place(prompt: str, model: str = "default", /, **more: object) -> None: ...
def required(prompt: str, model: str) -> None: ...


@pytest.mark.parametrize(("keys", "wanted"), [
    (lambda: taken(plain, "p"), ["default"]), (lambda: taken(plain, "p", "x"), ["x"]),
    (lambda: taken(plain, model="x", prompt="p"), ["x"]), (lambda: taken(plain, "p", model=None), [None]),
    (lambda: taken(by_name_only, "p"), ["default"]), (lambda: taken(by_name_only, "p", model="y", other=3), ["y"]),
    (lambda: taken(by_place_only, "x", model="y"), ["x"]),
    (lambda: taken(both_by_place, "p", model="y"), ["default"]), (lambda: taken(partial(plain, "p"), "y"), ["y"]),
    (lambda: taken(partial(required, model="x"), "p"), ["x"]),
    (lambda: taken(partial(required, model="x"), "p", model="y"), ["y"]),
    (lambda: taken(plain, "abc", option=lambda prompt, model="y": len(prompt)), [3]),
    (lambda: taken(plain, "abc", model="x", option=lambda prompt, model: model), ["x"]),
])
def test_a_name_is_bound_as_the_call_binds_it(keys: Callable[[], list[object]], wanted: list[object]) -> None:
    with VirtualClock():
        assert keys() == wanted


def test_methods_have_their_instance_as_an_argument() -> None:
    own, by_model = bounded(1, per_key="self"), bounded(1, per_key=lambda self, model: model)
    by_class = ramp_up(key="cls")

    class Client:
        @own
        @by_model
        def ask(self, model: str) -> str:
            time.sleep(1)
            return model

        @classmethod
        @by_class
        def names(cls) -> str:
            return cls.__name__

        @staticmethod
        @bounded(1, per_key="model")
        def free(model: str) -> str:
            return model

    one, two = Client(), Client()
    with VirtualClock() as time:
        tasks = [Task(lambda at=at: (one, two)[at % 2].ask("x")) for at in range(4)]  # type: ignore[misc]
        assert [task.wait() for task in tasks] == ["x"] * 4
        assert own.statistics().keys == 2
        assert by_model.statistics().keys == 1
        assert Client.ask(one, model="y") == one.ask.with_options(timeout=5)("y") == "y"
        assert own.statistics().keys == by_model.statistics().keys == 2
        again = retry(bounded(1, per_key="model")(one.ask))  # the keys below are read as before
        assert again("x") == "x"
        assert own.statistics().keys == by_model.statistics().keys == 2
        assert (Client.names(), Client.free("x")) == ("Client", "x")
        assert by_class.statistics_of(Client).pace.state != "cold"


def test_a_policy_shared_by_functions_finds_the_parameter_in_each() -> None:
    limit = bounded(1, per_key="model")
    one, two = limit(lambda model, prompt: prompt), limit(lambda prompt, model="x": prompt)
    with VirtualClock():
        one("x", "p")
        two("p")
        limit(lambda *, model: None)(model="y")
        stack(limit).call(plain, "p", "z")
    assert limit.statistics().keys == 3


@pytest.mark.parametrize("function", [
    lambda prompt: None, lambda *model: None, lambda prompt, **model: None, print, max],
    ids=["other", "args", "kwargs", "print", "without signature"])
@pytest.mark.parametrize(("policy", "parameter"), [(ramp_up(key="model"), "key"),
                                                   (bounded(1, per_key="model"), "per_key")])
def test_a_parameter_that_is_not_there_is_refused_at_decoration(policy: Any, parameter: str,
                                                                function: Callable[..., object]) -> None:
    for use in (policy, stack(policy), stack(policy).call):
        with pytest.raises(ConfigError) as error:
            use(function)
        assert (error.value.parameter, error.value.value) == (parameter, "model")


def test_below_a_guarded_function_the_parameter_is_looked_for_too() -> None:
    with pytest.raises(ConfigError, match=r"prompt, loud"):
        ramp_up(key="model")(retry(lambda prompt, loud=False: None))


# What goes wrong.

def test_an_error_of_the_key_function_reaches_the_caller_as_it_is() -> None:
    error = LookupError("no tenant")

    def no_key(item: int) -> str:
        asked.append(item)
        raise error

    asked: list[int] = []
    limit, pace = bounded(1), ramp_up(key=no_key)
    ask = fallback("other")(limit(retry(pace(lambda item: item))))
    with VirtualClock(), pytest.raises(LookupError) as raised:
        ask(3)
    assert raised.value is error
    assert not hasattr(error, "__notes__")
    assert asked == [3]
    assert (limit.statistics().in_flight, limit.statistics().peak, pace.statistics().keys) == (0, 0, 0)


def test_a_key_must_be_hashable() -> None:
    limit = bounded(1, per_key="prompt")
    with VirtualClock(), pytest.raises(TypeError, match="unhashable"):
        limit(plain)([SECRET])  # type: ignore[arg-type]
    assert limit.statistics().keys == 0


def test_a_wrong_call_is_the_callers_own_error() -> None:
    ask = bounded(1, per_key="model")(required)
    with VirtualClock(), pytest.raises(TypeError, match="missing a required argument: 'model'"):
        ask("p")  # type: ignore[call-arg]


@pytest.mark.parametrize("policy", [ramp_up(), bounded(1)], ids=repr)
def test_one_key_can_only_be_asked_for_where_there_are_keys(policy: Any) -> None:
    with pytest.raises(ConfigError, match="given to") as error:
        policy.statistics_of(SECRET)
    assert SECRET not in str(error.value)


def test_a_policy_that_the_call_holds_is_passed_through_whatever_the_key() -> None:
    def key_of(key: str) -> str:
        asked.append(key)
        return key

    asked: list[str] = []
    limit = bounded(1, per_key=key_of)
    inner = limit(bounded(1, per_key="key")(lambda key: limit.statistics().in_flight))
    outer = limit(lambda key: (inner("other"), inner(key)))
    with VirtualClock():
        assert outer("one") == (1, 1)
    assert asked == ["one"]


def test_calls_for_one_key_that_wait_for_each_other_are_refused() -> None:
    one, two = bounded(1, per_key="key"), bounded(1, per_key="key")
    inner_one, inner_two = one(lambda key: time.sleep(1)), two(lambda key: time.sleep(1))

    def calls(function: Callable[[str], None]) -> Callable[[str], None]:
        def outer(key: str) -> None:
            time.sleep(1)
            function(key)
        return outer

    with VirtualClock() as time:
        first, second = one(calls(inner_two)), two(calls(inner_one))
        tasks = [Task(lambda: first("k")), Task(lambda: second("k"))]
        errors = [task.ended().error for task in tasks]
        assert [type(error) for error in errors].count(Saturated) == 1
        tasks = [Task(lambda: first("k")), Task(lambda: second("l"))]
        assert [task.ended().error for task in tasks] == [None, None]


# What is told.

def test_the_statistics_are_those_of_all_keys_together() -> None:
    tenants, limit, pace = Tenants(10.0), bounded(3, per_key="key"), ramp_up(key="key", start=2)

    @limit
    @pace
    def ask(key: str) -> object:
        return tenants(key)

    with VirtualClock() as time:
        assert (pace.statistics().keys, pace.statistics().pace.state, pace.statistics().pace.rate) == (0, "cold", None)
        tasks = [Task(lambda key=key: ask(key)) for key in "aaaabc"]  # type: ignore[misc]
        time.sleep(3)
        whole, of_a = limit.statistics(), limit.statistics_of("a")
        assert (whole.in_flight, whole.waiting, whole.peak, whole.limit, whole.keys) == (5, 1, 3, 3, 3)
        assert (of_a.in_flight, of_a.waiting, of_a.peak, of_a.limit, of_a.keys) == (3, 1, 3, 3, 1)
        assert limit.statistics_of("unknown").in_flight == limit.statistics_of("unknown").peak == 0
        assert (pace.statistics().pace.in_flight, pace.statistics().waiting) == (5, 1)
        assert (pace.statistics().pace.rate, pace.statistics().pace.window) == (6, 12)
        assert pace.statistics_of("a").pace.in_flight == 3
        assert pace.statistics_of("unknown").pace.state == "cold"
        assert pace.statistics().keys == 3  # asking makes none
        pace.pause(5, key="b")
        assert pace.statistics().pace.state == "mixed"
        assert pace.statistics().pace.gate_in == 0
        for task in tasks:
            task.wait()
        assert pace.statistics().pace.latency == pytest.approx(10)


def test_changes_of_state_are_told_for_each_key(everywhere: list[Event]) -> None:
    servers = {"a": Server((Kind.LOADING, 5.0)), "b": Server()}
    ask = ramp_up(key=lambda key: key, classify=read)(retry(lambda key: servers[key]()))
    with VirtualClock():
        ask("b")
        ask("a")
        ask("b")
    changes = [(event.before, event.after) for event in everywhere if isinstance(event, StateChanged)]
    assert changes == [("cold", "ramping")] * 2


def test_no_key_in_errors_events_logs_or_reprs(everywhere: list[Event], caplog: pytest.LogCaptureFixture) -> None:
    limit, pace = bounded(1, per_key="tenant", max_wait=1), ramp_up(key="tenant", ceiling=0.01)

    @limit
    @pace
    @timeout(3)
    @retry(attempts=2)
    def ask(tenant: str) -> None:
        raise ConnectionError("gone")

    said: list[str] = []
    with VirtualClock(), caplog.at_level(logging.DEBUG):
        tasks = [Task(lambda: ask(SECRET)) for _ in range(3)]
        errors = [task.ended().error for task in tasks]
        for error in errors:
            said += [str(error), repr(error), repr(vars(error)), str(getattr(error, "__notes__", ""))]
        for each in (limit, pace):
            said += [repr(each), repr(each.statistics()), repr(each.statistics_of(SECRET)), repr(each._gate)]
    said += [repr(ask), repr(ask.stack), repr(ask.statistics())]
    said += [repr(event) for event in everywhere] + [record.getMessage() for record in caplog.records]
    assert len({type(error) for error in errors}) == 2
    assert everywhere
    assert not [text for text in said if SECRET in text]
