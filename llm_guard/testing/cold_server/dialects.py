"""How two families of APIs put it: Hugging Face's inference API and OpenAI's chat completions."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from llm_guard.testing.server import Reason


@dataclass(frozen=True, slots=True)
class Reply:
    """A response to be: `body` is sent as JSON."""

    status: int
    body: object
    headers: Mapping[str, str] = field(default_factory=dict)


class BadRequest(Exception):
    """The body is not what this API takes; `reply` says so as it would."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


class Dialect(Protocol):
    """Reads a request and words the responses to it."""

    def prompt(self, body: object) -> str:
        """The text to answer; BadRequest where there is none."""

    def bad_request(self, status: int, message: str) -> Reply:
        """The request is malformed."""

    def answer(self, prompt: str, text: str) -> Reply:
        """The model's answer to the prompt."""

    def refusal(self, reason: Reason, hint: float | None, tells_growth: bool) -> Reply:
        """Not now; `hint` in seconds. `tells_growth`: that traffic grew too fast is said."""

    def left(self, remaining: float, reset: float) -> dict[str, str]:
        """The headers that say: so many calls are left, and in `reset` seconds all of them again."""

    def failure(self) -> Reply:
        """A 500."""


def _milliseconds(seconds: float) -> int:
    # Rounded up: who waits just so long is not early. Whole seconds would be too coarse for a sped-up server.
    return math.ceil(seconds * 1000)


def _retry_after(hint: float | None) -> dict[str, str]:
    return {} if hint is None else {"Retry-After": f"{_milliseconds(hint) / 1000:g}"}


def _go_duration(seconds: float) -> str:
    """As Go prints it: 12ms, 7.66s, 6m0s, 1h0m0s."""
    total = _milliseconds(seconds)
    if total < 1000:
        return f"{total}ms"
    minutes, milliseconds = divmod(total, 60_000)
    hours, minutes = divmod(minutes, 60)
    printed = f"{milliseconds / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{printed}"
    return f"{minutes}m{printed}" if minutes else printed


def _digest(prompt: str) -> int:
    return zlib.crc32(prompt.encode(errors="replace"))


class HuggingFace:
    """`POST /models/<model>` with {"inputs": text}.

    With `mixed_shapes` the text stands where one task or another puts it, as the prompt decides.
    """

    def __init__(self, model: str, mixed_shapes: bool) -> None:
        self._model = model
        self._mixed_shapes = mixed_shapes

    def prompt(self, body: object) -> str:
        inputs = body.get("inputs") if isinstance(body, dict) else None
        if not isinstance(inputs, str):
            raise BadRequest(self.bad_request(422, "inputs must be a string"))
        return inputs

    def bad_request(self, status: int, message: str) -> Reply:
        return Reply(status, {"error": message, "error_type": "validation"})

    def answer(self, prompt: str, text: str) -> Reply:
        shapes: list[object] = [
            [{"generated_text": text}],
            {"generated_text": text},
            [{"summary_text": text}],
            {"translation_text": text},
            {"answer": text, "score": 0.9, "start": 0, "end": len(text)},
        ]
        return Reply(200, shapes[_digest(prompt) % len(shapes) if self._mixed_shapes else 0])

    def refusal(self, reason: Reason, hint: float | None, tells_growth: bool) -> Reply:
        if reason is Reason.LOADING:
            body: dict[str, object] = {"error": f"Model {self._model} is currently loading"}
            return Reply(503, body if hint is None else {**body, "estimated_time": hint})
        if reason is Reason.OVERLOAD:
            return Reply(429, {"error": "Model is overloaded", "error_type": "overloaded"}, _retry_after(hint))
        if reason is Reason.QUOTA:
            return Reply(402, {"error": "The account has used up its credits"}, _retry_after(hint))
        if reason is Reason.GROWTH and tells_growth:  # in OpenAI's word: this API has none for it
            return Reply(429, {"error": "Traffic grew too fast", "error_type": "slow_down"}, _retry_after(hint))
        return Reply(429, {"error": "Rate limit reached"}, _retry_after(hint))

    def left(self, remaining: float, reset: float) -> dict[str, str]:
        return {"RateLimit": f'"api";r={remaining:.0f};t={_milliseconds(reset) / 1000:g}'}

    def failure(self) -> Reply:
        return Reply(500, {"error": "Internal Server Error"})


class OpenAI:
    """`POST /v1/chat/completions` with {"model": name, "messages": [{"role": "user", "content": text}]}."""

    def __init__(self) -> None:
        self._model = ""

    def prompt(self, body: object) -> str:
        if not isinstance(body, dict) or not isinstance(body.get("model"), str):
            raise BadRequest(self.bad_request(400, "you must provide a model parameter"))
        self._model = body["model"]
        if body.get("stream"):
            raise BadRequest(self.bad_request(400, "stream is not supported by this server"))
        messages = body.get("messages")
        last = messages[-1] if isinstance(messages, list) and messages else None
        content = last.get("content") if isinstance(last, dict) else None
        if isinstance(content, list):
            texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
            content = "".join(text for text in texts if isinstance(text, str)) if texts else None
        if not isinstance(content, str):
            raise BadRequest(self.bad_request(400, "messages must end with one that has a text as its content"))
        return content

    def bad_request(self, status: int, message: str) -> Reply:
        return self._error(status, message, "invalid_request_error", None)

    def answer(self, prompt: str, text: str) -> Reply:
        asked, answered = len(prompt.split()), len(text.split())
        return Reply(200, {
            "id": f"chatcmpl-{_digest(prompt):08x}",
            "object": "chat.completion",
            "created": 0,
            "model": self._model,
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered},
        })

    def refusal(self, reason: Reason, hint: float | None, tells_growth: bool) -> Reply:
        if reason is Reason.LOADING:  # in llama.cpp's words: OpenAI itself has no model that loads
            return self._error(503, "Loading model", "unavailable_error", 503, hint)
        if reason is Reason.OVERLOAD:
            return self._error(503, "The server is overloaded", "server_error", "server_is_overloaded", hint)
        if reason is Reason.QUOTA:
            return self._error(429, "The account has used up its quota", "insufficient_quota", "insufficient_quota",
                               hint)
        if reason is Reason.GROWTH:  # this API always tells it
            return self._error(429, "Your traffic grew too fast", "rate_limit_error", "slow_down", hint)
        return self._error(429, "Rate limit reached", "requests", "rate_limit_exceeded", hint)

    def left(self, remaining: float, reset: float) -> dict[str, str]:
        return {"x-ratelimit-remaining-requests": f"{remaining:.0f}",
                "x-ratelimit-reset-requests": _go_duration(reset)}

    def failure(self) -> Reply:
        return self._error(500, "The server had an error while processing your request", "server_error", None)

    def _error(self, status: int, message: str, kind: str, code: object, hint: float | None = None) -> Reply:
        error = {"message": message, "type": kind, "param": None, "code": code}
        return Reply(status, {"error": error}, _retry_after(hint))
