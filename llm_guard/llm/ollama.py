"""Ready calls to a model on Ollama."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, overload

from llm_guard.checks import one_of
from llm_guard.llm import options
from llm_guard.llm.options import Timeout
from llm_guard.llm.ready import Prompt, chat, given, plain, ready
from llm_guard.llm.sending import Provider, Sender
from llm_guard.llm.text import Text

if TYPE_CHECKING:
    import requests

OLLAMA: Final = Provider("ollama", "http://127.0.0.1:11434", "OLLAMA_API_KEY", (".ollama.com",))
_PATHS: Final = {"chat": "/api/chat", "completion": "/api/generate"}
_TAKEN: Final = ("model", "messages", "prompt", "stream")

Endpoint = Literal["chat", "completion"]


class OllamaAsking(NamedTuple):
    """One of its endpoints."""

    model: str
    endpoint: str
    parameters: dict[str, Any]
    path: str

    def body(self, prompt: Prompt, stream: bool) -> dict[str, Any]:
        """A chat takes messages, a completion a text. This API streams unless it is told not to."""
        asked = {"messages": chat(prompt)} if self.endpoint == "chat" else {"prompt": plain(prompt)}
        return given({"model": self.model, **asked, "stream": stream}, self.parameters)


@overload
def ollama(model: str, *, endpoint: Endpoint = ..., stream: Literal[False] = ..., url: str | None = ...,
           key: str | None = ..., parameters: Mapping[str, Any] | None = ..., session: requests.Session | None = ...,
           timeout: Timeout = ...) -> Callable[[Prompt], Text]: ...


@overload
def ollama(model: str, *, endpoint: Endpoint = ..., stream: Literal[True], url: str | None = ...,
           key: str | None = ..., parameters: Mapping[str, Any] | None = ..., session: requests.Session | None = ...,
           timeout: Timeout = ...) -> Callable[[Prompt], Generator[str, None, Text]]: ...


def ollama(model: str, *, endpoint: Endpoint = "chat", stream: bool = False, url: str | None = None,
           key: str | None = None, parameters: Mapping[str, Any] | None = None,
           session: requests.Session | None = None, timeout: Timeout = None) -> Any:
    """A function that sends a prompt to `model` and returns the text of its answer, or yields it where it streams.

    The prompt is a str or, but for "completion", a list of messages. `endpoint` is "chat" (`{url}/api/chat`) or
    "completion" (`{url}/api/generate`); `url` is the base of a server, by default the one on this machine at
    http://127.0.0.1:11434. `parameters` (options, keep_alive, format, ...) stand in the body beside the prompt.

    A server of one's own needs no key; `key` goes out as a bearer token, and without it the environment's
    OLLAMA_API_KEY, as it is at each call, to Ollama's cloud over https alone. The rest is as in `huggingface`.
    """
    options.model_name(model, "llama3.2")
    path = _PATHS[one_of("endpoint", endpoint, tuple(_PATHS))]
    asking = OllamaAsking(model, endpoint, options.copied(parameters, _TAKEN), path)
    sender = Sender(OLLAMA, options.base(url, OLLAMA.base), options.secret("key", key), session,
                    options.pair(timeout))
    return ready(asking, sender, "ollama", stream)
