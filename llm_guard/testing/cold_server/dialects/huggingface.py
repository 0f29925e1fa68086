"""HuggingFace's inference API: `POST /models/<model>`, and chat at `/models/<model>/v1/chat/completions`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from llm_guard.testing.cold_server.dialects import tgi
from llm_guard.testing.cold_server.dialects.base import SSE, Question, Reply, digest, milliseconds, retry_after
from llm_guard.testing.server import Reason


class Tasks:
    """{"inputs": text, "parameters": {...}, "stream": true or not}.

    With `mixed_shapes` the text stands where one task or another puts it, as the prompt decides. Streams are TGI's.
    """

    stream_type = SSE

    def __init__(self, model: str, mixed_shapes: bool) -> None:
        self._model = model
        self._mixed_shapes = mixed_shapes

    def read(self, body: object) -> Question:
        return tgi.question(body, self._model)

    def answer(self, question: Question, text: str) -> Reply:
        text = question.cut(text)
        shapes: list[object] = [
            [{"generated_text": text}],
            {"generated_text": text},
            [{"summary_text": text}],
            {"translation_text": text},
            {"answer": text, "score": 0.9, "start": 0, "end": len(text)},
        ]
        drawn = int(digest(question.prompt), 16) % len(shapes) if self._mixed_shapes else 0
        return Reply(200, shapes[drawn], tgi.counts(question, text))

    def events(self, question: Question, tokens: Iterable[str]) -> Iterator[bytes]:
        return tgi.events(question, tokens)

    def broken_off(self, question: Question, error: object, sent: int) -> bytes:
        return tgi.event(error)


class HuggingFace:
    """Its words."""

    def bad_request(self, status: int, message: str) -> Reply:
        return Reply(status, {"error": message, "error_type": "validation"})

    def refusal(self, reason: Reason, hint: float | None, tells_growth: bool, model: str) -> Reply:
        if reason is Reason.LOADING:
            body: dict[str, object] = {"error": f"Model {model} is currently loading"}
            return Reply(503, body if hint is None else {**body, "estimated_time": hint})
        if reason is Reason.OVERLOAD:
            return Reply(429, {"error": "Model is overloaded", "error_type": "overloaded"}, retry_after(hint))
        if reason is Reason.QUOTA:
            return Reply(402, {"error": "The account has used up its credits"}, retry_after(hint))
        if reason is Reason.GROWTH and tells_growth:  # in OpenAI's word: this API has none for it
            return Reply(429, {"error": "Traffic grew too fast", "error_type": "slow_down"}, retry_after(hint))
        return Reply(429, {"error": "Rate limit reached"}, retry_after(hint))

    def failure(self) -> Reply:
        return Reply(500, {"error": "Internal Server Error"})

    def left(self, remaining: float, reset: float) -> dict[str, str]:
        return {"RateLimit": f'"api";r={remaining:.0f};t={milliseconds(reset) / 1000:g}'}
