"""Ready call functions: what every provider's have in common."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from llm_guard.llm.sending import Sender
from llm_guard.llm.signals import outcome_of
from llm_guard.llm.streams import stream_text
from llm_guard.llm.text import Text, text_in
from llm_guard.outcome import SUCCESS

if TYPE_CHECKING:
    import requests

#: What is asked: a text, or the messages of a chat, each with its role and its content.
Prompt = str | Sequence[Mapping[str, Any]]


class Asking(Protocol):
    """How one endpoint is asked. Made of plain values, so that it can be pickled."""

    @property
    def model(self) -> str:
        """The name of the model."""

    @property
    def path(self) -> str:
        """Where to post, beneath the base of the server."""

    def body(self, prompt: Prompt, stream: bool) -> dict[str, Any]:
        """The JSON to post. TypeError for a prompt that this endpoint does not take."""


class Request(NamedTuple):
    """What a call posts; of the headers the names alone, for one of them is the key. Hold it back from logs: `body` has
    the prompt."""

    url: str
    headers: tuple[str, ...]
    body: dict[str, Any]


class _Ready:
    # Slots, so that functools.wraps copies names alone, and no key, into what wraps it.
    __slots__ = ("__dict__", "_asking", "_sender")

    def __init__(self, name: str, asking: Asking, sender: Sender) -> None:
        self._asking, self._sender = asking, sender
        self.__name__ = self.__qualname__ = name

    def __repr__(self) -> str:
        return self.__name__

    def __copy__(self) -> Self:
        return self  # nothing in it changes, and a copy by way of pickle would lose the key

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _rebuild, (type(self), self.__name__, self._asking, self._sender.parts)

    def request(self, prompt: Prompt) -> Request:
        """What a call with this prompt would post; nothing is sent. TypeError for one that the endpoint does not take.
        """
        body = self._asking.body(prompt, isinstance(self, ReadyStream))
        return Request(self._sender.url(self._asking.path), self._sender.header_names(), body)

    def _post(self, prompt: Prompt, *, stream: bool) -> requests.Response:
        return self._sender.post(self._asking.path, self._asking.body(prompt, stream), stream=stream)


class ReadyCall(_Ready):
    """Sends a prompt and returns the text of the answer.

    It raises requests' `HTTPError` for a status of 400 and above, requests' other errors where no answer came, and
    `AnswerError` for an answer without a text. Neither the key nor the prompt stays in them.
    """

    def __call__(self, prompt: Prompt) -> Text:
        return text_in(self._post(prompt, stream=False))


class ReadyStream(_Ready):
    """A generator function: sends a prompt and yields the text of the answer as it comes.

    What it returns at its end (`answer = yield from ask(prompt)`) is the whole text with all that was told. It raises
    as a `ReadyCall` does, and `StreamError` for an error in the midst.
    """

    def __call__(self, prompt: Prompt) -> Generator[str, None, Text]:
        import requests

        pieces = []
        with stream_text(response := self._post(prompt, stream=True)) as stream:
            try:
                for piece in stream:
                    pieces.append(piece)
                    yield piece
            except requests.RequestException as error:
                self._sender.strip(error)
                raise
        return Text("".join(pieces), usage=stream.usage, finish_reason=stream.finish_reason,
                    outcome=outcome_of(response) or SUCCESS)


def ready(asking: Asking, sender: Sender, name: str, stream: bool) -> Any:
    """The function that asks so, under the name of what made it."""
    kind = ReadyStream if stream else ReadyCall
    return kind(f"{name}({asking.model!r}{', stream=True' if stream else ''})", asking, sender)


def chat(prompt: Prompt) -> list[dict[str, Any]]:
    """The messages to send; a text is one of the user's."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    if isinstance(prompt, Sequence):
        messages = [dict(message) for message in prompt if isinstance(message, Mapping)]
        if messages and len(messages) == len(prompt):
            return messages
    raise TypeError("a prompt is a str, or a list of messages such as {'role': 'user', 'content': '...'}")


def plain(prompt: Prompt) -> str:
    """The prompt of an endpoint that completes a text."""
    if isinstance(prompt, str):
        return prompt
    raise TypeError("the prompt of a completion is a str")


def given(defaults: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A body: the parameters beside and over what goes along by itself; None takes that out."""
    return {name: value for name, value in {**defaults, **parameters}.items() if value is not None}


def _rebuild(kind: type[_Ready], name: str, asking: Asking, parts: tuple[Any, ...]) -> _Ready:
    return kind(name, asking, Sender(*parts))
