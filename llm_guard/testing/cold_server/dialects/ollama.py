"""Ollama: `POST /api/chat` and `/api/generate`, which stream unless they are told not to."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from llm_guard.testing.cold_server.dialects.base import (
    BadRequest,
    Question,
    Reply,
    bound,
    conversation,
    members,
    named_model,
    retry_after,
)
from llm_guard.testing.server import Reason
from llm_guard.testing.tokens import tokens_of


class _Endpoint(ABC):
    stream_type = "application/x-ndjson"

    def read(self, body: object) -> Question:
        given = members(body, "the body must be a JSON object")
        model = named_model(given, "model is required")
        prompt, asked = self._asked(given)
        options = given.get("options")
        most = bound(options, "num_predict") if isinstance(options, dict) else None
        return Question(prompt, asked, model, given.get("stream") is not False, most)

    def answer(self, question: Question, text: str) -> Reply:
        text = question.cut(text)
        return Reply(200, self._last(question, text, len(tokens_of(text))))

    def events(self, question: Question, tokens: Iterable[str]) -> Iterator[bytes]:
        count = 0
        for token in tokens:
            count += 1
            yield _line({**_head(question), **self._said(token), "done": False})
        yield _line(self._last(question, "", count))

    def broken_off(self, question: Question, error: object, sent: int) -> bytes:
        return _line(error)

    def _last(self, question: Question, text: str, count: int) -> dict[str, object]:
        return {**_head(question), **self._said(text), "done": True,
                "done_reason": "length" if question.is_cut(count) else "stop",
                "prompt_eval_count": question.asked, "eval_count": count}

    @abstractmethod
    def _asked(self, body: dict[str, object]) -> tuple[str, int]:
        """The text to answer, and the tokens of all that was sent."""

    @abstractmethod
    def _said(self, text: str) -> dict[str, object]:
        """Where the text stands."""


class OllamaChat(_Endpoint):
    """{"model": name, "messages": [{"role": "user", "content": text}]}."""

    def _asked(self, body: dict[str, object]) -> tuple[str, int]:
        return conversation(body.get("messages"))

    def _said(self, text: str) -> dict[str, object]:
        return {"message": {"role": "assistant", "content": text}}


class OllamaGenerate(_Endpoint):
    """{"model": name, "prompt": text}."""

    def _asked(self, body: dict[str, object]) -> tuple[str, int]:
        prompt = body.get("prompt")
        if not isinstance(prompt, str):
            raise BadRequest("prompt must be a string")
        return prompt, len(tokens_of(prompt))

    def _said(self, text: str) -> dict[str, object]:
        return {"response": text}


class Ollama:
    """Its words; of accounts those of its cloud, which tells no wait and nothing that is left."""

    def bad_request(self, status: int, message: str) -> Reply:
        return Reply(status, {"error": message})

    def refusal(self, reason: Reason, hint: float | None, tells_growth: bool, model: str) -> Reply:
        if reason in (Reason.LOADING, Reason.OVERLOAD):  # it holds the calls while it loads, as far as it has room
            return Reply(503, {"error": "server busy, please try again.  maximum pending requests exceeded"})
        if reason is Reason.QUOTA:
            return Reply(429, {"error": "you have reached your session usage limit, upgrade for higher limits"})
        return Reply(429, {"error": "too many requests"}, retry_after(hint))

    def failure(self) -> Reply:
        return Reply(500, {"error": "an error was encountered while running the model: unexpected EOF"})

    def left(self, remaining: float, reset: float) -> dict[str, str]:
        return {}


def _head(question: Question) -> dict[str, object]:
    return {"model": question.model, "created_at": "1970-01-01T00:00:00Z"}


def _line(data: object) -> bytes:
    return json.dumps(data).encode() + b"\n"
