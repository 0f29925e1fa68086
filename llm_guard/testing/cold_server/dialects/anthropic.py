"""Anthropic: `POST /v1/messages`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from llm_guard.testing.cold_server.dialects.base import (
    SSE,
    BadRequest,
    Question,
    Reply,
    bound,
    conversation,
    digest,
    members,
    named_model,
    retry_after,
    sse,
    text_in,
)
from llm_guard.testing.server import Reason
from llm_guard.testing.tokens import tokens_of


class Messages:
    """{"model": name, "max_tokens": number, "messages": [{"role": "user", "content": text or blocks}]}."""

    stream_type = SSE

    def read(self, body: object) -> Question:
        given = members(body, "the body must be a JSON object")
        model = named_model(given, "model: Field required")
        prompt, asked = conversation(given.get("messages"))
        most = bound(given, "max_tokens")
        if most is None:
            raise BadRequest("max_tokens: Field required")
        asked += len(tokens_of(text_in(given.get("system")) or ""))
        return Question(prompt, asked, model, bool(given.get("stream")), most)

    def answer(self, question: Question, text: str) -> Reply:
        text = question.cut(text)
        count = len(tokens_of(text))
        return Reply(200, {**_message(question, count), "content": [{"type": "text", "text": text}],
                           "stop_reason": _stop(question, count)})

    def events(self, question: Question, tokens: Iterable[str]) -> Iterator[bytes]:
        def event(kind: str, **members: object) -> bytes:
            return sse({"type": kind, **members}, kind)

        yield event("message_start", message=_message(question, 1))
        yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield event("ping")
        count = 0
        for token in tokens:
            count += 1
            yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": token})
        yield event("content_block_stop", index=0)
        yield event("message_delta", delta={"stop_reason": _stop(question, count), "stop_sequence": None},
                    usage={"output_tokens": count})
        yield event("message_stop")

    def broken_off(self, question: Question, error: object, sent: int) -> bytes:
        return sse(error, "error")


class Anthropic:
    """Its words."""

    def bad_request(self, status: int, message: str) -> Reply:
        return self._error(status, message, "request_too_large" if status == 413 else "invalid_request_error")

    def refusal(self, reason: Reason, hint: float | None, tells_growth: bool, model: str) -> Reply:
        if reason in (Reason.LOADING, Reason.OVERLOAD):  # it has no word for a model that loads, and tells no wait
            return self._error(529, "Overloaded", "overloaded_error", again=True)
        if reason is Reason.QUOTA:
            return self._error(429, "You have reached your spend limit", "rate_limit_error", again=False,
                               code="enforced_spend_limit_reached")
        if reason is Reason.GROWTH:  # this API always tells it
            return self._error(429, "Your usage grew too fast", "rate_limit_error", hint, again=True,
                               code="ramp_limit_exceeded")
        return self._error(429, "This request would exceed your account's rate limit", "rate_limit_error", hint,
                           again=True)

    def failure(self) -> Reply:
        return self._error(500, "Internal server error", "api_error", again=True)

    def left(self, remaining: float, reset: float) -> dict[str, str]:
        full = datetime.now(UTC) + timedelta(seconds=reset)
        return {"anthropic-ratelimit-requests-remaining": f"{remaining:.0f}",
                "anthropic-ratelimit-requests-reset": full.isoformat(timespec="milliseconds").replace("+00:00", "Z")}

    def _error(self, status: int, message: str, kind: str, hint: float | None = None, *, again: bool | None = None,
               code: str | None = None) -> Reply:
        error: dict[str, object] = {"type": kind, "message": message}
        if code is not None:
            error["details"] = {"error_code": code}
        headers = {} if again is None else {"x-should-retry": "true" if again else "false"}
        return Reply(status, {"type": "error", "error": error, "request_id": "req_cold"},
                     {**retry_after(hint), **headers})


def _message(question: Question, count: int) -> dict[str, object]:
    return {"id": f"msg_{digest(question.prompt)}", "type": "message", "role": "assistant", "model": question.model,
            "content": [], "stop_reason": None, "stop_sequence": None,
            "usage": {"input_tokens": question.asked, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                      "output_tokens": count}}


def _stop(question: Question, count: int) -> str:
    return "max_tokens" if question.is_cut(count) else "end_turn"
