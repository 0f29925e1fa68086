"""Bad options are refused at decoration, with the parameter, the value and what is allowed."""

from __future__ import annotations

import math
import pickle
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import backoff
import pytest

from llm_guard import (
    ConfigError,
    GuardError,
    bounded,
    breaker,
    deadline,
    fallback,
    map_with_backpressure,
    ramp_up,
    retry,
    stack,
    stream,
    timeout,
)

NAN, INF = math.nan, math.inf


async def a_key_that_cannot_be(prompt: str) -> str:
    return prompt


BAD: list[tuple[Callable[..., object], str, list[object]]] = [
    (bounded, "n", [0, -1, "8", True, NAN, 2.0, None, INF, [8]]),
    (bounded, "max_wait", [-1, "1", NAN, True]),
    (bounded, "holds", ["forever", None, 1, True]),
    (timeout, "seconds", [-1, 0, NAN, INF, "1", True, None]),
    (timeout, "max_still_running", [0, 1.5, "8", True]),
    (timeout, "first_item", [0, -1, "5", NAN, INF, True]),
    (timeout, "idle", [0, -1, "5", NAN, INF, True]),
    (deadline, "seconds", [0, -1, NAN, INF, "1", False, None]),
    (retry, "attempts", [0, -1, "8", 2.5, True, None]),
    (retry, "max_refusal_wait", [-1, NAN, INF, "600", None]),
    (retry, "budget", [2, 0, -0.1, "0.2", NAN, True]),
    (retry, "retry_on", [5, "ValueError", (), (ValueError, 5), KeyboardInterrupt, int, [ValueError]]),
    (retry, "wait", ["1", -1, NAN, [1, 2], backoff.expo(), lambda: 3, lambda required: iter([1])]),
    (retry, "jitter", ["full", 1, lambda wait: "1", lambda: 1.0]),
    (retry, "classify", ["read", 5]),
    (breaker, "failure_rate", [0, 2, -0.5, "0.5", NAN, True]),
    (breaker, "window", [0, -1, 2.5, "20", True, 10**12]),
    (breaker, "window_seconds", [0, -1, "20", NAN]),
    (breaker, "min_calls", [0, 1.5, "10", True]),
    (breaker, "slow_call", [0, -1, "5", NAN]),
    (breaker, "slow_rate", [0, 2, "1", NAN]),
    (breaker, "open_for", [-1, "5", NAN, INF, None]),
    (breaker, "trials", [0, 1.5, "1", True]),
    (breaker, "name", ["", 5]),
    (breaker, "classify", ["read"]),
    (ramp_up, "start", [0, -1, "1", NAN, INF, True]),
    (ramp_up, "ceiling", [0, -1, "1", NAN, INF, True]),
    (ramp_up, "max_wait", [-1, "1", NAN]),
    (ramp_up, "classify", ["read"]),
    (ramp_up, "key", [5, b"model", ["model"], a_key_that_cannot_be]),
    (ramp_up, "max_keys", [0, -1, 2.5, "8", True, None]),
    (ramp_up, "ramp_time", [60, 0, -1, "60", NAN, INF, True]),
    (ramp_up, "max_growth", [1.5, (), (1.5,), (1.5, 900, 3), (1, 900), (0.5, 900), (1.5, 0), (1.5, -1), ("1.5", 900),
                             (NAN, 900), (1.5, INF), "ab", True, {1.5, 900}]),
    (ramp_up, "idle", [0, -1, "60", NAN, INF, True]),
    (bounded, "per_key", [5, b"model", ["model"], a_key_that_cannot_be]),
    (bounded, "max_keys", [0, -1, 2.5, "8", True, None]),
    (fallback, "on", [5, "ValueError", (), (ValueError, "x"), KeyboardInterrupt]),
    (stack, "classify", ["read", 5]),
]
FIRST: dict[Callable[..., object], tuple[str, ...]] = {
    bounded: ("n",), timeout: ("seconds",), deadline: ("seconds",)}
CASES = [(policy, name, value) for policy, name, values in BAD for value in values]


def _made(policy: Callable[..., object], name: str, value: object) -> object:
    first: dict[Callable[..., object], tuple[object, ...]] = {bounded: (8,), fallback: ("other",)}
    if name in FIRST.get(policy, ()):
        return policy(value)
    return policy(*first.get(policy, ()), **{name: value})


@pytest.mark.parametrize(("policy", "name", "value"), CASES,
                         ids=[f"{policy.__name__}-{name}-{at}" for at, (policy, name, _) in enumerate(CASES)])
def test_a_bad_option_names_itself_its_value_and_what_is_allowed(policy: Callable[..., object], name: str,
                                                                value: object) -> None:
    with pytest.raises(ConfigError) as raised:
        _made(policy, name, value)
    error = raised.value
    assert isinstance(error, ValueError)
    assert isinstance(error, GuardError)
    assert error.parameter == name
    assert error.value is value
    assert str(error) == f"{name}={value!r} is not allowed: {error.allowed}"
    assert len(error.allowed) > 5


def test_a_config_error_can_be_pickled() -> None:
    with pytest.raises(ConfigError) as raised:
        bounded(0)
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.parameter, again.value, again.allowed) == (
        str(raised.value), "n", 0, raised.value.allowed)


async def a_coroutine(prompt: str) -> str:
    return prompt


async def an_async_generator(prompt: str) -> AsyncIterator[str]:
    yield prompt


class AsyncCallable:
    async def __call__(self, prompt: str) -> str:
        return prompt


UNGUARDABLE = {
    "coroutine function": a_coroutine, "async generator": an_async_generator,
    "class": AsyncCallable, "exception class": ValueError, "partial of a coroutine": partial(a_coroutine, "x"),
    "async callable": AsyncCallable(), "partial of an async callable": partial(AsyncCallable(), "x"),
    "bound coroutine method": AsyncCallable().__call__, "property": property(lambda self: 1),
}
POLICIES: dict[str, Callable[[Any], object]] = {
    "bare retry": retry, "retry": retry(), "bare timeout": timeout, "timeout": timeout(5), "bare breaker": breaker,
    "breaker": breaker(), "bare ramp_up": ramp_up, "ramp_up": ramp_up(), "bounded": bounded(8),
    "deadline": deadline(5), "fallback": fallback("other"), "stack": stack(retry()), "call": stack(retry()).call,
    "bare stream": stream, "stream": stream(),
}


@pytest.mark.parametrize(("kind", "policy"), [
    (kind, policy) for kind in UNGUARDABLE for policy in POLICIES
    if kind != "property" or not policy.startswith("bare ")])  # there it is taken for an option
def test_what_cannot_be_guarded_is_refused(kind: str, policy: str) -> None:
    with pytest.raises(ConfigError) as error:
        POLICIES[policy](UNGUARDABLE[kind])
    assert error.value.parameter == "function"


@pytest.mark.parametrize(("policy", "name"), [
    (retry, "attempts"), (breaker, "failure_rate"), (ramp_up, "start"), (timeout, "seconds")])
@pytest.mark.parametrize("value", ["5", None, [5]])
def test_what_stands_in_the_place_of_the_function_is_told_where_it_belongs(policy: Any, name: str,
                                                                           value: object) -> None:
    if value is None and policy is not timeout:
        assert policy(None) is not None  # as in @retry(): no function yet
        return
    with pytest.raises(ConfigError) as error:
        policy(value)
    assert error.value.parameter == name


@pytest.mark.parametrize("policy", [bounded, deadline])
def test_what_needs_an_option_says_so_when_it_is_used_bare(policy: Any) -> None:
    with pytest.raises(ConfigError, match=f"write @{policy.__name__}"):
        policy(lambda: None)


def test_a_fallback_used_bare_does_not_tell_the_prompt_it_is_called_with() -> None:
    @fallback
    def ask(prompt: str) -> str:
        return prompt

    with pytest.raises(ConfigError, match="function") as error:
        ask("the secret prompt")  # type: ignore[arg-type]
    assert "secret" not in str(error.value)
    assert "secret" not in repr(vars(error.value))


@pytest.mark.parametrize("build", [
    lambda: retry(retry(lambda: None)),
    lambda: retry(bounded(1)(retry(attempts=3)(lambda: None))),
    lambda: stack(retry(), bounded(1), retry()),
    lambda: retry(stack(retry())(lambda: None)),
])
def test_two_retries_in_a_stack_are_refused(build: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="one @retry") as error:
        build()
    assert error.value.parameter == "retry"


@pytest.mark.parametrize("wrong", ["x", retry, None, lambda: None, 5, [retry()]])
def test_a_stack_is_made_of_policies(wrong: Any) -> None:
    with pytest.raises(ConfigError) as error:
        stack(bounded(1), wrong)
    assert error.value.parameter == "policies"


@pytest.mark.parametrize("build", [
    lambda one, two: retry(classify=one)(breaker(classify=two)(lambda: None)),
    lambda one, two: stack(ramp_up(classify=one), classify=two),
    lambda one, two: stack(bounded(1), classify=one)(retry(classify=two)(lambda: None)),
    lambda one, two: stack(bounded(1), classify=one)(stack(retry(), classify=two)(lambda: None)),
    lambda one, two: ramp_up(classify=one)(stack(retry(), classify=two)(lambda: None)),
])
def test_a_stack_reads_ends_in_one_way(build: Callable[..., object]) -> None:
    def one(end: object) -> None: ...

    def two(end: object) -> None: ...

    build(one, one)
    with pytest.raises(ConfigError, match="once") as error:
        build(one, two)
    assert error.value.parameter == "classify"


def test_a_refused_policy_leaves_the_function_below_as_it_was() -> None:
    below = retry(lambda: "answer")
    with pytest.raises(ConfigError):
        retry(below)
    assert len(below.guards) == 1


@pytest.mark.parametrize(("setting", "values"), [
    ("n", [0, "8", True, 2.5]), ("seconds", [0, -1, "5", NAN])])
def test_live_settings_are_checked_too(setting: str, values: list[object]) -> None:
    policies = [bounded(3)] if setting == "n" else [timeout(3), deadline(3)]
    for policy in policies:
        for value in values:
            with pytest.raises(ConfigError) as error:
                setattr(policy, setting, value)
            assert error.value.parameter == setting
        assert getattr(policy, setting) == 3


def test_a_coroutine_function_is_refused_wherever_one_is_called() -> None:
    async def ask(item: object) -> object:
        return item

    for use in (lambda: map_with_backpressure(ask, [1]), lambda: fallback(ask), lambda: retry(retry_on=ask)):
        with pytest.raises(ConfigError, match="coroutine"):
            use()


def test_a_first_rate_above_the_ceiling_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"start=5.*ceiling, 2"):
        ramp_up(start=5, ceiling=2)
