"""What a client is told of a call that was refused or ran out of time: problem details (RFC 9457), or a page.

The texts are fixed; nothing of an error's own goes out.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from html import escape
from http import HTTPStatus

from llm_guard.errors import CallTimeout, QuotaExhausted, Rejected, Saturated
from llm_guard.outcome import REFUSALS, Kind, Outcome
from llm_guard.runtime import reading, switch
from llm_guard.web.accept import prefers_html
from llm_guard.web.settings import Settings

#: What the type of each problem begins with.
TYPES = "urn:llm-guard:"
#: The most seconds that HTTP's caches and clients count to (RFC 9111, section 1.2.2).
LONGEST_WAIT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One answer. `kind` is the end of its type; `retry_after` is in whole seconds, None where it says nothing."""

    status: int
    kind: str
    detail: str
    retry_after: int | None = None

    @property
    def title(self) -> str:
        return HTTPStatus(self.status).phrase

    def members(self) -> dict[str, str | int]:
        """As problem details."""
        found: dict[str, str | int] = {"type": TYPES + self.kind, "title": self.title, "status": self.status,
                                       "detail": self.detail}
        if self.retry_after is not None:
            found["retry_after"] = self.retry_after
        return found

    def answer(self, accept: str | None) -> tuple[str, dict[str, str]]:
        """The body and the headers, in the form that the client would rather have."""
        html = prefers_html(accept)
        headers = {"Content-Type": "text/html; charset=utf-8" if html else "application/problem+json",
                   "Cache-Control": "no-store", "Vary": "Accept"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return self._page() if html else json.dumps(self.members()), headers

    def _page(self) -> str:
        title, detail = escape(self.title), escape(self.detail)
        return ("<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">"
                "<meta name=\"viewport\" content=\"width=device-width\">"
                f"<title>{title}</title></head>\n"
                f"<body><h1>{title}</h1><p>{detail}</p></body>\n</html>\n")


def problem_of(error: BaseException, settings: Settings) -> Problem | None:
    """What to answer where a view raised `error`; None where it is none of ours to answer, and where guards are off."""
    if switch.is_off:
        return None
    if isinstance(error, Rejected):
        return _refused(error, settings)
    if isinstance(error, CallTimeout):
        return _timed_out()
    if isinstance(error, settings.upstream_errors):
        return _upstream(reading.of_error(error, None), settings)
    return None


def _refused(error: Rejected, settings: Settings) -> Problem:
    after = _whole(error.retry_after, settings)
    if error.by_key and settings.key_status == HTTPStatus.TOO_MANY_REQUESTS:
        return Problem(429, "too-many-requests", f"You have too many requests in progress. {_again(after)}", after)
    kinds = {QuotaExhausted: "quota-exhausted", Saturated: "saturated"}
    kind = next((name for each, name in kinds.items() if isinstance(error, each)),
                "circuit-open" if error.policy == "breaker" else "rejected")
    return _unavailable(kind, after)


def _upstream(outcome: Outcome, settings: Settings) -> Problem | None:
    if outcome.kind in REFUSALS:
        return _unavailable("refused", _whole(outcome.hint, settings))
    if outcome.kind is Kind.QUOTA:
        return _unavailable("quota-exhausted", _whole(outcome.hint, settings))
    if outcome.kind is Kind.TIMEOUT:
        return _timed_out()
    if outcome.kind is Kind.FAILURE:
        return Problem(502, "failed", "A service that this one depends on failed.")
    return None  # a wrong request of our own, or no verdict: a bug is not hidden


def _unavailable(kind: str, after: int) -> Problem:
    return Problem(503, kind, f"The service has no room for this request just now. {_again(after)}", after)


def _timed_out() -> Problem:
    return Problem(504, "timeout", "A service that this one depends on gave no answer in time.")


def _whole(seconds: float | None, settings: Settings) -> int:
    known = seconds is not None and math.isfinite(seconds)
    return max(1, math.ceil(min(seconds if known and seconds is not None else settings.retry_after, LONGEST_WAIT)))


def _again(after: int) -> str:
    return f"Please try again in {after} second{'' if after == 1 else 's'}."
