"""How many tokens an answer says it took, in the forms in which the APIs count them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from llm_guard.checks import whole
from llm_guard.llm.bodies import MAX_BYTES, NO_HEADERS, Unread, read
from llm_guard.llm.shapes import Path, at, may_have, unwrapped


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one call; None is what the server did not tell, or told in no number that makes sense.

    `input` is all that was read, `cached` the part of it that came from a cache (Anthropic counts such tokens apart;
    here they are in). `output` is all that was written, thinking included. `total` is the server's own sum, or else
    that of the two, where both are known.

    `load_seconds` is how long the server loaded the model for this call, a sign of a cold start (Ollama);
    `queue_seconds` how long the call waited in the server's queue (TGI).
    """

    input: int | None = None
    output: int | None = None
    total: int | None = None
    cached: int | None = None
    load_seconds: float | None = None
    queue_seconds: float | None = None


class Form(NamedTuple):
    """One way to count: where the counts stand, and which of them add up to what.

    `cached` names the first count that is there; `load` a number of nanoseconds.
    """

    source: str
    at: Path
    input: tuple[Path, ...]
    output: tuple[Path, ...]
    total: Path | None = None
    cached: tuple[Path, ...] = ()
    load: Path | None = None


_OPENAI = Form(
    "OpenAI chat and completions, and look-alikes", ("usage",), (("prompt_tokens",),), (("completion_tokens",),),
    ("total_tokens",), (("prompt_tokens_details", "cached_tokens"), ("prompt_cache_hit_tokens",)))
_IN_OUT = Form(
    "OpenAI Responses, Anthropic", ("usage",),
    (("input_tokens",), ("cache_creation_input_tokens",), ("cache_read_input_tokens",)), (("output_tokens",),),
    ("total_tokens",), (("input_tokens_details", "cached_tokens"), ("cache_read_input_tokens",)))
_COHERE = Form("Cohere v2", ("usage", "tokens"), (("input_tokens",),), (("output_tokens",),))
_BEDROCK = Form(
    "Bedrock Converse", ("usage",), (("inputTokens",), ("cacheReadInputTokens",), ("cacheWriteInputTokens",)),
    (("outputTokens",),), ("totalTokens",), (("cacheReadInputTokens",),))
#: Forms alike but for their place are one: their counts add to each other's.
FORMS: Final[tuple[Form, ...]] = (
    _OPENAI,
    _OPENAI._replace(source="Groq, stream", at=("x_groq", "usage")),
    _IN_OUT,
    _IN_OUT._replace(source="Anthropic, a stream's start", at=("message", "usage")),
    _IN_OUT._replace(source="OpenAI Responses, a stream's end", at=("response", "usage")),
    _COHERE,
    _COHERE._replace(source="Cohere v2, a stream's end", at=("delta", "usage", "tokens")),
    _COHERE._replace(source="Cohere v1", at=("meta", "tokens")),
    _BEDROCK,
    _BEDROCK._replace(source="Bedrock Converse, a stream's end", at=("metadata", "usage")),
    Form("Gemini", ("usageMetadata",), (("promptTokenCount",), ("toolUsePromptTokenCount",)),
         (("candidatesTokenCount",), ("thoughtsTokenCount",)), ("totalTokenCount",), (("cachedContentTokenCount",),)),
    Form("Ollama", (), (("prompt_eval_count",),), (("eval_count",),), load=("load_duration",)),
    Form("llama.cpp", (), (("tokens_evaluated",),), (("tokens_predicted",),)),
    Form("TGI", ("details",), (("input_length",),), (("generated_tokens",),)),
)

#: The headers of TGI.
INPUT_HEADER: Final = "x-prompt-tokens"
OUTPUT_HEADER: Final = "x-generated-tokens"
QUEUE_HEADER: Final = "x-queue-time"  # milliseconds
_MOST_TOKENS: Final = 10**9
_MOST_SECONDS: Final = 1e6
_NOTHING: Final = Usage()


def usage_of(answer: object, *, max_bytes: int = MAX_BYTES) -> Usage | None:
    """The tokens that an answer says it took, or None where it says nothing of them that makes sense.

    `answer` is parsed JSON, a body as str or bytes, an object of a client library that has the members of the JSON as
    attributes (`answer.usage.prompt_tokens`), or a response of requests or httpx, of which the headers count too where
    the body says nothing; or a stream by `stream_text` that has come to its end. A body that was not read yet stays
    unread; one larger than `max_bytes` says nothing. Never raises, but for a `ConfigError` where `max_bytes` is no
    number of at least 1.
    """
    whole("max_bytes", max_bytes, least=1)
    try:
        if isinstance(own := getattr(answer, "usage", answer), Usage | None):
            return own
        reply = read(answer, max_bytes, fetch=False)
        tally = Tally()
        tally.add(None if isinstance(reply.body, Unread) else unwrapped(reply.body))
        return tally.usage(reply.headers if reply.response is not None else NO_HEADERS)
    except Exception:  # whatever the object does when it is looked at
        return None


class Tally:
    """Adds up what the events of a stream say of its tokens: the counts are cumulative, so that the last one told of
    each counts."""

    def __init__(self) -> None:
        self._told: dict[tuple[Path, ...], dict[Path, object]] = {}

    def add(self, event: object) -> None:
        """Takes note of what one event, or a whole answer, says."""
        for form, paths in _PATHS:
            if not may_have(event, form.at) or (counts := at(event, form.at)) is None:
                continue
            for path in paths:
                if may_have(counts, path) and (count := at(counts, path)) is not None:
                    self._told.setdefault(form.input, {})[path] = count

    def usage(self, headers: Mapping[str, str]) -> Usage | None:
        """What was told so far, with what the headers add; None where nothing was."""
        found = _NOTHING
        for form in FORMS:
            if form.input in self._told:
                usage = _counted(form, self._told[form.input])
                # Forms share the name of the total: the one that knows its parts too is right.
                if usage.input is not None or usage.output is not None:
                    found = usage
                    break
                found = usage if found == _NOTHING else found
        if headers:
            found = _with_headers(found, headers)
        return None if found == _NOTHING else found


def _paths(form: Form) -> tuple[Path, ...]:
    single = tuple(path for path in (form.total, form.load) if path is not None)
    return (*form.input, *form.output, *form.cached, *single)


_PATHS: Final = tuple((form, _paths(form)) for form in FORMS)


def _counted(form: Form, told: Mapping[Path, object]) -> Usage:
    cached = next((count for path in form.cached if (count := _count(told.get(path))) is not None), None)
    read, written, total = _sum(told, form.input), _sum(told, form.output), _count(told.get(form.total or ()))
    return Usage(read, written, _total(read, written) if total is None else total, cached,
                 _seconds(told.get(form.load or ()), 1e9))


def _with_headers(usage: Usage, headers: Mapping[str, str]) -> Usage:
    def told(name: str) -> float | None:
        try:
            return float(headers.get(name, ""))
        except ValueError:
            return None

    read = _count(told(INPUT_HEADER)) if usage.input is None else usage.input
    written = _count(told(OUTPUT_HEADER)) if usage.output is None else usage.output
    return replace(usage, input=read, output=written, queue_seconds=_seconds(told(QUEUE_HEADER), 1e3),
                   total=_total(read, written) if usage.total is None else usage.total)


def _total(read: int | None, written: int | None) -> int | None:
    return None if read is None or written is None else read + written


def _sum(told: Mapping[Path, object], paths: tuple[Path, ...]) -> int | None:
    """The sum of the counts that were told; None where none was, or where one makes no sense."""
    counts = [_count(told[path]) for path in paths if path in told]
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _count(value: object) -> int | None:
    """A number of tokens; as a float too, since some clients make floats of all numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_TOKENS:
        return None
    return int(value) if value == int(value) else None


def _seconds(value: object, parts: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_SECONDS * parts:
        return None
    return value / parts
