"""The official clients, whole, through all five decorators, against a server that starts cold, over real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import huggingface_hub
import pytest
from anthropic import Anthropic
from cuts import ends_at_slow_servers
from huggingface_hub import InferenceClient
from huggingface_hub.utils._http import default_client_factory
from openai import OpenAI

from llm_guard import Kind, bounded, breaker, map_with_backpressure, ramp_up, retry, timeout
from llm_guard.llm import httpx_client, outcome_of, stream_text, text_of
from llm_guard.testing.cold_server import cold_server
from llm_guard.testing.server import SCENARIOS

pytestmark = [pytest.mark.real, pytest.mark.once]

#: Loads first and refuses meanwhile, then has a short queue.
COLD = SCENARIOS["A5"]
PROMPTS = [f"prompt number {number}" for number in range(16)]
WHOLE = [f"echo: {prompt}" for prompt in PROMPTS]


@pytest.fixture(autouse=True)
def _hugging_face_s_client() -> Iterator[None]:
    huggingface_hub.set_client_factory(httpx_client)  # for all of that library, which has no other place for it
    yield
    huggingface_hub.set_client_factory(default_client_factory)


def messages(prompt: str) -> Any:
    return [{"role": "user", "content": prompt}]


# For the URL of a server, a function from a prompt to what the client returns. Their own retries are off: two layers of
# them multiply, and those of the client hide what the server says.


def openai_client(url: str, **options: Any) -> OpenAI:
    return OpenAI(base_url=url + "/v1", api_key="none", **{"max_retries": 0, "http_client": httpx_client()} | options)


def openai_chat(url: str, **more: Any) -> Callable[[str], Any]:
    client = openai_client(url)
    return lambda prompt: client.chat.completions.create(model="m", messages=messages(prompt), **more)


def openai_completion(url: str, **more: Any) -> Callable[[str], Any]:
    client = openai_client(url)
    return lambda prompt: client.completions.create(model="m", prompt=prompt, **more)


def openai_responses(url: str, **more: Any) -> Callable[[str], Any]:
    client = openai_client(url)
    return lambda prompt: client.responses.create(model="m", input=prompt, **more)


def anthropic_messages(url: str, **more: Any) -> Callable[[str], Any]:
    client = Anthropic(base_url=url, api_key="none", max_retries=0, http_client=httpx_client())
    return lambda prompt: client.messages.create(model="m", max_tokens=99, messages=messages(prompt), **more)


def huggingface_chat(url: str, **more: Any) -> Callable[[str], Any]:
    client = InferenceClient(base_url=url + "/models/m", token="none")
    return lambda prompt: client.chat_completion(messages(prompt), **more)


def huggingface_generation(url: str, **more: Any) -> Callable[[str], Any]:
    client = InferenceClient(model=url, token="none")
    return lambda prompt: client.text_generation(prompt, **more)


MAKERS: list[Any] = [openai_chat, openai_completion, openai_responses, anthropic_messages, huggingface_chat,
                     huggingface_generation]
EACH = pytest.mark.parametrize("make", MAKERS)


def guarded(function: Callable[[str], Any]) -> Any:
    return ramp_up(bounded(8)(retry(timeout(20)(breaker(function)))))


def answers(ask: Callable[[str], str]) -> list[str]:
    return list(map_with_backpressure(ask, PROMPTS, workers=8))


@EACH
def test_all_are_answered_from_the_first_call_to_a_cold_model_on(make: Any) -> None:
    with cold_server(replace(COLD, noise=0.1), speed=50) as server:
        call = make(server.url)

        @guarded
        def ask(prompt: str) -> str:
            return text_of(call(prompt))

        assert answers(ask) == WHOLE
        stats: Any = server.stats()
    assert sum(stats["refusals"].values()) >= 1  # it was cold
    assert stats["failures"] >= 1
    # Every call that was made is one that the guards know of: none was hidden by the client's own retries.
    assert stats["calls"] == len(PROMPTS) + stats["failures"] + sum(stats["refusals"].values())


@EACH
def test_all_are_answered_as_streams_too(make: Any) -> None:
    with cold_server(COLD, speed=50) as server:
        call = make(server.url, stream=True)

        @guarded
        def ask(prompt: str) -> Iterator[str]:
            answer = call(prompt)
            yield from answer if make is huggingface_generation else stream_text(answer)

        assert answers(lambda prompt: "".join(ask(prompt))) == WHOLE
        stats: Any = server.stats()
    assert sum(stats["refusals"].values()) >= 1
    assert stats["abandoned"] == 0


@EACH
def test_a_stream_that_is_taken_whole_in_the_guarded_function_is_tried_again_where_it_breaks(make: Any) -> None:
    with cold_server(replace(COLD, noise=0.2), speed=50) as server:
        call = make(server.url, stream=True)

        @guarded
        def ask(prompt: str) -> str:
            answer = call(prompt)
            return "".join(answer if make is huggingface_generation else stream_text(answer))

        assert answers(ask) == WHOLE
        assert server.stats()["failures"]


@pytest.mark.parametrize("make", [
    lambda url: OpenAI(base_url=url + "/v1", api_key="none", max_retries=0).completions,
    lambda url: Anthropic(base_url=url, api_key="none", max_retries=0).messages], ids=["openai", "anthropic"])
def test_with_http_clients_of_their_own_all_are_answered_too(make: Any) -> None:
    with cold_server(replace(COLD, noise=0.1), speed=50) as server:
        api = make(server.url)
        asked: dict[str, Any] = {"model": "m", "max_tokens": 99}

        @guarded
        def ask(prompt: str) -> str:
            more = {"messages": messages(prompt)} if hasattr(api, "count_tokens") else {"prompt": prompt}
            return text_of(api.create(**asked, **more))

        assert answers(ask) == WHOLE


def test_retries_of_the_client_s_own_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with cold_server(replace(COLD, noise=0.5), speed=50) as server:
        client = openai_client(server.url, max_retries=2)
        ask = guarded(lambda prompt: client.completions.create(model="m", prompt=prompt))
        assert answers(lambda prompt: text_of(ask(prompt))) == WHOLE
    assert [record.levelname for record in caplog.records if "max_retries=0" in record.getMessage()] == ["WARNING"]


@pytest.mark.parametrize(("stream", "seconds"), [(False, 1000.0), (True, 1000.0), (True, 3.0)],
                         ids=["whole", "before the first token", "in the midst"])
def test_calls_that_run_out_of_time_are_cut_off_and_the_server_s_slots_are_free(stream: bool, seconds: float) -> None:
    def call_at(make: Any, url: str) -> Callable[[], str]:
        call = make(url, **({"stream": True} if stream else {}))

        def ask() -> str:
            answer = call("word " * 50)
            if not stream:
                return text_of(answer)
            return "".join(answer if make is huggingface_generation else stream_text(answer))

        return ask

    ends = ends_at_slow_servers([partial(call_at, make) for make in MAKERS], seconds)
    # Of the guard, or in the words of the client that saw its connection cut.
    outcomes = [outcome_of(end) for end in ends]
    assert [outcome and outcome.kind for outcome in outcomes] == [Kind.TIMEOUT] * len(MAKERS), ends
