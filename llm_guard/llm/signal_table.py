"""What LLM APIs say when they give no answer: a row for each signal.

vLLM has no row: it refuses nothing, and its load shows in latency alone. What a library raises where no answer came
stands in `exception_table`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from llm_guard.outcome import Kind

CODE: Final = "code"  # `marker`, a glob, is one of the codes or types in the body, or in a header for them
TEXT: Final = "text"  # `marker` stands in the message, in lower case
PAGE: Final = "page"  # `marker` stands in an HTML page, in lower case
MEMBER: Final = "member"  # the body has a number at `marker`
PENDING: Final = "pending"  # a good status, and the body's own `status` is `marker`: the model is on its way
STATUS: Final = "status"  # the status alone says it

#: As a place of a wait: the message names it, as in "please retry after 6 seconds".
IN_WORDS: Final = "in words"


class Signal(NamedTuple):
    """One thing that an API says.

    With `statuses` it counts under those alone, or where no status is known, as in a stream. `waits` are the places
    where the API tells how long to wait, besides the headers that any API may send (`hints`): a member of the body or
    a header by its name, `IN_WORDS`, or a number of seconds that its pages name. The first that holds one counts.
    """

    source: str
    statuses: tuple[int, ...] | range
    where: str
    marker: str
    kind: Kind
    waits: tuple[str | float, ...] = ()

    @property
    def name(self) -> str:
        """The row's name: source, marker and statuses."""
        statuses = self.statuses[::len(self.statuses) - 1] if isinstance(self.statuses, range) else self.statuses
        return " ".join((self.source, *filter(None, (self.marker,)), *map(str, statuses)))


_ANY: Final = ()

#: Read from above; the first that fits decides. Quota comes first: it beats whatever else an error says, and any wait
#: that it asks for. The status comes last: a 429 alone may mean rate, growth, quota, overload or a cold start.
SIGNALS: Final[tuple[Signal, ...]] = (
    # Quota: nothing comes back by waiting.
    Signal("OpenAI", _ANY, CODE, "insufficient_quota", Kind.QUOTA),
    Signal("OpenAI", _ANY, CODE, "credit_balance_exhausted", Kind.QUOTA),
    Signal("OpenAI", _ANY, CODE, "*_spend_limit_exceeded", Kind.QUOTA),
    Signal("OpenAI", _ANY, CODE, "organization_usage_limit_exceeded", Kind.QUOTA),
    Signal("OpenAI", _ANY, CODE, "billing_hard_limit_reached", Kind.QUOTA),
    Signal("OpenAI", _ANY, CODE, "billing_not_active", Kind.QUOTA),
    Signal("Azure", (403,), TEXT, "out of call volume quota", Kind.QUOTA),
    Signal("Anthropic", _ANY, CODE, "*_spend_limit_reached", Kind.QUOTA),
    Signal("Anthropic", _ANY, CODE, "*_billing_unavailable", Kind.QUOTA),
    Signal("Anthropic", _ANY, CODE, "billing_error", Kind.QUOTA),
    Signal("Anthropic", (400,), TEXT, "credit balance is too low", Kind.QUOTA),
    Signal("Anthropic", (400,), TEXT, "you have reached your specified", Kind.QUOTA),  # API usage limits
    Signal("Ollama", (429,), TEXT, "usage limit", Kind.QUOTA),  # of its cloud, by the hour, the session or the week
    Signal("HF router", (402,), TEXT, "monthly included credits", Kind.QUOTA),
    Signal("Gemini", _ANY, CODE, "*PerDay*", Kind.QUOTA),  # the retryDelay beside it misleads
    Signal("Bedrock", _ANY, CODE, "[Ss]erviceQuotaExceededException", Kind.QUOTA),
    Signal("Bedrock", (400, 429), TEXT, "too many tokens per day", Kind.QUOTA),
    Signal("Cohere", (429,), TEXT, "api calls / month", Kind.QUOTA),
    Signal("OpenRouter", (429,), TEXT, "free-models-per-day", Kind.QUOTA),
    Signal("xAI", (403, 429), TEXT, "used all available credits", Kind.QUOTA),

    # No wait helps: a request over the whole limit, or one without the token that it needs.
    Signal("OpenAI, Groq", (413, 429), TEXT, "request too large", Kind.INVALID),
    Signal("HF", (429,), TEXT, "please log in", Kind.INVALID),
    Signal("HF", (429,), TEXT, "login to your existing account", Kind.INVALID),

    # Traffic grew too fast, even if inside the limits.
    Signal("OpenAI", _ANY, CODE, "slow_down", Kind.GROWTH_LIMITED),
    Signal("Anthropic", _ANY, CODE, "ramp_limit_exceeded", Kind.GROWTH_LIMITED),
    Signal("Together", _ANY, CODE, "dynamic_request_limited", Kind.GROWTH_LIMITED, ("x-ratelimit-reset",)),
    Signal("Together", _ANY, CODE, "dynamic_token_limited", Kind.GROWTH_LIMITED, ("x-ratelimit-reset",)),

    # The model starts cold.
    Signal("HF", _ANY, MEMBER, "estimated_time", Kind.LOADING, ("estimated_time",)),
    Signal("llama.cpp", (503,), TEXT, "loading model", Kind.LOADING),
    Signal("HF", (503,), TEXT, "loading", Kind.LOADING),
    Signal("HF Endpoints", (502, 503), CODE, "SERVICE_UNAVAILABLE", Kind.LOADING),  # scaled to zero
    Signal("SageMaker, Bedrock", _ANY, CODE, "[Mm]odelNotReadyException", Kind.LOADING),
    Signal("Replicate", _ANY, PENDING, "starting", Kind.LOADING),

    # The server has no room.
    Signal("TGI", _ANY, CODE, "overloaded", Kind.OVERLOAD),
    Signal("OpenAI", _ANY, CODE, "server_is_overloaded", Kind.OVERLOAD),
    Signal("Anthropic", _ANY, CODE, "overloaded_error", Kind.OVERLOAD),
    Signal("Gemini", _ANY, CODE, "MODEL_CAPACITY_EXHAUSTED", Kind.OVERLOAD, ("retryDelay",)),
    Signal("Gemini", _ANY, CODE, "UNAVAILABLE", Kind.OVERLOAD, ("retryDelay",)),
    Signal("Groq", _ANY, CODE, "capacity_exceeded", Kind.OVERLOAD),
    Signal("Mistral", (429,), CODE, "3505", Kind.OVERLOAD),
    Signal("Mistral", (429,), TEXT, "capacity exceeded", Kind.OVERLOAD),
    Signal("llama.cpp", (503,), CODE, "unavailable_error", Kind.OVERLOAD),
    Signal("Ollama", (503,), TEXT, "server busy", Kind.OVERLOAD),
    Signal("Bedrock", _ANY, CODE, "[Ss]erviceUnavailable*", Kind.OVERLOAD),
    Signal("Azure", (429,), TEXT, "experiencing high demand", Kind.OVERLOAD, (IN_WORDS,)),

    # Over the caller's rate.
    Signal("OpenAI, Groq", _ANY, CODE, "rate_limit_exceeded", Kind.LIMITED, (IN_WORDS,)),
    Signal("Azure", _ANY, CODE, "RateLimitReached", Kind.LIMITED, (IN_WORDS,)),
    Signal("Azure", (429,), TEXT, "please retry after", Kind.LIMITED, (IN_WORDS,)),
    Signal("Azure", (429,), TEXT, "rate limit is exceeded", Kind.LIMITED, (IN_WORDS,)),
    Signal("Anthropic", _ANY, CODE, "rate_limit_error", Kind.LIMITED),
    Signal("Gemini", _ANY, CODE, "RESOURCE_EXHAUSTED", Kind.LIMITED, ("retryDelay", IN_WORDS)),
    Signal("Mistral", _ANY, CODE, "rate_limited", Kind.LIMITED),
    Signal("Mistral", (429,), CODE, "1300", Kind.LIMITED),
    Signal("Cohere", (429,), TEXT, "trial key", Kind.LIMITED),
    Signal("OpenRouter", (402,), CODE, "openrouter_in_flight_budget", Kind.LIMITED),  # comes back as calls end
    Signal("Replicate", (429,), TEXT, "your rate limit resets in", Kind.LIMITED, (IN_WORDS,)),
    Signal("SageMaker, Bedrock", _ANY, CODE, "*[Tt]hrottl*", Kind.LIMITED),
    Signal("SageMaker, Bedrock", _ANY, CODE, "[Tt]ooManyRequestsException", Kind.LIMITED),
    Signal("Cloudflare", (429,), CODE, "1015", Kind.LIMITED, ("retry_after", 30.0)),
    Signal("Cloudflare", (403, 429), TEXT, "error code: 1015", Kind.LIMITED, (30.0,)),
    Signal("Cloudflare", (403, 429), PAGE, "you are being rate limited", Kind.LIMITED, (30.0,)),
    # What says "overloaded" of itself and has no code for it.
    Signal("TGI, OpenAI, Gemini", (429, 503), TEXT, "overloaded", Kind.OVERLOAD),

    # Time ran out over there.
    Signal("Anthropic", (504,), CODE, "timeout_error", Kind.TIMEOUT),
    Signal("Gemini", _ANY, CODE, "DEADLINE_EXCEEDED", Kind.TIMEOUT),
    Signal("Bedrock", _ANY, CODE, "[Mm]odelTimeoutException", Kind.TIMEOUT),

    # The server failed.
    Signal("TGI", (424,), CODE, "generation", Kind.FAILURE),
    Signal("TGI", (500,), CODE, "incomplete_generation", Kind.FAILURE),
    Signal("OpenAI, llama.cpp", (500,), CODE, "server_error", Kind.FAILURE),
    Signal("Anthropic", (500,), CODE, "api_error", Kind.FAILURE),
    Signal("Gemini", (500,), CODE, "INTERNAL", Kind.FAILURE),
    Signal("SageMaker, Bedrock", (424,), CODE, "[Mm]odel*Error*", Kind.FAILURE),
    Signal("SageMaker, Bedrock", (500,), CODE, "[Ii]nternal*", Kind.FAILURE),

    # The request is wrong, and stays so.
    Signal("TGI", (422,), CODE, "validation", Kind.INVALID),
    Signal("TGI", (422,), CODE, "template_error", Kind.INVALID),
    Signal("TGI", (422,), CODE, "tool_error", Kind.INVALID),
    Signal("OpenAI", (400,), CODE, "invalid_prompt", Kind.INVALID),
    Signal("OpenAI", (400,), CODE, "context_length_exceeded", Kind.INVALID),
    Signal("OpenAI", (401,), CODE, "invalid_api_key", Kind.INVALID),
    Signal("OpenAI", (404,), CODE, "model_not_found", Kind.INVALID),
    Signal("Azure", (400,), CODE, "content_filter", Kind.INVALID),
    Signal("OpenAI, Anthropic, llama.cpp", (400,), CODE, "invalid_request_error", Kind.INVALID),
    Signal("Anthropic", (413,), CODE, "request_too_large", Kind.INVALID),
    Signal("Anthropic", (401,), CODE, "authentication_error", Kind.INVALID),
    Signal("Anthropic", (403,), CODE, "permission_error", Kind.INVALID),
    Signal("Anthropic", (404,), CODE, "not_found_error", Kind.INVALID),
    Signal("Gemini", (400,), CODE, "INVALID_ARGUMENT", Kind.INVALID),
    Signal("Gemini", (400,), CODE, "FAILED_PRECONDITION", Kind.INVALID),
    Signal("Gemini", (403,), CODE, "PERMISSION_DENIED", Kind.INVALID),
    Signal("Bedrock", (400, 403, 404), CODE, "[Vv]alidationException", Kind.INVALID),
    Signal("Bedrock", (400, 403, 404), CODE, "[Aa]ccessDeniedException", Kind.INVALID),
    Signal("HF Endpoints", (400,), TEXT, "paused", Kind.INVALID),
    Signal("HF Endpoints", (400,), TEXT, "invalid state", Kind.INVALID),
    Signal("Ollama", (404,), TEXT, "not found", Kind.INVALID),
    Signal("llama.cpp", (400,), CODE, "exceed_context_size_error", Kind.INVALID),
    Signal("llama.cpp", (501,), CODE, "not_supported_error", Kind.INVALID),

    # What a status says where nothing else does.
    Signal("HTTP", (402,), STATUS, "", Kind.QUOTA),
    Signal("HTTP", (408, 409, 424, 425), STATUS, "", Kind.FAILURE),
    Signal("HTTP", (429,), STATUS, "", Kind.LIMITED, (IN_WORDS,)),
    Signal("Groq", (498,), STATUS, "", Kind.OVERLOAD),
    Signal("HTTP", (503,), STATUS, "", Kind.OVERLOAD, (IN_WORDS,)),
    Signal("HF router", (504,), STATUS, "", Kind.TIMEOUT),
    Signal("Cloudflare", (520, 521, 522, 523), STATUS, "", Kind.FAILURE),
    Signal("Cloudflare", (524,), STATUS, "", Kind.TIMEOUT),  # the work may have run
    Signal("Anthropic", (529,), STATUS, "", Kind.OVERLOAD),
    Signal("HTTP", range(400, 500), STATUS, "", Kind.INVALID),
    Signal("HTTP", range(500, 600), STATUS, "", Kind.FAILURE),
)
