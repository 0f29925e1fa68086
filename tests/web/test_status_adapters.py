"""The same site under WSGI, Flask and Django: mounted, signed in to, and looked at."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from status_visitor import TOKEN

from llm_guard import ConfigError, bounded
from llm_guard.web.status import Site, mounted
from llm_guard.web.status.message import LONGEST

ORIGIN = {"Origin": "http://localhost"}


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


Client = Callable[..., Answer]


def wsgi_client(application: Any) -> Client:
    """Asks a WSGI application, and keeps its cookies."""
    cookies: dict[str, str] = {}

    def ask(method: str, path: str, body: bytes = b"", *, environ: Any = (), leave_out_length: bool = False,
            **headers: str) -> Answer:
        more = dict(environ)
        path, _, query = path.partition("?")
        environ = {"REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": query,
                   "CONTENT_LENGTH": str(len(body)), "SERVER_NAME": "localhost", "SERVER_PORT": "80",
                   "HTTP_HOST": "localhost", "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(body),
                   "wsgi.version": (1, 0), "wsgi.errors": sys.stderr, "SERVER_PROTOCOL": "HTTP/1.1",
                   "CONTENT_TYPE": "application/x-www-form-urlencoded" if b"=" in body else "application/json",
                   "HTTP_COOKIE": "; ".join(f"{name}={value}" for name, value in cookies.items()),
                   **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}, **more}
        if leave_out_length:
            del environ["CONTENT_LENGTH"]
        started: list[Any] = []
        found = application(environ, lambda status, headers, error=None: started.append((status, headers)))
        whole = b"".join(found)
        status, sent = started[0]
        for name, value in sent:
            if name == "Set-Cookie":
                key, _, rest = value.partition("=")
                cookies[key] = rest.partition(";")[0]
        return Answer(int(status.split()[0]), sent, whole)

    return ask


def plain(site: Site) -> Client:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"the application"]

    return wsgi_client(mounted(application, site))


def under_flask(site: Site, *, reads_forms: bool = True) -> Client:
    flask = pytest.importorskip("flask")
    from llm_guard.web.status.flask import blueprint

    app = flask.Flask("shop")
    app.register_blueprint(blueprint(site))
    app.add_url_rule("/", view_func=lambda: "the application")
    if reads_forms:
        app.before_request(lambda: flask.request.form.get("csrf") and None)  # as extensions do
    return wsgi_client(app)


def under_plain_flask(site: Site) -> Client:
    return under_flask(site, reads_forms=False)


def under_django(site: Site) -> Client:
    pytest.importorskip("django")
    import django_site  # noqa: F401 - sets Django up for this process
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse
    from django.test import override_settings
    from django.urls import clear_url_caches, include, path

    from llm_guard.web.status.django import urls

    module: Any = ModuleType("status_urls")
    module.urlpatterns = [path("guard/", include(urls(site))),
                          path("", lambda request: HttpResponse("the application"))]
    sys.modules[module.__name__] = module
    chosen = {"ROOT_URLCONF": module.__name__, "ALLOWED_HOSTS": ["localhost"], "DEBUG": False,
              "MIDDLEWARE": ["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"]}

    def ask(*asked: Any, **headers: str) -> Answer:
        with override_settings(**chosen):
            clear_url_caches()
            return whole(*asked, **headers)

    with override_settings(**chosen):
        whole = wsgi_client(WSGIHandler())
    return ask


@pytest.fixture(params=[plain, under_flask, under_plain_flask, under_django],
                ids=["wsgi", "flask", "flask, unread", "django"])
def mount(request: pytest.FixtureRequest) -> Iterator[Callable[[Site], Client]]:
    yield request.param
    sys.modules.pop("status_urls", None)


def test_it_is_signed_in_to_looked_at_and_pressed(mount: Callable[[Site], Client]) -> None:
    from llm_guard import ramp_up

    @ramp_up
    def ask_adapters() -> str:
        return "answer"

    client = mount(Site(TOKEN))
    assert client("GET", "/").body == b"the application"
    for path in ("/guard/", "/guard/status.json", "/guard/metrics"):
        stranger = client("GET", path)
        assert stranger.status == 401
        assert b"ask_adapters" not in stranger.body
    assert client("GET", "/guard/live").status == client("GET", "/guard/ready").status == 200
    signed = client("POST", "/guard/sign-in", f"token={TOKEN.replace(' ', '+')}".encode(), **ORIGIN)
    assert (signed.status, signed.header("Location")) == (303, "/guard/")
    cookie = signed.header("Set-Cookie") or ""
    assert {part.strip().lower() for part in cookie.split(";")[1:]} == {
        "path=/guard/", "max-age=43200", "httponly", "samesite=strict"}
    page = client("GET", "/guard/")
    assert page.status == 200
    assert (page.header("Content-Type"), page.header("Cache-Control")) == ("text/html; charset=utf-8", "no-store")
    assert "default-src 'none'" in (page.header("Content-Security-Policy") or "")
    key = re.search(rb'form-key" content="(\w+)"', page.body)
    assert key
    status = json.loads(client("GET", "/guard/status.json").body)
    assert "ask_adapters" in [facts["label"] for facts in status["functions"]]
    name = f"{__name__}.{ask_adapters.__qualname__}"
    asked = json.dumps({"action": "pause", "function": name, "seconds": 60}).encode()
    assert client("POST", "/guard/act", asked, **ORIGIN).status == 403
    done = client("POST", "/guard/act", asked, **ORIGIN, **{"X-Form-Key": key[1].decode()})
    assert (done.status, ask_adapters.statistics()["ramp_up"].pace.state) == (200, "paused")
    assert client("GET", "/guard/status.js").header("Content-Type") == "text/javascript; charset=utf-8"


def test_a_bearer_is_heard_and_a_query_is_not(mount: Callable[[Site], Client]) -> None:
    client = mount(Site(TOKEN))
    assert client("GET", "/guard/metrics", Authorization=f"Bearer {TOKEN}").status == 200
    assert client("GET", f"/guard/metrics?token={TOKEN}").status == 401


def test_a_long_body_is_refused(mount: Callable[[Site], Client]) -> None:
    assert mount(Site(TOKEN))("POST", "/guard/sign-in", b"token=" + b"x" * LONGEST, **ORIGIN).status == 413


class Endless(io.BytesIO):
    """A body in chunks that never ends; it gives up after a megabyte."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        if self.taken > 1_000_000:
            raise AssertionError("it reads on and on")
        size = 1_000_001 if size is None or size < 0 else size
        self.taken += size
        return b"x" * size


@pytest.mark.parametrize("length", [None, "10000000"], ids=["in chunks", "told"])
def test_of_a_stranger_s_body_little_is_read(mount: Callable[[Site], Client], length: str | None) -> None:
    body = Endless()
    more: dict[str, Any] = {"wsgi.input": body, "wsgi.input_terminated": True}
    told = {} if length is None else {"CONTENT_LENGTH": length}
    if mount is under_flask:
        pytest.skip("what reads the form before is not this page")
    client = mount(Site(TOKEN))
    answer = client("POST", "/guard/sign-in", environ=more | told, leave_out_length=length is None, **ORIGIN)
    assert answer.status in (401, 413)
    assert body.taken <= 64 * LONGEST


def test_without_its_slash_it_leads_to_the_page(mount: Callable[[Site], Client]) -> None:
    response = mount(Site(TOKEN))("GET", "/guard")
    assert response.status in (301, 308)
    assert (response.header("Location") or "").removeprefix("http://localhost") == "/guard/"


def test_head_has_no_body_and_other_methods_are_refused(mount: Callable[[Site], Client]) -> None:
    client = mount(Site(TOKEN))
    assert client("HEAD", "/guard/live")[::2] == (200, b"")
    assert client("POST", "/guard/live", **ORIGIN).status == 405


def test_the_framework_s_own_request_says_who_may_look(mount: Callable[[Site], Client]) -> None:
    seen: list[Any] = []

    def allowed(request: Any) -> bool:
        seen.append(request)
        agent = request.get("HTTP_USER_AGENT") if isinstance(request, dict) else request.headers.get("User-Agent")
        return bool(agent == "the boss")

    client = mount(Site(allowed=allowed))
    assert client("GET", "/guard/", **{"User-Agent": "a guest"}).status == 403
    assert client("GET", "/guard/", **{"User-Agent": "the boss"}).status == 200
    assert type(seen[0]).__name__ in ("dict", "Request", "WSGIRequest")


@pytest.mark.parametrize("at", ["guard", "/guard/", "", "/", None])
def test_it_is_mounted_at_a_path(at: Any) -> None:
    with pytest.raises(ConfigError):
        mounted(lambda environ, start_response: [], Site(TOKEN), at)


def test_it_is_a_wsgi_application_by_itself() -> None:
    ask = bounded(1)(lambda: None)
    client = wsgi_client(Site(TOKEN))
    assert client("GET", "/").status == 401
    status = client("GET", "/status.json", Authorization=f"Bearer {TOKEN}")
    assert status.status == 200
    assert status.header("Content-Length") == str(len(status.body))
    del ask


@pytest.mark.parametrize("name", ["flask", "django"])
def test_a_missing_framework_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import import_module

    adapter = import_module(f"llm_guard.web.status.{name}")
    for module in [each for each in sys.modules if each.split(".")[0] == name]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=rf"llm-guard-flow\[{name}\]"):
        getattr(adapter, {"flask": "blueprint", "django": "urls"}[name])(Site(TOKEN))
