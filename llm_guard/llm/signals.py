"""What the end of a call says of the server: an `Outcome`, read from exceptions and responses by their shape.

What the APIs say stands in `signal_table`: the signals in a body come first, since a 429 alone may mean rate, growth,
quota, overload or a cold start; then the status. What libraries raise where no answer came: `exception_table`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fnmatch import translate
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from llm_guard.llm.errors import AnswerError, error_in
from llm_guard.llm.exception_table import EXCEPTIONS
from llm_guard.llm.hints import hint_of
from llm_guard.llm.limits import UNTOLD, both_in
from llm_guard.llm.reply import PARSED_ANSWER, RAW, Reply, kin, reply_in, reply_of, response_in, role
from llm_guard.llm.said import Said, said
from llm_guard.llm.signal_table import CODE, MEMBER, PAGE, PENDING, SIGNALS, STATUS, TEXT, Signal
from llm_guard.llm.waits import wait_of
from llm_guard.outcome import FINAL, SUCCESS, Kind, Outcome

_STATUS_IN_TEXT: Final = re.compile(r"too many (\d{3}) error responses")  # all that urllib3's own retries leave of one
_DEPTH: Final = 3  # of errors in errors


def outcome_of(end: object) -> Outcome | None:
    """What `end`, an exception or a returned value, says of the attempt; None where it says nothing.

    Reads responses of requests, httpx and urllib3, exceptions that carry one, and the exceptions of these libraries,
    of the standard library, and of the clients of OpenAI, Anthropic, Hugging Face, AWS and others. A body that was not
    read yet stays unread. A `Text` brings its own. Any other value, parsed JSON too, counts as an answer (`text_of`
    finds the errors in it), any other exception is left to others, and so is the response of a web framework: None.
    Never raises.

    Where the headers of a response tell what its account has left of its requests and tokens, the outcome has it too.
    """
    try:
        if isinstance(end, str):  # a Text, which comes with one
            return told if isinstance(told := getattr(end, "outcome", None), Outcome) else None
        if isinstance(end, BaseException):
            return end.outcome if isinstance(end, AnswerError) else _of_exception(end, _DEPTH)
        cls: type = type(end)
        what = role(cls)
        return _of_value(end, what) if what else None
    except Exception:  # whatever the object does when it is looked at
        return None


def outcome_of_body(body: object, status: int = 200, headers: Mapping[str, str] = MappingProxyType({}),
                    page: str = "") -> Outcome:
    """What an error says: `body` as parsed JSON or a plain text, or `page` as HTML; `headers` with names in lower case.

    A status below 400 says nothing, as where an error comes in a stream or under a 200; the body may give its own.
    """
    found = said(body, headers, page)
    if status < 400:  # an error under a good status may carry its real one
        status = found.status
    signal = signal_in(status, found)
    kind = Kind.FAILURE if signal is None else signal.kind
    should = headers.get("x-should-retry")
    if should == "false" and kind not in FINAL:
        kind = Kind.INVALID
    elif should == "true" and kind is Kind.INVALID:
        kind = Kind.FAILURE
    headers = {**found.headers, **headers}
    return Outcome(kind, hint_of(kind, headers, signal, found.parts, found.text), True, *both_in(headers))


def signal_in(status: int, found: Said) -> Signal | None:
    """The row of the table that an error is read by; `status` is 0 where it is not known."""
    return next((signal for signal, says in _rows(status) if says(found)), None)


@lru_cache(maxsize=128)
def _rows(status: int) -> tuple[tuple[Signal, Callable[[Said], bool]], ...]:
    """The rows that count under a status, each with what tells whether an error says so."""
    return tuple((signal, _reader(signal)) for signal in SIGNALS
                 if status in signal.statuses or (signal.where != STATUS and (not status or not signal.statuses)))


def _reader(signal: Signal) -> Callable[[Said], bool]:
    where, marker = signal.where, signal.marker
    if where == CODE and set(marker) & set("*?["):
        match = re.compile(translate(marker)).match
        return lambda found: any(map(match, found.codes))
    readers: dict[str, Callable[[Said], bool]] = {
        CODE: lambda found: marker in found.codes,
        TEXT: lambda found: marker in found.text,
        PAGE: lambda found: marker in found.page,
        MEMBER: lambda found: any(wait_of(part.get(marker)) is not None for part in found.parts),
        PENDING: lambda found: bool(found.parts) and _is_pending(found.parts[0], marker),
        STATUS: lambda found: True,
    }
    return readers[where]


def _is_pending(body: object, state: str) -> bool:
    """Whether it is a prediction, as Replicate calls it, that is still on its way."""
    return isinstance(body, dict) and "urls" in body and body.get("output") is None and body.get("status") == state


def _of_value(value: Any, what: str) -> Outcome | None:
    if what == PARSED_ANSWER:
        if value.status != "failed":
            return None
        return outcome_of_body({name: getattr(value.error, name, None) for name in ("code", "message")})
    response = value.http_response if what == RAW else value
    return _of_reply(reply_of(response), response)


def _of_reply(reply: Reply | None, response: Any) -> Outcome | None:
    if reply is None:
        return None
    status, headers, body, page = reply
    if not 0 < status < 400 or (body is not None and _is_error(body, response)):
        return outcome_of_body(body, status, headers, page)
    told = both_in(headers)
    return SUCCESS if told == UNTOLD else Outcome(Kind.SUCCESS, None, True, *told)


def _is_error(body: object, response: Any) -> bool:
    return error_in(body) is not None or (_is_pending(body, "starting") and not _is_order(response))


def _is_order(response: Any) -> bool:
    """Whether the request only ordered the work, to be polled for: sent again, it would be ordered twice."""
    members = vars(response)  # past httpx's property, which raises where there is none
    request = members.get("request") or members.get("_request")
    headers = getattr(request, "headers", None) or {}
    return getattr(request, "method", None) == "POST" and "wait" not in str(headers.get("Prefer", ""))


def _of_exception(error: BaseException, depth: int) -> Outcome | None:
    response = response_in(error)
    reply = None if response is None else reply_of(response)
    found = _of_reply(_completed(reply, reply_in(error)), response)
    if found is not None and found.kind is not Kind.SUCCESS:
        return found
    cls: type = type(error)
    names = kin(cls)
    known = next((EXCEPTIONS[name] for name in names if name in EXCEPTIONS), None)
    if known is None:
        return None
    if "urllib3.ResponseError" in names and (status := _STATUS_IN_TEXT.search(str(error))):
        return outcome_of_body(None, int(status[1]))
    # requests wraps urllib3's errors, and urllib3 the cause, as clients wrap those of httpx and Hugging Face's its own:
    # the inner one knows a timeout from a broken connection, and may have the response.
    if depth:
        inner = getattr(error, "reason", None) or next(iter(error.args), None)
        for each in (inner, error.__cause__):
            if isinstance(each, BaseException):
                known = _of_exception(each, depth - 1) or known
    return known if response is None else known._replace(answered=True)


def _completed(reply: Reply | None, told: Reply | None) -> Reply | None:
    """The answer that an error carries, with what its client read of it: the answer may have kept no body.

    In a stream that began well the client alone has the error, under a good status.
    """
    if reply is None or told is None:
        return told or reply
    if reply.status >= 400:
        return reply if reply.body is not None or reply.page else reply._replace(body=told.body, page=told.page)
    return told._replace(headers=reply.headers | told.headers)
