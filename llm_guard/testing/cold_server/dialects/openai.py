"""OpenAI: `POST /v1/chat/completions` and `/v1/completions`. Others speak as it does, in words of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from llm_guard.testing.cold_server.dialects.base import (
    SSE,
    BadRequest,
    Question,
    Reply,
    bound,
    conversation,
    digest,
    members,
    milliseconds,
    named_model,
    retry_after,
    sse,
)
from llm_guard.testing.server import Reason
from llm_guard.testing.tokens import tokens_of

NO_MODEL = "you must provide a model parameter"


class Chat:
    """{"model": name, "messages": [{"role": "user", "content": text or parts}]}."""

    stream_type = SSE

    def read(self, body: object) -> Question:
        given = members(body, NO_MODEL)
        model = named_model(given, NO_MODEL)
        prompt, asked = conversation(given.get("messages"))
        return Question(prompt, asked, model, bool(given.get("stream")),
                        bound(given, "max_completion_tokens", "max_tokens"), _tells_usage(given))

    def answer(self, question: Question, text: str) -> Reply:
        text = question.cut(text)
        count = len(tokens_of(text))
        choice = {"index": 0, "message": {"role": "assistant", "content": text, "refusal": None}, "logprobs": None,
                  "finish_reason": _finish(question, count)}
        return Reply(200, {**self._head(question, "chat.completion"), "choices": [choice],
                           "usage": usage(question, count)})

    def events(self, question: Question, tokens: Iterable[str]) -> Iterator[bytes]:
        head = self._head(question, "chat.completion.chunk")
        if question.tells_usage:
            head["usage"] = None

        def chunk(delta: dict[str, object], finish: str | None = None) -> bytes:
            return sse({**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]})

        yield chunk({"role": "assistant", "content": "", "refusal": None})
        count = 0
        for token in tokens:
            count += 1
            yield chunk({"content": token})
        yield chunk({}, _finish(question, count))
        if question.tells_usage:
            yield sse({**head, "choices": [], "usage": usage(question, count)})
        yield sse("[DONE]")

    def broken_off(self, question: Question, error: object, sent: int) -> bytes:
        return sse(error)

    def _head(self, question: Question, kind: str) -> dict[str, object]:
        return {"id": f"chatcmpl-{digest(question.prompt)}", "object": kind, "created": 0, "model": question.model,
                "system_fingerprint": "cold"}


class Completions:
    """{"model": name, "prompt": text}."""

    stream_type = SSE

    def read(self, body: object) -> Question:
        given = members(body, NO_MODEL)
        model, prompt = named_model(given, NO_MODEL), given.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1:
            prompt = prompt[0]
        if not isinstance(prompt, str):
            raise BadRequest("prompt must be a string")
        return Question(prompt, len(tokens_of(prompt)), model, bool(given.get("stream")), bound(given, "max_tokens"),
                        _tells_usage(given))

    def answer(self, question: Question, text: str) -> Reply:
        text = question.cut(text)
        count = len(tokens_of(text))
        body = self._body(question, text, _finish(question, count))
        return Reply(200, {**body, "usage": usage(question, count)})

    def events(self, question: Question, tokens: Iterable[str]) -> Iterator[bytes]:
        count = 0
        for token in tokens:
            count += 1
            yield sse(self._body(question, token, None))
        yield sse(self._body(question, "", _finish(question, count)))
        if question.tells_usage:
            yield sse({**self._body(question, "", None), "choices": [], "usage": usage(question, count)})
        yield sse("[DONE]")

    def broken_off(self, question: Question, error: object, sent: int) -> bytes:
        return sse(error)

    def _body(self, question: Question, text: str, finish: str | None) -> dict[str, object]:
        return {"id": f"cmpl-{digest(question.prompt)}", "object": "text_completion", "created": 0,
                "model": question.model,
                "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}]}


class OpenAI:
    """Its words."""

    def bad_request(self, status: int, message: str) -> Reply:
        return self._error(status, message, "invalid_request_error", None)

    def refusal(self, reason: Reason, hint: float | None, tells_growth: bool, model: str) -> Reply:
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

    def failure(self) -> Reply:
        return self._error(500, "The server had an error while processing your request", "server_error", None)

    def left(self, remaining: float, reset: float) -> dict[str, str]:
        return {"x-ratelimit-remaining-requests": f"{remaining:.0f}",
                "x-ratelimit-reset-requests": _go_duration(reset)}

    def _error(self, status: int, message: str, kind: str, code: object, hint: float | None = None) -> Reply:
        error = {"message": message, "type": kind, "param": None, "code": code}
        return Reply(status, {"error": error}, retry_after(hint))


def usage(question: Question, answered: int) -> dict[str, int]:
    return {"prompt_tokens": question.asked, "completion_tokens": answered, "total_tokens": question.asked + answered}


def _tells_usage(body: dict[str, object]) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _finish(question: Question, count: int) -> str:
    return "length" if question.is_cut(count) else "stop"


def _go_duration(seconds: float) -> str:
    """As Go prints it: 12ms, 7.66s, 6m0s, 1h0m0s."""
    total = milliseconds(seconds)
    if total < 1000:
        return f"{total}ms"
    minutes, rest = divmod(total, 60_000)
    hours, minutes = divmod(minutes, 60)
    printed = f"{rest / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{printed}"
    return f"{minutes}m{printed}" if minutes else printed
