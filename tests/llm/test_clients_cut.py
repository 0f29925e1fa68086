"""The clients of openai, anthropic and huggingface_hub, as they are: their calls end when the guarded call does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import huggingface_hub
import openai
import pytest
from cuts import BOUND, GUARDS, all_cut, ended_in_time
from huggingface_hub.utils import _http as hub
from raw_server import RawServer, until

from llm_guard import CallTimeout, deadline, outcome_of, timeout
from llm_guard.llm import httpx_client
from llm_guard.outcome import Kind

pytestmark = pytest.mark.real

MESSAGES: Any = [{"role": "user", "content": "a prompt"}]


@pytest.fixture
def _hub_client() -> Iterator[None]:
    huggingface_hub.set_client_factory(httpx_client)
    yield
    huggingface_hub.set_client_factory(hub.default_client_factory)


def ask_openai(url: str, stream: bool) -> Any:
    with httpx_client() as http:
        client = openai.OpenAI(api_key="none", base_url=url, max_retries=0, http_client=http)
        answer: Any = client.chat.completions.create(model="m", messages=MESSAGES, stream=stream)
        return list(answer)


def ask_anthropic(url: str, stream: bool) -> Any:
    with httpx_client() as http:
        client = anthropic.Anthropic(api_key="none", base_url=url, max_retries=0, http_client=http)
        answer: Any = client.messages.create(model="m", max_tokens=9, messages=MESSAGES, stream=stream)
        return list(answer)


def ask_hub(url: str, stream: bool) -> Any:
    client = huggingface_hub.InferenceClient(base_url=url, api_key="none")
    return list(client.chat_completion(MESSAGES, stream=stream))


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("ask", [ask_openai, ask_anthropic, ask_hub])
@pytest.mark.usefixtures("_hub_client")
def test_whatever_the_server_does_its_calls_end_in_time(ask: Callable[[str, bool], Any], guard: Any,
                                                        server: RawServer) -> None:
    bound = guard(BOUND)
    for stream in (True, False):
        all_cut(bound(_caused(lambda evil, stream=stream: ask(server.url + evil, stream))),
                ["/silent", "/drip-head", "/drip/chunked", "/stall/open"])
        assert server.all_gone()
    assert guard is deadline or until(lambda: bound.statistics().still_running == 0)


def _caused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Raises what caused an error of a client's own."""
    def ask(*args: Any) -> Any:
        try:
            return function(*args)
        except Exception as error:
            if isinstance(error, CallTimeout):
                raise
            raise (error.__cause__ or error) from None
    return ask


@pytest.mark.parametrize("ask", [ask_openai, ask_anthropic])
def test_what_they_raise_is_read_as_a_timeout(ask: Callable[[str, bool], Any], server: RawServer) -> None:
    with pytest.raises((openai.APITimeoutError, anthropic.APITimeoutError)) as raised:
        deadline(BOUND)(lambda: ask(server.url + "/silent/", False))()
    outcome = outcome_of(raised.value)
    assert outcome is not None
    assert outcome.kind is Kind.TIMEOUT


def test_one_that_tries_again_by_itself_is_named(server: RawServer, caplog: pytest.LogCaptureFixture) -> None:
    with httpx_client() as http, caplog.at_level(logging.WARNING, "llm_guard"):
        client = openai.OpenAI(api_key="none", base_url=server.url + "/status/503", http_client=http)
        with pytest.raises(openai.InternalServerError):
            timeout(20)(lambda: client.models.list())()
    assert len(server.heads) == 3
    assert "OpenAI tries again by itself" in caplog.text


def test_a_call_that_asks_for_its_own_timeout_has_it(server: RawServer) -> None:
    with httpx_client() as http:
        client = openai.OpenAI(api_key="none", base_url=server.url + "/silent", max_retries=0, http_client=http)
        with pytest.raises(openai.APITimeoutError) as raised:
            deadline(20)(lambda: client.with_options(timeout=0.1).models.list())()
        assert not isinstance(raised.value.__cause__, CallTimeout)
        ended_in_time(deadline(BOUND)(_caused(client.models.list)))
