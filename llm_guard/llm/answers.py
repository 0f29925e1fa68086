"""Where the text of an answer is, in the shapes in which the APIs send it."""

from __future__ import annotations

import json
from typing import Final

from llm_guard.errors import GuardError

EACH: Final = "[]"
#: Where the text is, in the order in which the places are tried. `EACH` joins the parts of a list that hold text.
PATHS: Final[tuple[tuple[str | int, ...], ...]] = (
    ("generated_text",),  # HuggingFace, TGI
    ("summary_text",),
    ("translation_text",),
    ("answer",),
    ("conversation", "generated_responses", -1),
    ("choices", 0, "message", "content"),  # OpenAI's chat and its look-alikes
    ("choices", 0, "message", "content", EACH, "text"),
    ("choices", 0, "message", "refusal"),
    ("choices", 0, "text"),  # OpenAI's completions
    ("output", EACH, "content", EACH, "text"),  # OpenAI's Responses
    ("output", EACH, "content", EACH, "refusal"),
    ("content", EACH, "text"),  # Anthropic
    ("message", "content"),  # Ollama
    ("response",),
    ("content",),  # llama.cpp
)
_TEXT_TYPES = frozenset({None, "message", "text", "output_text", "refusal"})  # others: thinking, tools, images
_NO_ANSWER = ("load", "unload")  # Ollama's done_reason where it only moved the model
_NAMES = frozenset({
    "answer", "candidates", "choices", "code", "completion", "content", "conversation", "created", "data", "delta",
    "detail", "details", "done", "done_reason", "error", "error_code", "error_type", "estimated_time",
    "finish_reason", "generated_responses", "generated_text", "id", "index", "message", "messages", "model", "object",
    "output", "param", "parts", "refusal", "request_id", "response", "role", "score", "status", "status_code",
    "stop_reason", "summary_text", "text", "tool_calls", "translation_text", "type", "usage", "warnings"
})
_MOST_NAMES = 8
_BROKEN: Final = object()


class AnswerError(GuardError):
    """An answer without a text: an error that came with status 200, an unknown shape, or JSON that is not whole.

    `shape` describes it by types, lengths and the names that the APIs themselves give their members; any other name is
    counted only, since it may be content.
    """

    def __init__(self, shape: str, what: str = "no text in the answer") -> None:
        super().__init__(f"{what}: {shape}")
        self.shape = shape


def text_of(answer: object) -> str:
    """The text in an API's answer; raises `AnswerError` where there is none.

    `answer` is parsed JSON, or a response, on which `.json()` is called (its status is not looked at), or a body as
    str or bytes. A body that begins like a JSON object or list must be one and whole; any other is taken for the text
    itself. Of several answers the first counts; where a model refuses, its refusal is the text.
    """
    body = _read(answer)
    if isinstance(body, str):
        return body
    if body is _BROKEN:
        raise AnswerError(_shape(answer), "the answer is not whole JSON")
    if error_in(body) is not None:
        raise AnswerError(_shape(body), "the answer is an error")
    text = _text(body)
    if text is None:
        raise AnswerError(_shape(body))
    return text


def error_in(body: object) -> dict[str, object] | None:
    """The JSON object that tells of an error, be it in a list, or None where `body` looks like an answer."""
    first = body[0] if isinstance(body, list) and body else body
    if isinstance(first, dict) and (first.get("error") or first.get("status") == "failed"):
        return first
    return None


def _read(answer: object) -> object:
    """`answer` as parsed JSON, as a str where it is the text itself, or as _BROKEN."""
    try:
        if callable(json_of := getattr(answer, "json", None)):
            answer = json_of()
        if isinstance(answer, bytes | bytearray):
            answer = answer.decode("utf-8-sig")
        if isinstance(answer, str) and answer.lstrip().startswith(("{", "[")):
            return json.loads(answer)
    except Exception:  # requests, httpx and json each have their own, and theirs carry the body
        return _BROKEN
    return answer


def _text(body: object) -> str | None:
    for _ in range(2):  # HuggingFace's list of answers, and its list of lists for several inputs
        if isinstance(body, list) and body:
            body = body[0]
    if not isinstance(body, dict) or body.get("done_reason") in _NO_ANSWER:
        return None
    return next((text for path in PATHS if (text := _at(body, path)) is not None), None)


def _at(value: object, path: tuple[str | int, ...]) -> str | None:
    for place, step in enumerate(path):
        if step == EACH:
            parts = [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []
            found = [_at(part, path[place + 1:]) for part in parts if _holds_text(part)]
            texts = [text for text in found if text is not None]
            return "".join(texts) if texts else None
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and value else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None


def _holds_text(part: dict[str, object]) -> bool:
    kind = part.get("type")
    return kind is None or (isinstance(kind, str) and kind in _TEXT_TYPES)


def _shape(value: object) -> str:
    if isinstance(value, dict):
        names = sorted(name for name in value if isinstance(name, str) and name in _NAMES)[:_MOST_NAMES]
        if not names:
            return f"dict of {len(value)} keys"
        others = len(value) - len(names)
        return f"dict with keys {', '.join(names)}" + (f" and {others} more" if others else "")
    if isinstance(value, list):
        if not value:
            return "empty list"
        return f"list of {len(value)}, the first a {'list' if isinstance(value[0], list) else _shape(value[0])}"
    if isinstance(value, str | bytes | bytearray):
        return f"{type(value).__name__} of length {len(value)}"
    return type(value).__name__[:60]
