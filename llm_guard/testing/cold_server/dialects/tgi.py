"""text-generation-inference: `POST /generate`, `/generate_stream`, and `/`, which does either as "stream" says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from llm_guard.testing.cold_server.dialects.base import (
    SSE,
    BadRequest,
    Question,
    Reply,
    bound,
    milliseconds,
    retry_after,
)
from llm_guard.testing.server import Reason
from llm_guard.testing.tokens import tokens_of


class Generate:
    """{"inputs": text, "parameters": {...}}. `streams` is None where the body decides; then a list is answered."""

    stream_type = SSE

    def __init__(self, streams: bool | None) -> None:
        self._streams = streams

    def read(self, body: object) -> Question:
        return question(body, "", self._streams)

    def answer(self, question: Question, text: str) -> Reply:
        text = question.cut(text)
        body: dict[str, object] = {"generated_text": text}
        if question.tells_usage:
            body["details"] = {**_details(question, len(tokens_of(text))), "prefill": [], "tokens": []}
        return Reply(200, [body] if self._streams is None else body, counts(question, text))

    def events(self, question: Question, tokens: Iterable[str]) -> Iterator[bytes]:
        return events(question, tokens)

    def broken_off(self, question: Question, error: object, sent: int) -> bytes:
        return event(error)


class TGI:
    """Its words. A server of one's own: it knows no accounts, so for those a gateway before it speaks."""

    def bad_request(self, status: int, message: str) -> Reply:
        return self._error(422 if status == 400 else status, f"Input validation error: {message}", "validation")

    def refusal(self, reason: Reason, hint: float | None, tells_growth: bool, model: str) -> Reply:
        if reason is Reason.LOADING:  # it listens once it has loaded; until then its gateway has nobody to ask
            return self._error(503, "Service Unavailable", "SERVICE_UNAVAILABLE", hint)
        if reason is Reason.OVERLOAD:
            return self._error(429, "Model is overloaded", "overloaded", hint)
        if reason is Reason.QUOTA:
            return self._error(402, "The account has used up its credits", "quota", hint)
        if reason is Reason.GROWTH and tells_growth:
            return self._error(429, "Traffic grew too fast", "slow_down", hint)
        return self._error(429, "Rate limit reached", "rate_limit", hint)

    def failure(self) -> Reply:
        return self._error(424, "Request failed during generation: Server error", "generation")

    def left(self, remaining: float, reset: float) -> dict[str, str]:
        return {"RateLimit": f'"api";r={remaining:.0f};t={milliseconds(reset) / 1000:g}'}

    def _error(self, status: int, message: str, kind: str, hint: float | None = None) -> Reply:
        return Reply(status, {"error": message, "error_type": kind}, retry_after(hint))


def question(body: object, model: str, streams: bool | None = None) -> Question:
    """What HuggingFace's API and this server have in common."""
    given = body if isinstance(body, dict) else {}
    inputs, parameters = given.get("inputs"), given.get("parameters") or {}
    if not isinstance(inputs, str):
        raise BadRequest("inputs must be a string", 422)
    if not isinstance(parameters, dict):
        raise BadRequest("parameters must be an object", 422)
    return Question(inputs, len(tokens_of(inputs)), model, bool(given.get("stream")) if streams is None else streams,
                    bound(parameters, "max_new_tokens"), bool(parameters.get("details")))


def counts(question: Question, text: str) -> dict[str, str]:
    """The headers that tell what a whole answer used."""
    return {"x-prompt-tokens": str(question.asked), "x-generated-tokens": str(len(tokens_of(text)))}


def event(data: object) -> bytes:
    """As this server sends it: without a space behind the colon."""
    return f"data:{json.dumps(data)}\n\n".encode()


def events(question: Question, tokens: Iterable[str]) -> Iterator[bytes]:
    """An event for each token, and one that ends them, which has the whole text too, and what was used."""
    told, count = "", 0
    for token in tokens:
        told, count = told + token, count + 1
        yield event({"index": count, "token": _token(count, token), "generated_text": None, "details": None})
    ending = {"index": count + 1, "token": {**_token(0, ""), "special": True}}
    yield event({**ending, "generated_text": told, "details": _details(question, count)})


def _token(identity: int, text: str) -> dict[str, object]:
    return {"id": identity, "text": text, "logprob": 0.0, "special": False}


def _details(question: Question, count: int) -> dict[str, object]:
    return {"finish_reason": "length" if question.is_cut(count) else "eos_token", "generated_tokens": count,
            "seed": None, "input_length": question.asked}
