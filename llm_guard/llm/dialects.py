"""Where the events of a stream have their text, and how they say that it has come to its end, API by API."""

from __future__ import annotations

from typing import Final, NamedTuple

from llm_guard.llm.shapes import EACH, Path, at, may_have, member


class Place(NamedTuple):
    """A place in the events of one type, or, where `type` is None, in those of any.

    The type is the event's member `type`, or else the name that stands before its data.
    """

    source: str
    type: str | None
    path: Path


#: The next piece of the text. The first place that has a str decides, be it an empty one.
DELTAS: Final[tuple[Place, ...]] = (
    Place("TGI, HF", None, ("token", "text")),
    Place("OpenAI chat", None, ("choices", 0, "delta", "content")),
    Place("OpenAI chat, in parts", None, ("choices", 0, "delta", "content", EACH, "text")),
    Place("OpenAI chat, refusal", None, ("choices", 0, "delta", "refusal")),
    Place("OpenAI chat, the message at once", None, ("choices", 0, "message", "content")),
    Place("OpenAI completions", None, ("choices", 0, "text")),
    Place("OpenAI Responses", "response.output_text.delta", ("delta",)),
    Place("OpenAI Responses, refusal", "response.refusal.delta", ("delta",)),
    Place("Anthropic", "content_block_start", ("content_block", "text")),
    Place("Anthropic", "content_block_delta", ("delta", "text")),
    Place("Gemini", None, ("candidates", 0, "content", "parts", EACH, "text")),
    Place("Cohere v2", "content-delta", ("delta", "message", "content", "text")),
    Place("Bedrock Converse", None, ("contentBlockDelta", "delta", "text")),
    Place("Ollama chat", None, ("message", "content")),
    Place("Ollama", None, ("response",)),
    Place("llama.cpp", None, ("content",)),
    Place("Replicate", "output", ()),
)

#: The word for how the answer ended; after it no more text is due.
REASONS: Final[tuple[Place, ...]] = (
    Place("OpenAI chat and completions", None, ("choices", 0, "finish_reason")),
    Place("OpenAI Responses", "response.incomplete", ("response", "incomplete_details", "reason")),
    Place("OpenAI Responses", "response.completed", ("response", "status")),
    Place("Anthropic", "message_delta", ("delta", "stop_reason")),
    Place("Gemini, prompt", None, ("promptFeedback", "blockReason")),
    Place("Gemini", None, ("candidates", 0, "finishReason")),
    Place("Cohere v2", "message-end", ("delta", "finish_reason")),
    Place("Bedrock Converse", None, ("messageStop", "stopReason")),
    Place("Ollama", None, ("done_reason",)),
    Place("TGI, HF", None, ("details", "finish_reason")),
    Place("llama.cpp", None, ("stop_type",)),
    Place("Replicate", "done", ("reason",)),
)


class Mark(NamedTuple):
    """The end mark of a dialect: a type of events, or something other than false at a path.

    After a `last` one the stream is over, whatever else the server may send.
    """

    source: str
    type: str | None
    path: Path
    last: bool


#: How a stream says that it is whole, where neither `[DONE]` nor a word for its ending does.
MARKS: Final[tuple[Mark, ...]] = (
    Mark("Anthropic", "message_stop", (), True),
    Mark("OpenAI Responses", "response.completed", (), True),
    Mark("OpenAI Responses", "response.incomplete", (), True),
    Mark("Cohere v2", "message-end", (), True),
    Mark("Replicate", "done", (), True),
    Mark("Ollama", None, ("done",), True),
    Mark("llama.cpp", None, ("stop",), False),
    Mark("TGI, HF", None, ("generated_text",), False),
)


def first_choice(event: object) -> object:
    """`event` with the first of its answers in the first place, where each event brings a piece of any of them."""
    for name in ("choices", "candidates"):
        choices = member(event, name)
        if isinstance(choices, list) and choices and member(choices[0], "index") not in (None, 0):
            return {**event, name: [each for each in choices if member(each, "index") == 0]} if isinstance(
                event, dict) else None
    return event


def type_of(name: str | None, event: object) -> str | None:
    """The type of an event, by its own member or the name in front of it."""
    own = member(event, "type")
    return own if isinstance(own, str) else name


def mark_in(kind: str | None, event: object) -> Mark | None:
    """The end mark that an event is, if it is one."""
    for mark in MARKS:
        if mark.type == kind if mark.type is not None else (
                may_have(event, mark.path) and at(event, mark.path) not in (None, False)):
            return mark
    return None
