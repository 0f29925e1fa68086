"""Finding one's way in an answer, be it parsed JSON or a client library's object, and telling its shape.

A path leads from the outside in: the name of a member, the place in a list, or `EACH`, which joins the texts of a
list's parts. Where a path leads nowhere, what is found is None; nothing here raises on parsed JSON.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

Path = tuple[str | int, ...]
#: A body, or a part of one, as it came.
Raw = str | bytes | bytearray | memoryview
EACH: Final = "[]"
_PLAIN = frozenset({str, bytes, bytearray, int, float, bool, list, tuple, type(None)})
_TEXT_TYPES = frozenset({None, "message", "text", "output_text", "refusal"})  # others: thinking, tools, images
_NAMES = frozenset({
    "answer", "candidates", "choices", "code", "completion", "content", "conversation", "created", "data", "delta",
    "detail", "details", "done", "done_reason", "error", "error_code", "error_type", "estimated_time", "event",
    "finishReason", "finish_reason", "generated_responses", "generated_text", "id", "incomplete_details", "index",
    "message", "messages", "metrics", "model", "object", "output", "param", "parts", "promptFeedback", "refusal",
    "request_id", "response", "role", "score", "status", "status_code", "stop", "stopReason", "stop_reason",
    "summary_text", "text", "token", "tool_calls", "translation_text", "type", "usage", "usageMetadata", "warnings"
})
_MOST_NAMES = 8


def member(value: object, name: str) -> object:
    """What `value` has under `name`: a member of a JSON object, or an attribute of a client library's object.

    Google's own library writes the names of its JSON with underscores: there `finishReason` is `finish_reason`.
    """
    if isinstance(value, dict):
        return value.get(name)
    if type(value) in _PLAIN:
        return None
    found: object = getattr(value, name, None)
    return getattr(value, _snake(name), None) if found is None and not name.islower() else found


def at(value: object, path: Path) -> object:
    """What stands at the end of a path without `EACH`."""
    for step in path:
        if type(value) is dict:  # the common case, ahead of all others
            value = value.get(step)
        elif isinstance(step, int):
            value = value[step] if isinstance(value, list | tuple) and value else None
        else:
            value = member(value, step)
        if value is None:
            return None
    return value


def text_at(value: object, path: Path) -> str | None:
    """The text at the end of a path; where `EACH` joins parts, those that hold something else are left out."""
    for place, step in enumerate(path):
        if step == EACH:
            rest = path[place + 1:]
            parts = value if isinstance(value, list | tuple) else ()
            texts = [text for part in parts if (not rest if type(part) in _PLAIN else _holds_text(part))
                     and (text := text_at(part, rest)) is not None]
            return "".join(texts) if texts else None
        value = value.get(step) if type(value) is dict else at(value, (step,))
        if value is None:
            return None
    return value if isinstance(value, str) else None


def may_have(value: object, path: Path) -> bool:
    """False where a look at the first name shows that nothing is at the end of a path: most rows of most tables."""
    return not isinstance(value, dict) or not path or path[0] in value


def unwrapped(value: object) -> object:
    """The first of the answers: HuggingFace sends lists of them, and lists of lists for several inputs."""
    for _ in range(2):
        if isinstance(value, list | tuple) and value:
            value = value[0]
    return value


def shape(value: object) -> str:
    """`value` by its types, its lengths, and the names that the APIs give; whatever may be content is only counted."""
    if isinstance(value, dict):
        names = sorted(name for name in value if isinstance(name, str) and name in _NAMES)[:_MOST_NAMES]
        if not names:
            return f"dict of {len(value)} keys"
        others = len(value) - len(names)
        return f"dict with keys {', '.join(names)}" + (f" and {others} more" if others else "")
    if isinstance(value, list):
        if not value:
            return "empty list"
        return f"list of {len(value)}, the first a {'list' if isinstance(value[0], list) else shape(value[0])}"
    if isinstance(value, Raw):
        return f"{type(value).__name__} of length {len(value)}"
    return type(value).__name__[:60]


def _holds_text(part: object) -> bool:
    kind = member(part, "type")
    # `thought` is Google's mark on a part that tells of the model's thinking.
    return (kind is None or (isinstance(kind, str) and kind in _TEXT_TYPES)) and member(part, "thought") is not True


@lru_cache(maxsize=256)
def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name)
