"""The status page and what lies beside it, without any framework: from a request to a response."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from llm_guard import checks
from llm_guard.errors import ConfigError
from llm_guard.web.status import files, wsgi
from llm_guard.web.status.access import Access, same_origin
from llm_guard.web.status.collector import Collector
from llm_guard.web.status.controls import Refused, act
from llm_guard.web.status.curves import BINS, WIDTH
from llm_guard.web.status.message import LONGEST, Request, Response
from llm_guard.web.status.snapshot import snapshot

_HTML, _JSON, _TEXT = "text/html; charset=utf-8", "application/json", "text/plain; charset=utf-8"
_NO_STORE = ("Cache-Control", "no-store")
#: What a path answers to.
_METHODS = {"": "GET", "/": "GET", "/status.json": "GET", "/metrics": "GET", "/live": "GET", "/ready": "GET",
            "/act": "POST", "/sign-in": "POST", "/sign-out": "POST"}


class Site:
    """`/` is the page; beside it `/status.json`, `/metrics`, `/live` and `/ready`. Also a WSGI application.

    Who may look: who has the `token` (in a form, or as `Authorization: Bearer`; 16 characters at least), and those for
    whom `allowed(request)`, which is given the framework's own request, returns True. One of the two must be given.
    `secret` signs the cookies, beside the token; without either they hold in this process alone.

    `actions=False` takes pause and resume away, `metrics=False` the metrics. `/live` and `/ready` are open to everybody
    and tell nothing. `ready` says when the process is: "always" (while cold too: a pod that gets no traffic never warms
    up), "started" (a call of any guarded function was answered), or a function that returns whether it is.

    It watches all guarded functions of the process, from now until `close()`. `bin_seconds` is the width of a curve's
    bins, of which there are 180. ConfigError for what cannot work.
    """

    def __init__(self, token: str | None = None, *, allowed: Callable[[Any], object] | None = None,
                 secret: str | bytes | None = None, actions: bool = True, metrics: bool = True,
                 ready: str | Callable[[], object] = "always", bin_seconds: float = WIDTH) -> None:
        for name, value in (("actions", actions), ("metrics", metrics)):
            if not isinstance(value, bool):
                raise ConfigError(name, value, "True or False")
        if callable(ready):
            checks.function("ready", ready)
        elif ready not in ("always", "started"):
            raise ConfigError("ready", ready, "'always', 'started', or a function that returns whether it is")
        self._access = Access(token, allowed, secret)
        self._actions = actions
        self._metrics = metrics
        self._ready = ready
        self._collector = Collector(checks.number("bin_seconds", bin_seconds, least=0.05, unit="seconds"), BINS)

    def close(self) -> None:
        """Watches no longer; the figures stay as they are."""
        self._collector.close()

    def __call__(self, environ: Mapping[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """As a WSGI application."""
        return wsgi.answer(self, environ, start_response)

    def respond(self, request: Request) -> Response:
        """The answer to any request; raises only what `allowed` does."""
        name = request.path.removeprefix("/")
        method = "GET" if name in files.STATIC else _METHODS.get(request.path)
        if method is None:
            return _text(404, "not found")
        if request.method not in ((method, "HEAD") if method == "GET" else (method,)):
            return _text(405, "method not allowed", ("Allow", "GET, HEAD" if method == "GET" else "POST"))
        if len(request.body) > LONGEST:
            return _text(413, "too long")
        if name in files.STATIC:
            return _file(request, name)
        match request.path:
            case "":
                return _answer(308, _TEXT, b"", ("Location", f"{request.root}/"))
            case "/live":
                return _text(200, "ok")
            case "/ready":
                return _text(200, "ready") if self._is_ready() else _text(503, "not ready")
            case "/sign-in":
                return self._sign_in(request)
        way = self._access.way_in(request)
        return self._stranger(request) if way is None else self._guest(request, way)

    def _guest(self, request: Request, way: str) -> Response:
        match request.path:
            case "/":
                return self._page(request, way)
            case "/status.json":
                same = request.number("process") == os.getpid()  # else the visitor has nothing yet of this one
                since = request.number("since") if same else None
                return _json(200, snapshot(self._collector, since) | {"actions": self._actions})
            case "/metrics":
                return self._exposition(request)
            case "/sign-out":
                return self._sign_out(request, way)
            case _:
                return self._act(request, way)

    def _stranger(self, request: Request) -> Response:
        """Sees nothing: not which functions there are, and not whether a path has something to show."""
        if request.path == "/" and self._access.has_token:
            return _answer(401, _HTML, files.page("sign_in.html", wrong=""))
        return _text(401 if self._access.has_token else 403, "not allowed",
                     *([("WWW-Authenticate", 'Bearer realm="status"')] if self._access.has_token else []))

    def _page(self, request: Request, way: str) -> Response:
        key, cookie = self._access.form_key(request)
        page = files.page("page.html", key=key, way=way)
        return _answer(200, _HTML, page, ("Set-Cookie", cookie))

    def _sign_in(self, request: Request) -> Response:
        if not self._access.has_token:
            return _text(404, "not found")
        if not same_origin(request):
            return _text(403, "not from this page")
        if not self._access.fits(request.form("token").strip()):
            return _answer(401, _HTML, files.page("sign_in.html", wrong="That is not the token."))
        return _answer(303, _TEXT, b"", ("Location", f"{request.root}/"), ("Set-Cookie", self._access.session(request)))

    def _sign_out(self, request: Request, way: str) -> Response:
        if not self._access.is_own_form(request, way):
            return _text(403, "not from this page")
        return _answer(204, _TEXT, b"", ("Set-Cookie", self._access.no_session(request)))

    def _act(self, request: Request, way: str) -> Response:
        if not self._actions:
            return _json(403, {"error": "pause and resume are switched off"})
        if not self._access.is_own_form(request, way):
            return _json(403, {"error": "not from this page"})
        try:
            return _json(200, act(request.body))
        except Refused as refused:
            return _json(refused.status, {"error": str(refused)})

    def _exposition(self, request: Request) -> Response:
        if not self._metrics:
            return _text(404, "not found")
        from llm_guard.telemetry.exposition import exposition

        try:
            body, kind = exposition(request.headers.get("accept", ""))
        except ModuleNotFoundError as missing:
            return _text(501, str(missing))
        except Exception as error:  # of a collector of whoever's, or of the files of several processes
            return _text(500, f"the metrics cannot be read: {type(error).__name__}")
        return _answer(200, kind, body)

    def _is_ready(self) -> bool:
        if self._ready == "always":
            return True
        if not callable(self._ready):
            return self._collector.has_answered()
        try:
            return bool(self._ready())
        except Exception:  # what it asks is not there
            return False


def _answer(status: int, kind: str, body: bytes, *headers: tuple[str, str]) -> Response:
    return Response(status, [("Content-Type", kind), _NO_STORE, *files.SAFE, *headers], body)


def _text(status: int, text: str, *headers: tuple[str, str]) -> Response:
    return _answer(status, _TEXT, f"{text}\n".encode(), *headers)


def _json(status: int, value: dict[str, Any]) -> Response:
    return _answer(status, _JSON, json.dumps(value, allow_nan=False, separators=(",", ":")).encode())


def _file(request: Request, name: str) -> Response:
    tag = files.tag(name)
    headers = [("ETag", tag), ("Cache-Control", "no-cache"), *files.SAFE]
    if request.headers.get("if-none-match") == tag:
        return Response(304, headers, b"")
    return Response(200, [("Content-Type", files.KINDS[name.rpartition(".")[2]]), *headers], files.content(name))
