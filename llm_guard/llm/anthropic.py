"""Ready calls to a model on Anthropic's API, or on a server that speaks as it does."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, overload

from llm_guard.checks import whole
from llm_guard.llm import options
from llm_guard.llm.options import Timeout
from llm_guard.llm.ready import Prompt, chat, given, ready
from llm_guard.llm.sending import Provider, Sender
from llm_guard.llm.text import Text

if TYPE_CHECKING:
    import requests

ANTHROPIC: Final = Provider("anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY", (".anthropic.com",),
                            "x-api-key", (("anthropic-version", "2023-06-01"),))
MAX_TOKENS: Final = 4096
_TAKEN: Final = ("model", "messages", "stream", "max_tokens")


class AnthropicAsking(NamedTuple):
    """Its messages."""

    model: str
    max_tokens: int
    parameters: dict[str, Any]
    path: str = "/v1/messages"

    def body(self, prompt: Prompt, stream: bool) -> dict[str, Any]:
        """Messages of the system, which this API takes apart, come first in other providers' chats."""
        messages = chat(prompt)
        asked: dict[str, Any] = {"model": self.model, "max_tokens": self.max_tokens}
        rules = []
        while messages and messages[0].get("role") == "system":
            rules.append(messages.pop(0).get("content"))
        if len(rules) == 1:
            asked["system"] = rules[0]
        elif rules:
            asked["system"] = [part for rule in rules for part in (
                rule if isinstance(rule, list) else [{"type": "text", "text": rule}])]
        asked["messages"] = messages
        if stream:
            asked["stream"] = True
        return given(asked, self.parameters)


@overload
def anthropic(model: str, *, max_tokens: int = ..., stream: Literal[False] = ..., url: str | None = ...,
              key: str | None = ..., parameters: Mapping[str, Any] | None = ..., session: requests.Session | None = ...,
              timeout: Timeout = ...) -> Callable[[Prompt], Text]: ...


@overload
def anthropic(model: str, *, max_tokens: int = ..., stream: Literal[True], url: str | None = ...,
              key: str | None = ..., parameters: Mapping[str, Any] | None = ..., session: requests.Session | None = ...,
              timeout: Timeout = ...) -> Callable[[Prompt], Generator[str, None, Text]]: ...


def anthropic(model: str, *, max_tokens: int = MAX_TOKENS, stream: bool = False, url: str | None = None,
              key: str | None = None, parameters: Mapping[str, Any] | None = None,
              session: requests.Session | None = None, timeout: Timeout = None) -> Any:
    """A function that sends a prompt to `model` and returns the text of its answer, or yields it where it streams.

    The prompt is a str or a list of messages; those of the role "system" at its head go out as this API's `system`. It
    posts to `{url}/v1/messages`, where `url` is the base of a server, by default Anthropic's. This API wants a bound on
    the answer: `max_tokens`. `parameters` (temperature, stop_sequences, ...) stand in the body beside the prompt.

    `key` goes out as `x-api-key`; redirects are not followed, since it would go along. Without it the environment's
    ANTHROPIC_API_KEY, as it is at each call, goes out to Anthropic's own hosts over https alone. The rest is as in
    `huggingface`.
    """
    options.model_name(model, "claude-sonnet-4-5")
    asking = AnthropicAsking(model, whole("max_tokens", max_tokens, least=1), options.copied(parameters, _TAKEN))
    sender = Sender(ANTHROPIC, options.base(url, ANTHROPIC.base), options.secret("key", key), session,
                    options.pair(timeout))
    return ready(asking, sender, "anthropic", stream)
