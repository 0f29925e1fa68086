"""The text of an answer that has not forgotten what the server told beside it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final, Self

from llm_guard.llm.answers import ENDS, MOST_REASON, answer_in
from llm_guard.llm.bodies import MAX_BYTES, read
from llm_guard.llm.errors import AnswerError
from llm_guard.llm.shapes import Path, at, unwrapped
from llm_guard.llm.signals import outcome_of
from llm_guard.llm.usage import Tally, Usage
from llm_guard.outcome import SUCCESS, Outcome

_ENDS: Final[tuple[Path, ...]] = (*(end.path for end in ENDS), ("details", "finish_reason"))


class Text(str):
    """A str, as a ready call function returns it.

    `usage` is what the call took in tokens (`usage_of` reads it), `finish_reason` the server's word for how the answer
    ended; None where it told neither. `outcome` is what the answer said of the server and the account (`outcome_of`
    reads it), so that the guards hear of it. What is made of it by `strip()` and the like is a plain str.
    """

    __slots__ = ("finish_reason", "outcome", "usage")
    usage: Usage | None
    finish_reason: str | None
    outcome: Outcome

    def __new__(cls, text: str, *, usage: Usage | None = None, finish_reason: str | None = None,
                outcome: Outcome = SUCCESS) -> Self:
        made = super().__new__(cls, text)
        made.usage, made.finish_reason, made.outcome = usage, finish_reason, outcome
        return made


def text_as_json(text: Text) -> dict[str, Any]:
    """All that it says but for the `outcome`, which was of its time."""
    return {"text": str(text), "usage": None if text.usage is None else asdict(text.usage),
            "finish_reason": text.finish_reason}


def text_from_json(plain: dict[str, Any]) -> Text:
    """The text of which `text_as_json` was made."""
    usage = plain["usage"]
    return Text(plain["text"], usage=None if usage is None else Usage(**usage), finish_reason=plain["finish_reason"])


def text_in(response: Any) -> Text:
    """What a whole response says; raises `AnswerError` as `text_of` does."""
    reply = read(response, MAX_BYTES)
    found = answer_in(reply)
    if isinstance(found, AnswerError):
        raise found
    tally = Tally()
    tally.add(unwrapped(reply.body))
    words = (at(unwrapped(reply.body), path) for path in _ENDS)
    reason = next((word[:MOST_REASON] for word in words if isinstance(word, str) and word), None)
    return Text(found, usage=tally.usage(reply.headers), finish_reason=reason, outcome=outcome_of(response) or SUCCESS)
