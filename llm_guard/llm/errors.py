"""What an answer without a text is told by: its shape, its status and its code, and never what it says."""

from __future__ import annotations

from typing import Any, Final

from llm_guard.errors import GuardError
from llm_guard.llm.shapes import at, member, unwrapped
from llm_guard.outcome import Kind, Outcome

BROKEN: Final = Outcome(Kind.FAILURE)  # the server answered with something that cannot be read
#: The codes that errors may show. Any other is left out: what stands in the place of a code may be content.
CODES: Final = frozenset({
    "api_error", "authentication_error", "billing_error", "capacity_exceeded", "content_filter",
    "content_policy_violation", "context_length_exceeded", "credit_balance_exhausted", "dynamic_request_limited",
    "dynamic_token_limited", "enforced_spend_limit_reached", "exceed_context_size_error", "generation",
    "incomplete_generation", "insufficient_quota", "internal_server_error", "invalid_api_key", "invalid_prompt",
    "invalid_request_error", "model_not_found", "not_found_error", "not_supported_error",
    "organization_usage_limit_exceeded", "overloaded", "overloaded_error", "permission_error", "ramp_limit_exceeded",
    "rate_limit_error", "rate_limit_exceeded", "rate_limited", "request_too_large", "server_error",
    "server_is_overloaded", "service_unavailable_error", "slow_down", "template_error", "timeout_error", "tool_error",
    "unavailable_error", "validation",
    "DEADLINE_EXCEEDED", "FAILED_PRECONDITION", "INTERNAL", "INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED", "SERVICE_UNAVAILABLE", "UNAUTHENTICATED", "UNAVAILABLE",
    "ModelNotReadyException", "ServiceQuotaExceededException", "ThrottlingException",
    *map(str, range(400, 600)),
})
_PLACES = ("error_code", "code", "type", "error_type", "status")


class AnswerError(GuardError):
    """An answer without a text: an error that came with status 200, an unknown shape, or JSON that is not whole.

    `what` says in words what was wrong with it. `shape` describes it by types, lengths and the names that the APIs
    themselves give their members; any other name is counted only, since it may be content. `status` is that of the
    response, or None where there was none; `code` the machine's word for what went wrong, where it is one of those that
    the APIs are known to have, else None.

    `outcome` is what it says of the server, and how long it asks to wait: `outcome_of` reads it.
    """

    def __init__(self, shape: str, what: str = "no text in the answer", *, status: int | None = None,
                 code: str | None = None, outcome: Outcome = BROKEN) -> None:
        told = [word for word in (code, None if status is None else f"status {status}") if word]
        super().__init__(f"{what}: {shape}" + (f" ({', '.join(told)})" if told else ""))
        self.shape = shape
        self.what = what
        self.status = status
        self.code = code
        self.outcome = outcome


class StreamError(AnswerError):
    """A stream of text that did not come to its end: the server told of an error, it was cut off, or it is no stream.

    `delivered` is True where some of its text had been handed out before.
    """

    delivered = False


def error_in(body: object) -> dict[str, object] | None:
    """The JSON object that tells of an error, be it in a list, or None where `body` looks like an answer."""
    first = unwrapped(body)
    if (member(first, "error") or member(first, "status") == "failed" or member(first, "type") == "error"
            or member(first, "object") == "error"):
        return _plain(first)
    choice = at(first, ("choices", 0))  # where a router has one provider fail after the other
    return _plain(choice) if member(choice, "error") else None


def code_in(body: object) -> str | None:
    """The most special of the codes in the body of an error that is one of `CODES`."""
    error = member(body, "error")
    for part in (member(error, "details"), error, body):
        for place in _PLACES:
            value = member(part, place) if isinstance(part, dict) else None
            code = str(value) if isinstance(value, int) and 400 <= value < 600 else value
            if isinstance(code, str) and code in CODES:
                return code
    return None


def _plain(value: Any) -> dict[str, object]:
    """A client library's object as the JSON object that it was made of."""
    if isinstance(value, dict):
        return value
    dumped = value.model_dump(by_alias=True, warnings=False) if hasattr(type(value), "model_dump") else vars(value)
    return dumped if isinstance(dumped, dict) else {}
