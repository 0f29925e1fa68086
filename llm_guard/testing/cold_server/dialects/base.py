"""What a dialect is made of: how an endpoint asks and answers, and how its provider words what goes wrong."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from llm_guard.testing.server import Reason
from llm_guard.testing.tokens import tokens_of

SSE: Final = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Reply:
    """A response to be: `body` is sent as JSON."""

    status: int
    body: object
    headers: Mapping[str, str] = field(default_factory=dict)


class BadRequest(Exception):
    """The body is not what this API takes; the provider words it."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


@dataclass(frozen=True, slots=True)
class Question:
    """A request that was understood: the text to answer, and how.

    `asked` counts the tokens of all that was sent. `most` bounds those of the answer. `tells_usage`: a stream that need
    not tell what it used shall tell it.
    """

    prompt: str
    asked: int
    model: str = ""
    streams: bool = False
    most: int | None = None
    tells_usage: bool = False

    def is_cut(self, count: int) -> bool:
        """Whether an answer of so many tokens ended since it reached the bound."""
        return self.most is not None and count >= self.most

    def cut(self, text: str) -> str:
        """The text, as far as the bound lets it."""
        return text if self.most is None else "".join(tokens_of(text)[:self.most])


class Endpoint(Protocol):
    """What stands in a request and in its answer."""

    #: The Content-Type of its streams.
    stream_type: str

    def read(self, body: object) -> Question:
        """What is asked; BadRequest where it cannot be told."""

    def answer(self, question: Question, text: str) -> Reply:
        """The whole answer at once."""

    def events(self, question: Question, tokens: Iterable[str]) -> Iterator[bytes]:
        """The answer as a stream; at least one event for each token, and those before and after them."""

    def broken_off(self, question: Question, error: object, sent: int) -> bytes:
        """The last event of a stream that fails after `sent` others; `error` is the body of a reply that says so."""


class Words(Protocol):
    """How a provider says what it does not do."""

    def bad_request(self, status: int, message: str) -> Reply:
        """The request is malformed."""

    def refusal(self, reason: Reason, hint: float | None, tells_growth: bool, model: str) -> Reply:
        """Not now; `hint` in seconds. `tells_growth`: that traffic grew too fast is said."""

    def failure(self) -> Reply:
        """The server failed in its work."""

    def left(self, remaining: float, reset: float) -> dict[str, str]:
        """The headers that say: so many calls are left, and in `reset` seconds all of them again."""


class Dialect(NamedTuple):
    """Both together."""

    endpoint: Endpoint
    words: Words


def members(body: object, message: str) -> dict[str, object]:
    """The body, which must be a JSON object; else BadRequest with that message."""
    if not isinstance(body, dict):
        raise BadRequest(message)
    return body


def named_model(body: Mapping[str, object], message: str) -> str:
    """The body's `model`; BadRequest with that message where there is none."""
    model = body.get("model")
    if not isinstance(model, str):
        raise BadRequest(message)
    return model


def text_in(content: object, kinds: tuple[str, ...] = ("text",)) -> str | None:
    """The text of a message: its content, or the joined texts of its parts of these types. None where it has none."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") in kinds]
        texts = [text for text in parts if isinstance(text, str)]
        return "".join(texts) if texts else None
    return content if isinstance(content, str) else None


def conversation(messages: object, kinds: tuple[str, ...] = ("text",)) -> tuple[str, int]:
    """The text of the last message, and how many tokens all have; BadRequest where the last one has no text."""
    given = messages if isinstance(messages, list) else []
    texts = [text_in(message.get("content"), kinds) if isinstance(message, dict) else None for message in given]
    if not texts or texts[-1] is None:
        raise BadRequest("messages must end with one that has a text as its content")
    return texts[-1], sum(len(tokens_of(text)) for text in texts if text)


def bound(body: Mapping[str, object], *names: str) -> int | None:
    """The bound on the answer's tokens under the first of the names that is given."""
    for name in names:
        most = body.get(name)
        if most is not None:
            if isinstance(most, bool) or not isinstance(most, int) or most < 1:
                raise BadRequest(f"{name} must be a whole number of at least 1")
            return most
    return None


def sse(data: object, event: str | None = None) -> bytes:
    """One server-sent event; a str is sent as it is."""
    named = f"event: {event}\n" if event else ""
    return f"{named}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


def digest(prompt: str) -> str:
    """What an id is made of: the same for the same prompt."""
    return f"{zlib.crc32(prompt.encode(errors='replace')):08x}"


def milliseconds(seconds: float) -> int:
    # Rounded up: who waits just so long is not early. Whole seconds would be too coarse for a sped-up server.
    return math.ceil(seconds * 1000)


def retry_after(hint: float | None) -> dict[str, str]:
    return {} if hint is None else {"Retry-After": f"{milliseconds(hint) / 1000:g}"}
