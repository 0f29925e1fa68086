"""`@fallback`: what answers when the call has failed for good."""

from __future__ import annotations

import pickle

import pytest
from scripted import Ended, Server, Task, read

from llm_guard import CircuitOpen, ConfigError, Saturated, bounded, breaker, fallback, retry, stack, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind


def test_it_answers_with_the_arguments_of_the_call_when_all_attempts_have_failed() -> None:
    server = Server(then=Kind.FAILURE)

    def cheaper(prompt: str, *, loud: bool = False) -> str:
        return f"cheaper {prompt} {loud}"

    policy = fallback(cheaper)

    @policy
    @retry(attempts=3, classify=read)
    def ask(prompt: str, *, loud: bool = False) -> str:
        return str(server(prompt))

    with VirtualClock():
        assert ask("hello", loud=True) == "cheaper hello True"
        assert len(server.starts) == 3
        server.then = Kind.SUCCESS
        assert ask("hello") == "hello"
    assert policy.statistics().answered == 1


def test_a_value_is_returned_as_it_is() -> None:
    answer = ["sorry"]
    with VirtualClock():
        assert fallback(answer)(timeout(1)(lambda: 1 / 0))() is answer  # type: ignore[comparison-overlap]


def test_it_answers_for_calls_that_never_started() -> None:
    limit, votes = bounded(1, max_wait=1), breaker()
    ask = fallback("other", on=(Saturated, CircuitOpen))(limit(votes(lambda: time.sleep(60))))
    with VirtualClock() as time:
        Task(ask)
        answers: list[object] = [ask()]
        votes.open()
        answers.append(ask())
        assert answers == ["other"] * 2
        assert time.now() == 1.0


def test_other_errors_pass() -> None:
    policy = fallback("other", on=ConnectionError)
    error = Ended(Kind.INVALID)
    with VirtualClock(), pytest.raises(Ended) as raised:
        policy(retry(classify=read)(Server(error)))()
    assert raised.value is error
    assert policy.statistics().answered == 0


def test_interrupts_pass() -> None:
    with VirtualClock(), pytest.raises(KeyboardInterrupt):
        fallback("other")(Server(KeyboardInterrupt()))()


def test_an_error_of_the_fallback_is_raised_with_the_first_as_its_context() -> None:
    def worse() -> None:
        raise ZeroDivisionError

    with VirtualClock(), pytest.raises(ZeroDivisionError) as raised:
        fallback(worse)(retry(attempts=1)(Server(Ended(Kind.FAILURE))))()
    assert isinstance(raised.value.__context__, Ended)


def test_the_fallback_may_be_guarded_and_shares_no_permit() -> None:
    limit, other_limit = bounded(1), bounded(1)
    other = other_limit(lambda: (limit.statistics().in_flight, other_limit.statistics().in_flight))
    ask = fallback(other)(limit(lambda: 1 / 0))
    with VirtualClock():
        assert ask() == (0, 1)  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("build", [
    lambda: retry(fallback(1)(lambda: 2)),
    lambda: bounded(1)(retry(fallback(1)(lambda: 2))),
    lambda: stack(retry(), fallback(1)),
    lambda: stack(fallback(1), fallback(2)),
    lambda: stack(bounded(1))(stack(fallback(1))(lambda: 2)),
])
def test_it_belongs_outermost(build: object) -> None:
    with pytest.raises(ConfigError, match="outermost") as error:
        build()  # type: ignore[operator]
    assert error.value.parameter == "fallback"


def test_its_repr_shows_no_answer() -> None:
    assert "secret" not in repr(fallback("secret"))
    error = pickle.loads(pickle.dumps(ConfigError("fallback", repr(fallback("secret")), "outermost")))
    assert "secret" not in str(error)
