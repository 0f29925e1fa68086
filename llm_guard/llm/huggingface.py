"""Ready calls to a model on HuggingFace's inference API, or on a server that speaks as it does."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, overload
from urllib.parse import quote

from llm_guard.checks import one_of
from llm_guard.llm import options
from llm_guard.llm.options import Timeout
from llm_guard.llm.ready import Prompt, chat, given, ready
from llm_guard.llm.sending import Provider, Sender
from llm_guard.llm.text import Text

if TYPE_CHECKING:
    import requests

HUGGINGFACE: Final = Provider("huggingface", "https://router.huggingface.co/hf-inference", "HF_TOKEN",
                              (".huggingface.co", ".huggingface.cloud", ".hf.space"))
ROUTER: Final = "https://router.huggingface.co"
_ENDPOINTS: Final = ("completion", "chat")
_TAKEN: Final = ("model", "messages", "stream")

Endpoint = Literal["completion", "chat"]


class HuggingFaceAsking(NamedTuple):
    """A model's own endpoint, or the chat of the router."""

    model: str
    endpoint: str
    parameters: dict[str, Any]
    path: str

    def body(self, prompt: Prompt, stream: bool) -> dict[str, Any]:
        """Parameters stand apart from the prompt of a completion, and beside that of a chat."""
        streams = {"stream": True} if stream else {}
        if self.endpoint == "completion":
            return {"inputs": prompt, **({"parameters": self.parameters} if self.parameters else {}), **streams}
        tells = {"stream_options": {"include_usage": True}} if stream else {}
        return given({"model": self.model, "messages": chat(prompt), **streams, **tells}, self.parameters)


@overload
def huggingface(model: str, *, endpoint: Endpoint = ..., stream: Literal[False] = ..., url: str | None = ...,
                token: str | None = ..., parameters: Mapping[str, Any] | None = ...,
                session: requests.Session | None = ...,
                timeout: Timeout = ...) -> Callable[[Prompt], Text]: ...


@overload
def huggingface(model: str, *, endpoint: Endpoint = ..., stream: Literal[True], url: str | None = ...,
                token: str | None = ..., parameters: Mapping[str, Any] | None = ...,
                session: requests.Session | None = ...,
                timeout: Timeout = ...) -> Callable[[Prompt], Generator[str, None, Text]]: ...


def huggingface(model: str, *, endpoint: Endpoint = "completion", stream: bool = False, url: str | None = None,
                token: str | None = None, parameters: Mapping[str, Any] | None = None,
                session: requests.Session | None = None,
                timeout: Timeout = None) -> Any:
    """A function that sends a prompt to `model` and returns the text of its answer, or yields it where it streams.

    For "completion" it posts `{"inputs": prompt, "parameters": parameters}` as JSON to `{url}/models/{model}`, where
    `url` is the base of a server, by default HuggingFace's inference API. For "chat" the prompt may be a list of
    messages; it posts as OpenAI's clients do, to `{url}/v1/chat/completions`, by default of HuggingFace's router.

    Each thread has a `requests.Session` of its own, unless `session` gives one for all. `timeout` is the longest wait
    in seconds for a connection and for each read, one number for both or a pair; by default 10 and 120.

    `token` goes out as a bearer token. Without it the environment's HF_TOKEN, as it is at each call, goes out to hosts
    of HuggingFace over https alone. A pickled copy leaves `token` behind and uses HF_TOKEN where it wakes up; with a
    `session` the function cannot be pickled.

    What is returned is a `Text`: a str that has what the server told beside it, its `usage`, `finish_reason` and
    `outcome`. With `stream` the function is a generator function: it posts when its first item is asked for, yields
    pieces of the text as they come, and returns the whole as a `Text`.

    A call raises requests' `HTTPError` for a status of 400 and above, requests' other errors where no answer came,
    `AnswerError` for an answer without a text, and `StreamError` where a stream fails in the midst. Neither the token
    nor the prompt stays in them. Bad options raise `ConfigError`.
    """
    options.model_name(model, "gpt2")
    completes = one_of("endpoint", endpoint, _ENDPOINTS) == "completion"
    path = f"/models/{quote(model, safe='/')}" if completes else "/v1/chat/completions"
    asking = HuggingFaceAsking(model, endpoint, options.copied(parameters, () if completes else _TAKEN), path)
    sender = Sender(HUGGINGFACE, options.base(url, HUGGINGFACE.base if completes else ROUTER),
                    options.secret("token", token), session, options.pair(timeout))
    return ready(asking, sender, "huggingface", stream)
