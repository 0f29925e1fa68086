"""The ready calls through all five decorators, against a server that starts cold, over real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from cuts import ends_at_slow_servers

from llm_guard import CallTimeout, bounded, breaker, map_with_backpressure, ramp_up, retry, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.llm import Text, anthropic, huggingface, ollama, openai, outcome_of, usage_of
from llm_guard.outcome import Kind, Outcome
from llm_guard.testing.cold_server import ColdServer, cold_server
from llm_guard.testing.server import SCENARIOS, Scenario
from llm_guard.testing.server.settings import WindowLimit

pytestmark = [pytest.mark.real, pytest.mark.once]

CALLS: dict[str, Callable[..., Any]] = {
    "openai": openai, "anthropic": anthropic, "ollama": ollama, "huggingface": huggingface,
    "openai, completion": lambda model, **options: openai(model, endpoint="completion", **options),
    "openai, responses": lambda model, **options: openai(model, endpoint="responses", **options),
    "ollama, completion": lambda model, **options: ollama(model, endpoint="completion", **options),
    "huggingface, chat": lambda model, **options: huggingface(model, endpoint="chat", **options),
}
EACH = pytest.mark.parametrize("make", CALLS.values(), ids=CALLS)
#: Loads first and refuses meanwhile, then has a short queue.
COLD = SCENARIOS["A5"]
PROMPTS = [f"prompt number {number}" for number in range(16)]
WHOLE = [f"echo: {prompt}" for prompt in PROMPTS]


def guarded(function: Callable[[str], Any]) -> Any:
    return ramp_up(bounded(8)(retry(timeout(20)(breaker(function)))))


def answers(ask: Callable[[str], str]) -> list[str]:
    return list(map_with_backpressure(ask, PROMPTS, workers=8))


def refused(server: ColdServer) -> int:
    refusals: Any = server.stats()["refusals"]
    return sum(refusals.values())


@EACH
def test_all_are_answered_from_the_first_call_to_a_cold_model_on(make: Callable[..., Any]) -> None:
    with cold_server(replace(COLD, noise=0.05), speed=50) as server:
        found = answers(guarded(make("m", url=server.url)))
        assert found == WHOLE
        assert refused(server) >= 1  # it was cold
    assert all(isinstance(text, Text) for text in found)
    for text in found:
        usage = usage_of(text)
        assert usage is not None
        assert (usage.input, usage.output) == (3, 4)


@EACH
def test_all_are_answered_as_streams_too(make: Callable[..., Any]) -> None:
    with cold_server(COLD, speed=50) as server:
        ask = guarded(make("m", url=server.url, stream=True))
        pieces: list[int] = []

        def whole(prompt: str) -> str:
            found = list(ask(prompt))
            pieces.append(len(found))
            return "".join(found)

        assert answers(whole) == WHOLE
        assert set(pieces) == {4}
        assert refused(server) >= 1
        assert server.stats()["abandoned"] == 0


@pytest.mark.parametrize("make", [openai, anthropic, ollama, huggingface])
def test_a_stream_that_is_taken_whole_in_the_guarded_function_is_tried_again_where_it_breaks(
        make: Callable[..., Any]) -> None:
    with cold_server(replace(COLD, noise=0.15), speed=50, broken=0.1) as server:
        call = make("m", url=server.url, stream=True)

        @guarded
        def ask(prompt: str) -> str:
            return "".join(call(prompt))

        assert answers(ask) == WHOLE
        stats: Any = server.stats()
        assert stats["failures"] + stats["broken"] > 0


@pytest.mark.parametrize(("stream", "seconds"), [(False, 1000.0), (True, 1000.0), (True, 3.0)],
                         ids=["whole", "before the first token", "in the midst"])
def test_calls_that_run_out_of_time_are_cut_off_and_the_server_s_slots_are_free(stream: bool, seconds: float) -> None:
    def call_at(make: Callable[..., Any], url: str) -> Callable[[], str]:
        call = make("m", url=url, stream=stream)
        return lambda: "".join(call("word " * 50))

    ends = ends_at_slow_servers([partial(call_at, make) for make in (openai, anthropic, ollama, huggingface)], seconds)
    assert [end for end in ends if not isinstance(end, CallTimeout)] == []


def told(make: Callable[..., Any], url: str, stream: bool) -> Text:
    call = make("m", url=url, stream=stream)
    if not stream:
        text: Text = call("x")
        return text

    def run() -> Iterator[str]:
        ended.append((yield from call("x")))

    ended: list[Text] = []
    assert "".join(run()) == ended[0]
    return ended[0]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", [name for name in CALLS if "ollama" not in name])  # which tells nothing of it
def test_what_the_account_has_left_comes_with_the_text(name: str, stream: bool) -> None:
    with cold_server(Scenario("left", 8, 0.1, 0.0, limit=WindowLimit(9, 3600.0, remaining=True)), speed=10) as server:
        found = outcome_of(told(CALLS[name], server.url, stream))
    assert found is not None
    assert found.remaining == 8
    assert found.reset is not None
    assert 300 < found.reset <= 360


def test_the_pace_hears_of_it() -> None:
    with VirtualClock() as clock:
        ask = guarded(lambda prompt: Text(prompt, outcome=Outcome(Kind.SUCCESS, remaining=0.0, reset=5.0)))
        ask("x")
        begun = clock.now()
        ask("y")
        assert clock.now() - begun == pytest.approx(5.0, abs=0.5)
