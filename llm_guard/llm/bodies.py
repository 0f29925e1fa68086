"""From what a call came back with to parsed JSON: bodies as bytes and str, and responses of HTTP clients.

Responses are known by what they have, so that nothing of requests or httpx is imported. A body that was not read yet
is read here, up to the bound, and stays readable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from llm_guard.errors import GuardError
from llm_guard.llm.errors import BROKEN
from llm_guard.llm.shapes import Raw, shape
from llm_guard.llm.signals import outcome_of
from llm_guard.outcome import Kind, Outcome

#: The largest body that is parsed unless told otherwise, in bytes. JSON made for it takes 12 times its size in memory.
MAX_BYTES: Final = 16 * 1024 * 1024
#: The server did as it was told, and would do so again.
MISUSE: Final = Outcome(Kind.INVALID)
NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_CHUNK: Final = 64 * 1024
_LARGE: Final = 1024 * 1024
_JSON = re.compile(r"\s*+[{\[]")
_PAGE = re.compile(r"\s*+<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE)
_EVENTS = re.compile(r"\s*+(?:data: ?[{\[]|event: ?[\w.-]+[ \t]*[\r\n])")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?((?:iso-?8859-\d+|latin-?1|windows-125\d|cp125\d|us-ascii|shift_jis|"
                      r"gb2312|gbk|gb18030|big5|euc-(?:jp|kr)|koi8-[ru]))\b", re.IGNORECASE)
_STREAM: Final = "the answer is a stream of events, which stream_text reads"


class Unread(NamedTuple):
    """Stands for a body that is not JSON: `what` says why, `shape` how long it is."""

    what: str
    shape: str
    outcome: Outcome = BROKEN


class ReadBody(NamedTuple):
    """A body as parsed JSON, as a str where it is the text itself, or as `Unread`, and where it is from."""

    body: object
    status: int | None = None
    response: object = None

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the response, their names in lower case."""
        return headers_of(self.response)


def read(value: object, most: int, *, fetch: bool = True) -> ReadBody:
    """What `value` says: JSON is parsed, a response's body is read; anything else is taken for parsed JSON.

    Without `fetch` a body that is still on the wire stays there.
    """
    if isinstance(value, Raw):
        return ReadBody(parsed(value, most))
    if not is_response(value):
        return ReadBody(value)
    return ReadBody(_body(value, most, fetch), status_of(value), value)


def is_response(value: object) -> bool:
    """Whether `value` has what an HTTP client's response has; models of pydantic have a `json` of another kind."""
    return (callable(getattr(value, "json", None)) and not hasattr(type(value), "model_dump")
            and not hasattr(type(value), "__fields__"))


def status_of(response: object) -> int | None:
    """The status of a response, where it has one."""
    for name in ("status_code", "status"):
        if isinstance(status := getattr(response, name, None), int):
            return status
    return None


def headers_of(response: Any) -> Mapping[str, str]:
    """The headers of a response, their names in lower case."""
    try:
        return {str(name).lower(): str(value) for name, value in response.headers.items()}
    except Exception:  # what stands in for a response may have none
        return NO_HEADERS


def parsed(content: Raw, most: int, *, response: object = None, plain: bool = True) -> object:
    """`content` as parsed JSON; with `plain` what does not begin like JSON is the text itself, unless it is a page."""
    told = shape(content)
    if len(content) > most:
        return Unread(f"the answer is larger than {most} bytes", told, MISUSE)
    text, whole = (content, True) if isinstance(content, str) else _decoded(bytes(content), response)
    if _JSON.match(text):
        return _loaded(text, told, most)
    if not whole:
        return Unread("the answer is in an unknown encoding", told)
    if _PAGE.match(text):
        return Unread("the answer is a page of HTML or XML", told)
    if _EVENTS.match(text):
        return Unread(_STREAM, told, MISUSE)
    if plain:
        return text
    if not text.strip():
        return Unread("the answer is empty", told)
    return _loaded(text, told, most)


def loads(text: str, most: int) -> object:
    """`text` as parsed JSON; raises `TooMany`, and what json raises."""
    if has_too_many_parts(text, most):
        raise TooMany
    return json.loads(text)


def has_too_many_parts(text: str, most: int) -> bool:
    """Whether JSON has so many lists and objects that it takes far longer, and more memory, than its size tells."""
    return len(text) > _LARGE and text.count("[") + text.count("{") > most // 16


class TooMany(ValueError):
    """JSON of more lists and objects than a 16th of its bound in bytes: empty ones take 30 times their size."""


def _loaded(text: str, told: str, most: int) -> object:
    try:
        return loads(text, most)
    except json.JSONDecodeError as error:
        at, cause = error.pos, error.msg
    except RecursionError:
        return Unread("the answer is JSON that is nested too deep", told)
    except TooMany:
        return Unread("the answer is JSON of too many parts", told, MISUSE)
    except ValueError:  # a number of thousands of digits
        return Unread("the answer is broken JSON", told)
    if cause == "Extra data" and text[at] == "{":
        return Unread(_STREAM, told, MISUSE)
    if at >= len(text.rstrip()) or cause.startswith("Unterminated string"):
        return Unread("the answer is JSON that was cut off", told)
    return Unread("the answer is not JSON" if at == 0 else "the answer is broken JSON", told)


def _decoded(content: bytes, response: object) -> tuple[str, bool]:
    """`content` as a str, and whether all of it could be read; what could not is U+FFFD."""
    encoding = json.detect_encoding(content)
    try:
        return content.decode(encoding), True
    except UnicodeDecodeError:
        pass
    charset = _CHARSET.search(headers_of(response).get("content-type", ""))
    try:
        if charset is not None:
            return content.decode(charset[1]), True
    except (UnicodeDecodeError, LookupError):
        pass
    return content.decode(encoding, "replace"), False


def _body(response: Any, most: int, fetch: bool) -> object:
    told = type(response).__name__[:60]
    try:
        content = _held(response)
        if content is None and (chunks := getattr(type(response), "iter_content", None)
                                or getattr(type(response), "iter_bytes", None)) is not None:
            if not fetch:
                return Unread("the answer was not read yet", told)
            content = _fetched(response, chunks, most)
        if content is None:
            return response.json()
    except GuardError:  # the call that reads was cut off: that is its own to tell
        raise
    except Exception as error:
        return Unread("the answer could not be read", told, outcome_of(error) or BROKEN)
    body = parsed(content, most, response=response, plain=False)
    return body._replace(shape=f"{told} of {len(content)} bytes") if isinstance(body, Unread) else body


def _held(response: Any) -> bytes | bytearray | None:
    """The body of a response, where it is in memory as bytes."""
    content = getattr(response, "__dict__", {}).get("_content")
    if content is None and not hasattr(type(response), "iter_bytes"):
        content = getattr(response, "content", None)
    return content if isinstance(content, bytes | bytearray) else None


def _fetched(response: Any, chunks: Callable[..., Iterable[bytes]], most: int) -> bytes:
    """A body that is still on the wire; of one that is larger than `most` only a part, which is larger too."""
    body = bytearray()
    for chunk in chunks(response, _CHUNK):
        body += chunk
        if len(body) > most:
            response.close()
            return bytes(body)
    response._content = bytes(body)  # as both libraries do, so that the body can be read again
    return bytes(body)
