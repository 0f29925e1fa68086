"""What HTTP libraries and API clients hand over of a server's answer, known by their shape: none is imported."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Final, NamedTuple

from llm_guard.llm.exception_table import CLIENTS, PARSED, RAW_RESPONSES, RESPONSES

RESPONSE: Final = "response"
RAW: Final = "raw"
PARSED_ANSWER: Final = "parsed"
_ROLES: Final = {RESPONSE: RESPONSES, RAW: RAW_RESPONSES, PARSED_ANSWER: PARSED}
_MOST_BODY: Final = 8 * 1024  # bytes; what says "not now" is short
_RESPONSES_OF: Final = ("response", "raw_response", "http_response")
_STATUSES_OF: Final = ("status_code", "status", "code", "http_status")
_BODIES_OF: Final = ("body", "json_body", "details", "error", "detail")
#: One of these stands in each body under a good status that is no answer.
_SUSPECT: Final = (b'"error"', b'"failed"', b'"starting"')


class Reply(NamedTuple):
    """A server's answer: `status` is 0 where it is not known, `headers` has its names in lower case.

    `body` is parsed JSON, or a plain text, or None; `page` is an HTML page.
    """

    status: int
    headers: dict[str, str]
    body: object = None
    page: str = ""


@lru_cache(maxsize=512)
def kin(cls: type) -> tuple[str, ...]:
    """The names of a class and those that it comes from, nearest first, each after the root of its module."""
    return tuple(f"{str(each.__module__).partition('.')[0]}.{each.__name__}" for each in cls.__mro__)


@lru_cache(maxsize=512)
def role(cls: type) -> str:
    """RESPONSE, RAW or PARSED, or empty for a class that is none of an API's.

    By the library, not by the members: the responses of Flask and Django have a status and headers too.
    """
    names = kin(cls)
    return next((what for what, known in _ROLES.items() if not known.isdisjoint(names)), "")


@lru_cache(maxsize=512)
def _is_of_client(cls: type) -> bool:
    return any(name.partition(".")[0] in CLIENTS for name in kin(cls))


def response_in(error: object) -> Any:
    """The API's response that an error is or carries, or None."""
    for found in (error, *(getattr(error, name, None) for name in _RESPONSES_OF)):
        cls: type = type(found)
        if role(cls) == RESPONSE:
            return found
    return None


def reply_of(response: Any) -> Reply | None:
    """What a response says, or None where it has no status; a body that was not read yet stays unread.

    Of a good answer the body is read only where it may tell of an error.
    """
    status = getattr(response, "status_code", None) or getattr(response, "status", None)
    if not isinstance(status, int):
        return None
    # Past the properties, which would read from the connection.
    members = vars(response)
    content = members.get("_content") or members.get("_body")
    headers = _lower(response.headers)
    if not isinstance(content, bytes | bytearray):
        return Reply(status, headers)
    if status < 400 and (len(content) > _MOST_BODY or not any(word in content for word in _SUSPECT)):
        return Reply(status, headers)
    return Reply(status, headers, *_read(content, status))


def reply_in(error: BaseException) -> Reply | None:
    """The answer that an error of an API's client tells in members of its own, without a response that holds it."""
    cls: type = type(error)
    if "botocore.ClientError" in kin(cls):
        return _of_aws(error)
    if not _is_of_client(cls):
        return None
    status = _first(error, _STATUSES_OF, int)
    body = _first(error, _BODIES_OF, dict | list | str | bytes)
    if not isinstance(status, int) or not 400 <= status < 600:
        status = 0
    if not status and not body:
        return None
    body, page = _read(body, 400) if isinstance(body, bytes | str) else (body, "")
    return Reply(status, _lower(getattr(error, "headers", None)), body, page)


def _of_aws(error: Any) -> Reply | None:
    told = error.response
    if not isinstance(told, dict):
        return None
    about = told.get("ResponseMetadata")
    about = about if isinstance(about, dict) else {}
    # The status that the model's own server gave, where a server stands between.
    statuses = (told.get("OriginalStatusCode"), told.get("originalStatusCode"), about.get("HTTPStatusCode"))
    status = next((status for status in statuses if isinstance(status, int) and 400 <= status < 600), 0)
    inner = told.get("OriginalMessage") or told.get("originalMessage")
    body, _ = _read(inner, 400) if isinstance(inner, str) else (None, "")
    return Reply(status, _lower(about.get("HTTPHeaders")), [told, body])


def _first(error: object, names: tuple[str, ...], of: Any) -> object:
    found = (getattr(error, name, None) for name in names)
    return next((value for value in found if isinstance(value, of) and not isinstance(value, bool)), None)


def _lower(headers: Any) -> dict[str, str]:
    if not headers:
        return {}
    if type(headers).__module__ == "requests.structures":  # much quicker there than items()
        return dict(headers.lower_items())
    pairs = headers.items() if hasattr(headers, "items") else headers
    return {str(name).lower(): str(value) for name, value in pairs}


def _read(content: bytes | bytearray | str, status: int) -> tuple[object, str]:
    """A body as parsed JSON, as the short text of an error, or as a page."""
    if len(content) <= _MOST_BODY:
        try:
            return json.loads(content), ""
        except (ValueError, RecursionError):
            pass
    text = content[:_MOST_BODY]
    text = (text if isinstance(text, str) else text.decode("utf-8", "replace")).strip()
    if status < 400:
        return None, ""
    if text.startswith("<"):
        return None, text
    return (None, "") if len(content) > _MOST_BODY else (text or None, "")
