"""Where the text of an answer is, in the shapes in which the APIs send it, and which answers are none.

Three tables say it: where a text may stand, where an answer tells how it ended, and what the words for that mean.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from llm_guard.checks import whole
from llm_guard.errors import GuardError
from llm_guard.llm.bodies import MAX_BYTES, ReadBody, Unread, read
from llm_guard.llm.errors import AnswerError, code_in, error_in
from llm_guard.llm.limits import both_in
from llm_guard.llm.shapes import EACH, Path, at, may_have, member, shape, text_at, unwrapped
from llm_guard.llm.signals import outcome_of, outcome_of_body
from llm_guard.outcome import Kind, Outcome


class Shape(NamedTuple):
    """One place of a text, or of the word for how an answer ended."""

    source: str
    path: Path


#: Where the text is, in the order in which the places are tried. Of several answers the first counts.
SHAPES: Final[tuple[Shape, ...]] = (
    Shape("HF text generation, TGI", ("generated_text",)),
    Shape("HF summarization", ("summary_text",)),
    Shape("HF translation", ("translation_text",)),
    Shape("HF question answering", ("answer",)),
    Shape("HF conversational", ("conversation", "generated_responses", -1)),
    Shape("OpenAI chat", ("choices", 0, "message", "content")),
    Shape("OpenAI chat, in parts", ("choices", 0, "message", "content", EACH, "text")),
    Shape("OpenAI chat, refusal", ("choices", 0, "message", "refusal")),
    Shape("OpenAI completions", ("choices", 0, "text")),
    Shape("OpenAI Responses", ("output", EACH, "content", EACH, "text")),
    Shape("OpenAI Responses, refusal", ("output", EACH, "content", EACH, "refusal")),
    Shape("Gemini", ("candidates", 0, "content", "parts", EACH, "text")),
    Shape("Bedrock Converse", ("output", "message", "content", EACH, "text")),
    Shape("Replicate", ("output",)),
    Shape("Replicate, in pieces", ("output", EACH)),
    Shape("Anthropic", ("content", EACH, "text")),
    Shape("Ollama chat", ("message", "content")),
    Shape("Cohere v2", ("message", "content", EACH, "text")),
    Shape("Ollama", ("response",)),
    Shape("llama.cpp", ("content",)),
)

#: Where an answer says how it ended, or how far it is.
ENDS: Final[tuple[Shape, ...]] = (
    Shape("OpenAI chat and completions", ("choices", 0, "finish_reason")),
    Shape("OpenAI Responses", ("incomplete_details", "reason")),
    Shape("OpenAI Responses, Replicate", ("status",)),
    Shape("Anthropic", ("stop_reason",)),
    Shape("Gemini, prompt", ("promptFeedback", "blockReason")),
    Shape("Gemini", ("candidates", 0, "finishReason")),
    Shape("Cohere v2", ("finish_reason",)),
    Shape("Bedrock Converse", ("stopReason",)),
    Shape("Ollama", ("done_reason",)),
)


class Ending(NamedTuple):
    """Why an answer is none: in words, and for the guards. `despite_text`: also where it has a text."""

    what: str
    kind: Kind
    despite_text: bool = False


_FAILED = Ending("the answer ended in an error", Kind.FAILURE, True)
_MOVED = Ending("a model was only loaded or unloaded", Kind.FAILURE, True)
_NOT_READY = Ending("the answer is not ready yet", Kind.TIMEOUT, True)
_CANCELLED = Ending("the answer was cancelled", Kind.IGNORED, True)
_BLOCKED = Ending("the answer was blocked or refused", Kind.INVALID)
_TOO_LONG = Ending("the answer ended before its text began", Kind.INVALID)
_TOOLS = Ending("the answer is a call of tools", Kind.INVALID)
#: What the words mean; any other says nothing against an answer. A word that is not `despite_text` explains an answer
#: without a text or with an empty one: the server would do the same again.
ENDINGS: Final[dict[str, Ending]] = {
    **dict.fromkeys(("error", "ERROR"), _FAILED),  # OpenRouter, Mistral; Cohere
    "TIMEOUT": Ending("the answer ran out of time", Kind.TIMEOUT, True),  # Cohere
    "insufficient_system_resource": Ending("the server ran out of room", Kind.OVERLOAD, True),  # DeepSeek
    **dict.fromkeys(("load", "unload"), _MOVED),  # Ollama
    "starting": Ending("the model is starting", Kind.LOADING, True),  # Replicate
    **dict.fromkeys(("processing", "queued", "in_progress"), _NOT_READY),  # Replicate; Responses in the background
    **dict.fromkeys(("canceled", "cancelled", "aborted"), _CANCELLED),
    **dict.fromkeys(("content_filter", "content_filtered", "guardrail_intervened", "refusal", "ERROR_TOXIC", "SAFETY",
                     "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"), _BLOCKED),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded",
                     "MAX_TOKENS"), _TOO_LONG),
    **dict.fromkeys(("tool_calls", "function_call", "tool_use", "TOOL_CALL"), _TOOLS),
}
#: Characters of a server's word for an ending that are kept: it may be anything.
MOST_REASON: Final = 60
_ALWAYS: Final[dict[Path, Ending]] = {("promptFeedback", "blockReason"): _BLOCKED}  # whatever the word
#: Calls of tools where no word tells of them: a list, and what those of its parts have that are calls.
CALLS: Final[tuple[tuple[str, Path, str], ...]] = (
    ("OpenAI chat", ("choices", 0, "message", "tool_calls"), "function"),
    ("OpenAI Responses", ("output",), "call_id"),
    ("Gemini", ("candidates", 0, "content", "parts"), "functionCall"),
    ("Ollama chat", ("message", "tool_calls"), "function"),
)


def text_of(answer: object, *, max_bytes: int = MAX_BYTES) -> str:
    """The text in an API's answer; raises `AnswerError` where there is none.

    `answer` is parsed JSON, or an object of a client library that has the members of the JSON as attributes; or a
    response of requests or httpx, whose body is read where it was not yet; or a body as str or bytes. A str or bytes
    that begins like a JSON object or list must be one and whole; a page of HTML is an error, and so is a body of events
    (`stream_text` reads those); any other is taken for the text itself. The body of a response must be JSON, and its
    status below 400. In whole JSON, bytes that are no UTF-8 become U+FFFD. A body larger than `max_bytes` is an error,
    at once, and so is one of more than `max_bytes / 16` lists and objects; parsed JSON takes up to 12 times its size.

    Of several answers the first counts; where a model refuses, its refusal is the text. An error that came with status
    200 is an error, be it beside a text, and so is an answer that ended in one. An empty text is a text, but where the
    answer tells why it is empty: blocked, cut short before it began, a call of tools.

    What went wrong is in the error's `outcome`, in the words of the guards: they wait where the server asks to, and do
    not repeat what would end the same way. A `ConfigError` says that `max_bytes` is no number of at least 1. Where a
    guard cuts a call off while the body is still read, its own error comes through.
    """
    whole("max_bytes", max_bytes, least=1)
    reply = ReadBody(answer)
    try:
        reply = read(answer, max_bytes)
        found = answer_in(reply)
    except GuardError:
        raise
    except Exception:  # an object that raises when it is looked at
        found = AnswerError(type(answer).__name__[:60], status=reply.status)
    if isinstance(found, str):
        return found
    raise found


def answer_in(reply: ReadBody) -> str | AnswerError:
    body, status = reply.body, reply.status
    failed = status is not None and status >= 400
    if isinstance(body, Unread):
        return AnswerError(body.shape, body.what, status=status,
                           outcome=refused(reply, None) if failed else body.outcome)
    if isinstance(body, str) and not failed:
        return body
    error = error_in(body)
    if error is not None or failed:
        said = unwrapped(body) if error is None else error
        return AnswerError(shape(body), "the answer is an error", status=status, code=code_in(said),
                           outcome=refused(reply, said))
    first = unwrapped(body)
    text = find_text(first)
    word, ending = _ending_of(first, text)
    if ending is not None:
        return AnswerError(shape(body), ending.what, status=status, code=word,
                           outcome=Outcome(ending.kind, None, True, *both_in(reply.headers)))
    if text is None:
        return AnswerError(shape(body), status=status, code=code_in(first),
                           outcome=outcome_of_body(first, status or 200, reply.headers))
    return text


def refused(reply: ReadBody, said: object) -> Outcome:
    """What an error says by its body and headers; where it is no JSON (`said` is None), by its words too."""
    in_words = outcome_of(reply.response) if said is None else None
    return in_words or outcome_of_body(said, reply.status or 200, reply.headers)


def find_text(body: object) -> str | None:
    """The text in one answer."""
    for _, path in SHAPES:
        if may_have(body, path) and (text := text_at(body, path)) is not None:
            return text
    return None


def _ending_of(body: object, text: str | None) -> tuple[str | None, Ending | None]:
    """Why an answer is none, as the APIs' word, where it is one that errors may show, and as what it means."""
    for _, path in ENDS:
        if not may_have(body, path):
            continue
        word = at(body, path)
        if (isinstance(word, str) and (ending := meaning_of(word, path)) is not None
                and (ending.despite_text or not text)):
            return str(word) if word in ENDINGS else None, ending
    called = not text and any(_calls(at(body, path), name) for _, path, name in CALLS)
    return None, _TOOLS if called else None


def meaning_of(word: str, path: Path) -> Ending | None:
    """What the word for an ending means, where it is one that speaks against the answer."""
    return _ALWAYS.get(path) or ENDINGS.get(word)


def _calls(parts: object, name: str) -> bool:
    return isinstance(parts, list) and any(member(part, name) is not None for part in parts)
