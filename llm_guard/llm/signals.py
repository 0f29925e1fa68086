"""What the end of a call says of the server: an `Outcome`, read from exceptions and responses by their shape.

Nothing of requests, httpx or urllib3 is imported: classes are known by module and name. What the APIs say stands in
three tables: the signals in a body, which come first since a 429 alone may mean rate, growth, quota or overload; the
status; and the exceptions of the HTTP libraries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from llm_guard.llm.errors import AnswerError, error_in
from llm_guard.llm.hints import hint_of, left_in, seconds_in
from llm_guard.outcome import FAILURE, FINAL, SUCCESS, TIMEOUT, Kind, Outcome


class Signal(NamedTuple):
    """One thing that an API says in the body of an error.

    `where` is "code" (one of the body's codes or types, `marker` a glob), "text" (`marker` stands in the message) or
    "member" (the body has a number there). With `statuses` it counts under those alone, or where there is no status.
    """

    source: str
    statuses: tuple[int, ...]
    where: str
    marker: str
    kind: Kind


_ANY = ()
#: Read from above; the first that fits decides. Quota stands first: it beats whatever else the body says.
SIGNALS: Final[tuple[Signal, ...]] = (
    Signal("OpenAI", _ANY, "code", "insufficient_quota", Kind.QUOTA),
    Signal("OpenAI", _ANY, "code", "credit_balance_exhausted", Kind.QUOTA),
    Signal("OpenAI", _ANY, "code", "*_spend_limit_exceeded", Kind.QUOTA),
    Signal("OpenAI", _ANY, "code", "organization_usage_limit_exceeded", Kind.QUOTA),
    Signal("Anthropic", _ANY, "code", "enforced_spend_limit_reached", Kind.QUOTA),
    Signal("Anthropic", _ANY, "code", "billing_error", Kind.QUOTA),
    Signal("Anthropic", (400,), "text", "credit balance is too low", Kind.QUOTA),
    Signal("Anthropic", (400,), "text", "reached your specified api usage limits", Kind.QUOTA),
    Signal("Ollama", (429,), "text", "usage limit", Kind.QUOTA),  # of its cloud: by the hour, the session or the week
    Signal("HF", (429,), "text", "please log in", Kind.INVALID),  # no token was sent: waiting brings none
    Signal("HF", (429,), "text", "login to your existing account", Kind.INVALID),
    Signal("OpenAI", _ANY, "code", "slow_down", Kind.GROWTH_LIMITED),
    Signal("Anthropic", _ANY, "code", "ramp_limit_exceeded", Kind.GROWTH_LIMITED),
    Signal("HF", _ANY, "member", "estimated_time", Kind.LOADING),
    Signal("HF, llama.cpp", (503,), "text", "loading", Kind.LOADING),
    Signal("HF Endpoints", (502, 503), "code", "SERVICE_UNAVAILABLE", Kind.LOADING),  # scaled to zero
    Signal("TGI", _ANY, "code", "overloaded", Kind.OVERLOAD),
    Signal("TGI, OpenAI", (429, 503), "text", "overloaded", Kind.OVERLOAD),
    Signal("OpenAI", _ANY, "code", "server_is_overloaded", Kind.OVERLOAD),
    Signal("Anthropic", _ANY, "code", "overloaded_error", Kind.OVERLOAD),
    Signal("llama.cpp", (503,), "code", "unavailable_error", Kind.OVERLOAD),
    Signal("Ollama", (503,), "text", "server busy", Kind.OVERLOAD),
    Signal("OpenAI", _ANY, "code", "rate_limit_exceeded", Kind.LIMITED),
    Signal("Anthropic", _ANY, "code", "rate_limit_error", Kind.LIMITED),
    Signal("Anthropic", (504,), "code", "timeout_error", Kind.TIMEOUT),
    Signal("OpenAI, Anthropic, llama.cpp", (400,), "code", "invalid_request_error", Kind.INVALID),
    Signal("llama.cpp", (501,), "code", "not_supported_error", Kind.INVALID),
    Signal("TGI", (422,), "code", "validation", Kind.INVALID),
    Signal("TGI", (422,), "code", "template_error", Kind.INVALID),
    Signal("TGI", (422,), "code", "tool_error", Kind.INVALID),
)

#: What a status says where the body says nothing. Other 5xx are failures, other 4xx requests that are wrong.
STATUSES: Final[dict[int, Kind]] = {
    402: Kind.QUOTA, 408: Kind.FAILURE, 409: Kind.FAILURE, 424: Kind.FAILURE, 425: Kind.FAILURE, 429: Kind.LIMITED,
    498: Kind.OVERLOAD, 503: Kind.OVERLOAD, 504: Kind.TIMEOUT, 524: Kind.TIMEOUT, 529: Kind.OVERLOAD,
}

_BROKEN = Outcome(Kind.FAILURE)  # the server answered with something that cannot be read
_WRONG = Outcome(Kind.INVALID, answered=False)  # refused on this side, before anything was sent
#: Exceptions by the root of their module and their name; of an exception's classes the nearest one known decides.
EXCEPTIONS: Final[dict[str, Outcome]] = {
    "requests.JSONDecodeError": _BROKEN, "json.JSONDecodeError": _BROKEN, "simplejson.JSONDecodeError": _BROKEN,
    "requests.ContentDecodingError": _BROKEN, "urllib3.DecodeError": _BROKEN, "httpx.DecodingError": _BROKEN,
    "requests.ConnectTimeout": TIMEOUT, "requests.Timeout": TIMEOUT, "urllib3.TimeoutError": TIMEOUT,
    "httpx.TimeoutException": TIMEOUT, "builtins.TimeoutError": TIMEOUT,
    "openai.APITimeoutError": TIMEOUT, "anthropic.APITimeoutError": TIMEOUT,
    "requests.InvalidJSONError": _WRONG, "requests.InvalidURL": _WRONG, "requests.InvalidSchema": _WRONG,
    "requests.MissingSchema": _WRONG, "requests.URLRequired": _WRONG, "requests.InvalidHeader": _WRONG,
    "urllib3.LocationValueError": _WRONG, "httpx.InvalidURL": _WRONG, "httpx.UnsupportedProtocol": _WRONG,
    "http.InvalidURL": _WRONG,
    "requests.RequestException": FAILURE, "urllib3.NewConnectionError": FAILURE, "urllib3.HTTPError": FAILURE,
    "httpx.HTTPError": FAILURE, "http.HTTPException": FAILURE, "urllib.URLError": FAILURE,
    "builtins.ConnectionError": FAILURE, "socket.gaierror": FAILURE, "ssl.SSLError": FAILURE,
    "openai.APIConnectionError": FAILURE, "anthropic.APIConnectionError": FAILURE,
}
_RESPONSES = frozenset({"requests.Response", "httpx.Response", "urllib3.BaseHTTPResponse", "urllib3.HTTPResponse",
                        "urllib.HTTPError"})
_MOST_BODY = 8 * 1024  # bytes; what says "not now" is short
_MOST_TEXT = 2_000
_STATUS_IN_TEXT = re.compile(r"too many (\d{3}) error responses")  # all that urllib3's own retries leave of a response


def outcome_of(end: object) -> Outcome | None:
    """What `end`, an exception or a returned value, says of the attempt; None where it says nothing.

    Reads responses of requests, httpx and urllib3, exceptions that carry one, and the exceptions of these libraries
    and of the standard library; and a `Text`. A body that was not read yet stays unread. Any other value, parsed JSON
    too, counts as an answer (`text_of` finds the errors in it), any other exception is left to others: None. Never
    raises.

    Where the headers of a response tell what its account has left of its requests, the outcome has it too.
    """
    try:
        if isinstance(end, AnswerError):
            return end.outcome
        if isinstance(end, str):  # a Text, which comes with one
            return told if isinstance(told := getattr(end, "outcome", None), Outcome) else None
        if isinstance(end, BaseException):
            return _of_exception(end)
        if _is_response(end):
            return _of_response(end)
    except Exception:  # whatever the object does when it is looked at
        pass
    return None


def _names(value: object) -> list[str]:
    return [f"{str(cls.__module__).partition('.')[0]}.{cls.__name__}" for cls in type(value).__mro__]


def _is_response(value: object) -> bool:
    # By the library, not by the members: the responses of Flask and Django have a status and headers too.
    return not _RESPONSES.isdisjoint(_names(value))


def _of_exception(error: BaseException, depth: int = 3) -> Outcome | None:
    response = next((each for each in (error, getattr(error, "response", None)) if _is_response(each)), None)
    found = None if response is None else _of_response(response)
    if found is not None and found.kind is not Kind.SUCCESS:
        return found
    names = _names(error)
    known = next((EXCEPTIONS[name] for name in names if name in EXCEPTIONS), None)
    if known is None:
        return None
    if "urllib3.ResponseError" in names and (status := _STATUS_IN_TEXT.search(str(error))):
        return Outcome(_by_status(int(status[1])))
    # requests wraps urllib3's errors, and urllib3 the cause; the inner one knows a timeout from a broken connection.
    inner = getattr(error, "reason", None) or next(iter(error.args), None)
    if isinstance(inner, BaseException) and depth:
        known = _of_exception(inner, depth - 1) or known
    return known if response is None else replace(known, answered=True)


def _of_response(response: Any) -> Outcome | None:
    status = getattr(response, "status_code", None) or getattr(response, "status", None)
    if not isinstance(status, int):
        return None
    headers = {str(name).lower(): str(value) for name, value in (response.headers or {}).items()}
    body = _body(response, status)
    if status < 400 and error_in(body) is None:
        left = left_in(headers)
        return SUCCESS if left.remaining is None else Outcome(Kind.SUCCESS, remaining=left.remaining, reset=left.reset)
    return outcome_of_body(body, status, headers)


def outcome_of_body(body: object, status: int = 200, headers: Mapping[str, str] = MappingProxyType({})) -> Outcome:
    """What the body of an error says, with the headers it came with, their names in lower case.

    Under a status below 400 the one that the body itself carries counts, if any.
    """
    kind = _kind(status, body)
    if kind not in FINAL and headers.get("x-should-retry") == "false":
        kind = Kind.INVALID
    elif kind is Kind.INVALID and headers.get("x-should-retry") == "true":
        kind = Kind.FAILURE
    return Outcome(kind, hint_of(kind, headers, body), True, *left_in(headers))


def _body(response: object, status: int) -> object:
    """The JSON body, where it was read already and is short; a short plain text as the message of an error."""
    # Past the properties, which would read from the connection.
    members = vars(response)
    content = members.get("_content") or members.get("_body")
    if not isinstance(content, bytes | bytearray) or len(content) > _MOST_BODY:
        return None
    try:
        body = json.loads(content)
        return body[0] if isinstance(body, list) and body else body  # Google wraps an error in a list
    except (ValueError, RecursionError):
        text = content.decode("utf-8", "replace").strip()
        return {"message": text} if status >= 400 and not text.startswith("<") else None


def _kind(status: int, body: object) -> Kind:
    codes, text = _said(body)
    if status < 400:  # an error under status 200 may carry its real one
        status = next((int(code) for code in codes if re.fullmatch("[45][0-9][0-9]", code)), 0)
    for signal in SIGNALS:
        if signal.statuses and status and status not in signal.statuses:
            continue
        if ((signal.where == "code" and any(fnmatchcase(code, signal.marker) for code in codes))
                or (signal.where == "text" and signal.marker in text)
                or (signal.where == "member" and seconds_in(body, signal.marker) is not None)):
            return signal.kind
    return _by_status(status)


def _by_status(status: int) -> Kind:
    return STATUSES.get(status, Kind.INVALID if 400 <= status < 500 else Kind.FAILURE)


def _said(body: object) -> tuple[list[str], str]:
    """The codes in an error's body, and its message in lower case."""
    error = body.get("error") if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    parts = [part for part in (body, error, details) if isinstance(part, dict)]
    codes = [str(part[name]) for part in parts for name in ("error_code", "code", "type", "error_type", "status")
             if isinstance(part.get(name), str | int)]
    texts = [part[name] for part in parts for name in ("error", "message", "detail") if isinstance(part.get(name), str)]
    return codes, " ".join(texts)[:_MOST_TEXT].lower()
