"""A request to the site and its response, whatever framework carries them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs

#: The longest body of a request, in bytes: a token, or the name of a function.
LONGEST = 8192


@dataclass(frozen=True, slots=True)
class Request:
    """`path` is what follows the place where the site is mounted ("/" is its page, "" the same without the slash), and
    `root` that place. Names of `headers` are in lower case. `native` is the framework's own request, for `allowed`.

    Its `repr` shows none of what a visitor sent.
    """

    method: str
    path: str
    root: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: str = field(default="", repr=False)
    body: bytes = field(default=b"", repr=False)
    host: str = ""
    secure: bool = False
    native: Any = field(default=None, repr=False)

    def cookie(self, name: str) -> str | None:
        """The value of one cookie."""
        # By hand: SimpleCookie gives up at the first cookie of another that it cannot read.
        for cookie in self.headers.get("cookie", "").split(";"):
            key, _, value = cookie.strip().partition("=")
            if key == name:
                return value
        return None

    def number(self, name: str) -> int | None:
        """A whole number of the query; None where there is none."""
        value = parse_qs(self.query).get(name, [""])[0]
        return int(value) if value.isascii() and value.isdigit() and len(value) < 16 else None

    def form(self, name: str) -> str:
        """A field of a form."""
        try:
            return parse_qs(self.body.decode(), keep_blank_values=True, max_num_fields=8).get(name, [""])[0]
        except ValueError:
            return ""


class Response(NamedTuple):
    """What goes back. The headers have no Content-Length: whoever carries it knows that."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
