"""Ready calls to a model on OpenAI's API, or on one of the many servers that speak as it does."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, overload
from urllib.parse import urlsplit

from llm_guard.checks import one_of
from llm_guard.llm import options
from llm_guard.llm.options import Timeout
from llm_guard.llm.ready import Prompt, chat, given, plain, ready
from llm_guard.llm.sending import Provider, Sender
from llm_guard.llm.text import Text

if TYPE_CHECKING:
    import requests

OPENAI: Final = Provider("openai", "https://api.openai.com/v1", "OPENAI_API_KEY", (".openai.com",))
_PATHS: Final = {"chat": "/chat/completions", "completion": "/completions", "responses": "/responses"}
_TAKEN: Final = ("model", "messages", "prompt", "input", "stream")

Endpoint = Literal["chat", "completion", "responses"]


class OpenAIAsking(NamedTuple):
    """One of its endpoints."""

    model: str
    endpoint: str
    parameters: dict[str, Any]
    path: str

    def body(self, prompt: Prompt, stream: bool) -> dict[str, Any]:
        """A chat takes messages, and so do responses; a completion takes a text."""
        asked: dict[str, Any] = {"model": self.model}
        if self.endpoint == "chat":
            asked["messages"] = chat(prompt)
        elif self.endpoint == "responses":
            asked["input"] = prompt if isinstance(prompt, str) else chat(prompt)
        else:
            asked["prompt"] = plain(prompt)
        if stream:
            asked["stream"] = True
            if self.endpoint != "responses":  # which tells what it used in any case
                asked["stream_options"] = {"include_usage": True}
        return given(asked, self.parameters)


@overload
def openai(model: str, *, endpoint: Endpoint = ..., stream: Literal[False] = ..., url: str | None = ...,
           key: str | None = ..., parameters: Mapping[str, Any] | None = ..., session: requests.Session | None = ...,
           timeout: Timeout = ...) -> Callable[[Prompt], Text]: ...


@overload
def openai(model: str, *, endpoint: Endpoint = ..., stream: Literal[True], url: str | None = ...,
           key: str | None = ..., parameters: Mapping[str, Any] | None = ..., session: requests.Session | None = ...,
           timeout: Timeout = ...) -> Callable[[Prompt], Generator[str, None, Text]]: ...


def openai(model: str, *, endpoint: Endpoint = "chat", stream: bool = False, url: str | None = None,
           key: str | None = None, parameters: Mapping[str, Any] | None = None,
           session: requests.Session | None = None, timeout: Timeout = None) -> Any:
    """A function that sends a prompt to `model` and returns the text of its answer, or yields it where it streams.

    The prompt is a str or, but for "completion", a list of messages. `endpoint` is one of "chat"
    (`{url}/chat/completions`), "completion" (`{url}/completions`) and "responses" (`{url}/responses`); `url` is the
    base of the API, by default OpenAI's, and gets `/v1` where it has no path. `parameters` (temperature, max_tokens,
    ...) stand in the body beside the prompt; a None among them takes out what goes along by itself (`stream_options`).

    `key` goes out as a bearer token. Without it the environment's OPENAI_API_KEY, as it is at each call, goes out to
    OpenAI's own hosts over https alone. The rest is as in `huggingface`.
    """
    options.model_name(model, "gpt-4o-mini")
    path = _PATHS[one_of("endpoint", endpoint, tuple(_PATHS))]
    base = options.base(url, OPENAI.base)
    if not urlsplit(base).path:
        base += "/v1"
    asking = OpenAIAsking(model, endpoint, options.copied(parameters, _TAKEN), path)
    sender = Sender(OPENAI, base, options.secret("key", key), session, options.pair(timeout))
    return ready(asking, sender, "openai", stream)
