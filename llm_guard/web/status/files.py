"""The files of the page, which come with the package, and the headers that keep it to itself."""

from __future__ import annotations

import hashlib
from functools import cache
from html import escape
from importlib import resources

KINDS = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
#: What is served as it is, to everybody: there is nothing in these of what the page shows.
STATIC = ("status.css", "status.js", "curves.js", "card.js", "processes.js", "icon.svg")
#: Nothing from elsewhere, nothing inline, in no frame; forms go back to where they came from.
SAFE = [
    ("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
                                "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]


@cache
def content(name: str) -> bytes:
    """One file as it lies there."""
    return resources.files("llm_guard.web.status").joinpath("static", name).read_bytes()


@cache
def tag(name: str) -> str:
    """Changes with the file."""
    return f'"{hashlib.sha256(content(name)).hexdigest()[:16]}"'


def page(name: str, **values: str) -> bytes:
    """A page with `{{name}}` replaced by the values, as text that is safe in HTML."""
    text = content(name).decode()
    for key, value in values.items():
        text = text.replace(f"{{{{{key}}}}}", escape(value))
    return text.encode()
