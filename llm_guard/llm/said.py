"""What the body of an error says, whichever API sends it: its codes, its message, and where to look for a wait."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

_MOST_TEXT: Final = 2_000
_MOST_PARTS: Final = 24
_MOST_CODE: Final = 200
_MOST_NUMBER: Final = 1_000_000
#: Members that hold a further object of the error, or a list of them.
_INNER: Final = ("error", "Error", "detail", "details", "innererror", "metadata", "violations")
#: Members whose value is a word of the API's own.
_CODES: Final = ("error_code", "code", "type", "error_type", "status", "reason", "__type", "Code", "quotaId",
                 "quota_limit", "limit_source")
_TEXTS: Final = ("error", "message", "detail", "Message", "title", "raw", "OriginalMessage", "originalMessage")
#: Headers that hold a code: of AWS, Hugging Face and Azure.
_CODE_HEADERS: Final = ("x-amzn-errortype", "x-error-code", "x-ms-error-code")
_STATUS: Final = re.compile(r"[45]\d\d")


class Said(NamedTuple):
    """`codes` as they came, `text` in lower case, `page` an HTML page in lower case, `parts` the body's objects."""

    codes: tuple[str, ...] = ()
    text: str = ""
    page: str = ""
    parts: tuple[dict[str, object], ...] = ()

    @property
    def status(self) -> int:
        """The HTTP status that the body itself gives, or 0."""
        return next((int(code) for code in self.codes if _STATUS.fullmatch(code)), 0)

    @property
    def headers(self) -> dict[str, str]:
        """Headers that came inside the body, as OpenRouter hands on those of the provider behind it."""
        found = next((inner for part in self.parts if isinstance(inner := part.get("headers"), dict)), {})
        return {str(name).lower(): str(value) for name, value in found.items()}


def said(body: object, headers: Mapping[str, str], page: str) -> Said:
    """What `body`, the parsed JSON or the plain text of an error, and `headers`, names in lower case, say."""
    if isinstance(body, str):
        body = {"message": body}
    parts = tuple(_parts(body))
    codes = [_word(headers[name]) for name in _CODE_HEADERS if name in headers]
    codes += [code for part in parts for name in _CODES if (code := _word(part.get(name)))]
    texts = [value for part in parts for name in _TEXTS if isinstance(value := part.get(name), str)]
    return Said(tuple(codes), " ".join(texts)[:_MOST_TEXT].lower(), page.lower(), parts)


def _parts(body: object) -> Iterator[dict[str, object]]:
    waiting, count = [body], 0
    while waiting and count < _MOST_PARTS:
        value = waiting.pop(0)
        count += 1
        if isinstance(value, list):
            waiting += value[:_MOST_PARTS]
        elif isinstance(value, dict):
            yield value
            waiting += [inner for name in _INNER if isinstance(inner := value.get(name), dict | list)]
            # OpenRouter reports what broke off an answer in the choice itself.
            if isinstance(choices := value.get("choices"), list) and choices and isinstance(choices[0], dict):
                waiting.append(choices[0].get("error"))


def _word(code: object) -> str:
    """A code without the namespace before it or the address after it, as AWS writes them; empty where it is none."""
    if isinstance(code, str):
        return code[:_MOST_CODE].rpartition("#")[2].partition(":")[0].strip()
    return str(code) if type(code) is int and 0 <= code < _MOST_NUMBER else ""
