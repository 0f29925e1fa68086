"""OpenAI's Responses: `POST /v1/responses`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from llm_guard.testing.cold_server.dialects.base import (
    SSE,
    Question,
    Reply,
    bound,
    conversation,
    digest,
    members,
    named_model,
    sse,
)
from llm_guard.testing.cold_server.dialects.openai import NO_MODEL
from llm_guard.testing.tokens import tokens_of

_KINDS = ("input_text", "output_text", "text")


class Responses:
    """{"model": name, "input": text or messages}."""

    stream_type = SSE

    def read(self, body: object) -> Question:
        given = members(body, NO_MODEL)
        model = named_model(given, NO_MODEL)
        asked = given.get("input")
        prompt, tokens = conversation([{"content": asked}] if isinstance(asked, str) else asked, _KINDS)
        if isinstance(rules := given.get("instructions"), str):
            tokens += len(tokens_of(rules))
        return Question(prompt, tokens, model, bool(given.get("stream")), bound(given, "max_output_tokens"))

    def answer(self, question: Question, text: str) -> Reply:
        text = question.cut(text)
        return Reply(200, self._finished(question, text))

    def events(self, question: Question, tokens: Iterable[str]) -> Iterator[bytes]:
        number = -1

        def event(kind: str, **members: object) -> bytes:
            nonlocal number
            number += 1
            return sse({"type": kind, "sequence_number": number, **members}, kind)

        item = f"msg_{digest(question.prompt)}"
        place = {"item_id": item, "output_index": 0, "content_index": 0}
        begun = self._response(question, "in_progress", [])
        yield event("response.created", response=begun)
        yield event("response.in_progress", response=begun)
        yield event("response.output_item.added", output_index=0,
                    item={"id": item, "type": "message", "status": "in_progress", "role": "assistant", "content": []})
        yield event("response.content_part.added", **place, part=_part(""))
        told = ""
        for token in tokens:
            told += token
            yield event("response.output_text.delta", **place, delta=token, logprobs=[])
        yield event("response.output_text.done", **place, text=told, logprobs=[])
        yield event("response.content_part.done", **place, part=_part(told))
        ended = self._finished(question, told)
        yield event("response.output_item.done", output_index=0, item=_message(question, told, ended["status"]))
        yield event(f"response.{ended['status']}", response=ended)

    def broken_off(self, question: Question, error: object, sent: int) -> bytes:
        said = members(members(error, "").get("error"), "")
        failed = {**self._response(question, "failed", []), "error": {"code": said["type"], "message": said["message"]}}
        return sse({"type": "response.failed", "sequence_number": sent, "response": failed}, "response.failed")

    def _finished(self, question: Question, text: str) -> dict[str, object]:
        count = len(tokens_of(text))
        status = "incomplete" if question.is_cut(count) else "completed"
        body = self._response(question, status, [_message(question, text, status)])
        if question.is_cut(count):
            body["incomplete_details"] = {"reason": "max_output_tokens"}
        body["usage"] = {"input_tokens": question.asked, "input_tokens_details": {"cached_tokens": 0},
                         "output_tokens": count, "output_tokens_details": {"reasoning_tokens": 0},
                         "total_tokens": question.asked + count}
        return body

    def _response(self, question: Question, status: str, output: list[object]) -> dict[str, object]:
        return {"id": f"resp_{digest(question.prompt)}", "object": "response", "created_at": 0, "status": status,
                "error": None, "incomplete_details": None, "instructions": None, "metadata": {},
                "model": question.model, "output": output, "parallel_tool_calls": True, "tool_choice": "auto",
                "tools": [], "usage": None}


def _part(text: str) -> dict[str, object]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(question: Question, text: str, status: object) -> dict[str, object]:
    return {"id": f"msg_{digest(question.prompt)}", "type": "message", "status": status, "role": "assistant",
            "content": [_part(text)]}
