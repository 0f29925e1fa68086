"""The site under WSGI: alone, or in front of an application."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from http.client import responses
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from llm_guard.errors import ConfigError
from llm_guard.web.status.message import LONGEST, Request

if TYPE_CHECKING:
    from llm_guard.web.status.site import Site

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def request_of(environ: Mapping[str, Any], *, root: str, path: str, body: bytes | None = None,
               native: Any = None) -> Request:
    """The request that an environment tells of; `body`: where it was read already."""
    headers = {name[5:].replace("_", "-").lower(): str(value) for name, value in environ.items()
               if name.startswith("HTTP_")}
    host = headers.get("host") or f"{environ.get('SERVER_NAME', '')}:{environ.get('SERVER_PORT', '')}"
    return Request(environ["REQUEST_METHOD"], path, root, headers, environ.get("QUERY_STRING", ""),
                   _body(environ) if body is None else body, host, environ.get("wsgi.url_scheme") == "https",
                   environ if native is None else native)


def answer(site: Site, environ: Mapping[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """What a WSGI application returns."""
    root = quote(environ.get("SCRIPT_NAME", "").encode("latin-1"))
    status, headers, body = site.respond(request_of(environ, root=root, path=environ.get("PATH_INFO", "")))
    if status not in (204, 304):
        headers = [*headers, ("Content-Length", str(len(body)))]
    start_response(f"{status} {responses.get(status, '')}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def mounted(application: Application, site: Site, at: str = "/guard") -> Application:
    """`application` with the site at that path: a WSGI application."""
    if not isinstance(at, str) or not at.startswith("/") or at.endswith("/"):
        raise ConfigError("at", at, "a path such as '/guard'")

    def whole(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path != at and not path.startswith(f"{at}/"):
            return application(environ, start_response)
        below = {**environ, "SCRIPT_NAME": environ.get("SCRIPT_NAME", "") + at, "PATH_INFO": path.removeprefix(at)}
        return site(below, start_response)

    return whole


def _body(environ: Mapping[str, Any]) -> bytes:
    """At most one byte more than is allowed."""
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return b""
    return environ["wsgi.input"].read(min(max(0, length), LONGEST + 1)) if length > 0 else b""
