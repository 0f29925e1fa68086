"""Who sees the status page, and who does not: nobody by accident, and nobody in another's name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from status_visitor import HOST, TOKEN, Visitor, header

from llm_guard import ConfigError, bounded, ramp_up
from llm_guard.clock.virtual import VirtualClock
from llm_guard.runtime.guarded import Guarded
from llm_guard.web.status import Request, Site
from llm_guard.web.status.access import FORM, LASTS, SESSION
from llm_guard.web.status.files import STATIC
from llm_guard.web.status.message import LONGEST

SECRETS = ["/", "/status.json", "/metrics"]


@pytest.fixture
def hidden() -> Guarded[[], str]:
    @ramp_up
    @bounded(1)
    def a_function_that_nobody_may_see() -> str:
        return "answer"

    return a_function_that_nobody_may_see


@pytest.mark.parametrize("options", [
    {}, {"token": ""}, {"token": "short"}, {"token": 12345678901234567890}, {"allowed": "everybody"},
    {"token": TOKEN, "secret": ""}, {"token": TOKEN, "secret": 5}, {"token": TOKEN, "ready": "never"},
    {"token": TOKEN, "actions": "yes"}, {"token": TOKEN, "metrics": None}, {"token": TOKEN, "bin_seconds": 0},
], ids=["nothing", "empty", "short", "number", "allowed", "secret", "secret number", "ready", "actions", "metrics",
        "bin"])
def test_what_cannot_work_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Site(**options)


def test_a_token_is_not_shown_where_it_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        Site("hunter2")
    assert "hunter2" not in str(refused.value) + repr(refused.value.value)


@pytest.mark.parametrize("headers", [
    {}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}, {"authorization": "Bearer "},
    {"authorization": f"Bearer {TOKEN[:-1]}"}, {"authorization": "Bearer \udcff"}, {"cookie": f"{SESSION}={TOKEN}"},
    {"cookie": f"{SESSION}=99999999999.{'0' * 64}"}, {"cookie": f"{SESSION}=\u00e4.\u00e4"}, {"cookie": ";=;"},
], ids=["nothing", "wrong", "basic", "empty", "almost", "odd", "token as cookie", "forged", "no ascii",
        "broken cookie"])
@pytest.mark.parametrize("path", [*SECRETS, "/nowhere"])
def test_a_stranger_sees_nothing(path: str, headers: dict[str, str], hidden: Guarded[[], str]) -> None:
    response = Visitor(Site(TOKEN)).get(path, f"token={TOKEN.replace(' ', '+')}", **headers)
    assert response.status == (404 if path == "/nowhere" else 401)
    assert b"nobody_may_see" not in response.body
    assert b"form-key" not in response.body
    assert header(response, "Set-Cookie") is None


def test_nor_does_a_stranger_press_a_button(hidden: Guarded[[], str]) -> None:
    body = json.dumps({"action": "pause", "function": f"{__name__}.hidden.<locals>.a_function_that_nobody_may_see",
                       "seconds": 60}).encode()
    assert Visitor(Site(TOKEN)).post("/act", body).status == 401
    assert hidden.statistics()["ramp_up"].pace.state == "cold"


@pytest.mark.parametrize("path", SECRETS)
def test_a_bearer_of_the_token_sees_all(path: str) -> None:
    response = Visitor(Site(TOKEN)).get(path, authorization=f"bearer {TOKEN}")
    assert response.status == 200


def test_the_token_opens_in_a_form_and_is_in_no_cookie() -> None:
    visitor = Visitor(Site(TOKEN))
    response = visitor.sign_in()
    assert (response.status, header(response, "Location")) == (303, "/guard/")
    cookie = header(response, "Set-Cookie")
    assert cookie is not None
    assert cookie.endswith(f"; Path=/guard/; Max-Age={LASTS}; HttpOnly; SameSite=Strict")
    assert TOKEN not in cookie
    assert [visitor.get(path).status for path in SECRETS] == [200, 200, 200]


def test_over_https_cookies_are_secure() -> None:
    visitor = Visitor(Site(TOKEN), secure=True)
    for response in (visitor.sign_in(), visitor.get("/")):
        assert "; Secure" in (header(response, "Set-Cookie") or "")


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", "%ff", "&" * 20],
                         ids=["empty", "wrong", "almost", "more", "no text", "many fields"])
def test_a_wrong_token_in_the_form_opens_nothing(token: str, hidden: Guarded[[], str]) -> None:
    visitor = Visitor(Site(TOKEN))
    response = visitor.sign_in(token)
    assert response.status == 401
    assert b"That is not the token." in response.body
    assert not visitor.cookies
    assert visitor.get("/status.json").status == 401


def test_a_session_ends_after_twelve_hours_and_when_its_visitor_signs_out() -> None:
    with VirtualClock() as time:
        visitor = Visitor(Site(TOKEN))
        visitor.sign_in()
        time.sleep(LASTS - 1)
        assert visitor.get("/status.json").status == 200
        time.sleep(1)
        assert visitor.get("/status.json").status == 401
        visitor.sign_in()
        assert visitor.post("/sign-out", b"").status == 403
        assert visitor.post("/sign-out", b"", x_form_key=visitor.key()).status == 204
        assert visitor.get("/status.json").status == 401


@pytest.mark.parametrize(("ours", "theirs", "holds"), [
    ({}, {}, True), ({"secret": "s"}, {"secret": b"s"}, True), ({"secret": "s"}, {"secret": "t"}, False),
    ({}, {"token": TOKEN + "2"}, False)], ids=["same token", "same secret", "another secret", "another token"])
def test_a_session_holds_in_every_process_that_has_the_same_settings(ours: Any, theirs: Any, holds: bool) -> None:
    visitor = Visitor(Site(**({"token": TOKEN} | ours)))
    visitor.sign_in()
    visitor.site = Site(**({"token": TOKEN} | theirs))
    assert (visitor.get("/status.json").status == 200) is holds


def test_one_signature_does_not_stand_for_another() -> None:
    visitor = Visitor(Site(TOKEN))
    visitor.sign_in()
    visitor.cookies[FORM] = "9" * 32
    key = visitor.key()
    assert Visitor(visitor.site).get("/status.json", cookie=f"{SESSION}={'9' * 32}.{key}").status == 401


def test_the_framework_s_login_opens_where_it_says_true_and_nothing_else() -> None:
    site = Site(allowed=lambda user: {"boss": True, "guest": False, "truthy": "yes"}[user])
    assert Visitor(site, native="boss").get("/status.json").status == 200
    for user in ("guest", "truthy"):
        assert [Visitor(site, native=user).get(path).status for path in SECRETS] == [403] * 3
    assert Visitor(site, native="guest").sign_in().status == 404
    assert Visitor(site, native="guest").get("/status.json", authorization="Bearer None").status == 403


def test_either_opens_where_both_are_given() -> None:
    site = Site(TOKEN, allowed=lambda user: user == "boss")
    assert Visitor(site, native="boss").get("/status.json").status == 200
    guest = Visitor(site, native="guest")
    assert guest.get("/status.json").status == 401
    guest.sign_in()
    assert guest.get("/status.json").status == 200


def name_of(function: Any) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def signed_in() -> Visitor:
    visitor = Visitor(Site(TOKEN))
    visitor.sign_in()
    return visitor


def by_login() -> Visitor:
    return Visitor(Site(allowed=lambda user: True))


@pytest.mark.parametrize("come_in", [signed_in, by_login])
@pytest.mark.parametrize(("headers", "passes"), [
    ({}, True), ({"x_form_key": None}, False), ({"x_form_key": "0" * 64}, False), ({"x_form_key": "\u00e4"}, False),
    ({"origin": "https://evil.example"}, False), ({"origin": None}, False), ({"origin": "null"}, False),
    ({"origin": "https://["}, False), ({"origin": "https://\u2100"}, False),
    ({"origin": f"https://{HOST}.evil.example"}, False), ({"origin": f"http://{HOST.upper()}"}, True),
    ({"sec_fetch_site": "cross-site"}, False), ({"sec_fetch_site": "same-site"}, False),
    ({"sec_fetch_site": "none"}, False), ({"sec_fetch_site": "same-origin", "origin": None}, True)],
    ids=["own", "no key", "wrong key", "odd key", "elsewhere", "no origin", "null", "no address",
         "a sign that hosts have not", "look-alike", "case", "cross-site", "same-site", "by hand", "same-origin"])
def test_a_button_is_pressed_by_the_page_alone(come_in: Callable[[], Visitor], headers: dict[str, str | None],
                                               passes: bool, hidden: Guarded[[], str]) -> None:
    visitor = come_in()
    body = json.dumps({"action": "pause", "function": name_of(hidden), "seconds": 60}).encode()
    response = visitor.post("/act", body, **{"x_form_key": visitor.key()} | headers)
    assert response.status == (200 if passes else 403)
    assert hidden.statistics()["ramp_up"].pace.state == ("paused" if passes else "cold")


def test_the_key_of_one_visitor_is_of_no_use_to_another(hidden: Guarded[[], str]) -> None:
    site = Site(TOKEN)
    mine, other = Visitor(site), Visitor(site)
    for visitor in (mine, other):
        visitor.sign_in()
    stolen = other.key()
    mine.key()
    assert mine.post("/act", b"{}", x_form_key=stolen).status == 403
    mine.cookies[FORM] = "no nonce of ours"
    assert mine.key() != stolen
    assert len(mine.cookies[FORM]) == 32


def test_a_bearer_needs_no_form(hidden: Guarded[[], str]) -> None:
    body = json.dumps({"action": "pause", "function": name_of(hidden), "seconds": 60}).encode()
    assert Visitor(Site(TOKEN)).post("/act", body, origin=None, authorization=f"Bearer {TOKEN}").status == 200


def test_another_site_cannot_sign_its_visitors_in() -> None:
    assert Visitor(Site(TOKEN)).sign_in(origin="https://evil.example").status == 403


@pytest.mark.parametrize("path", ["/", "/status.json", "/sign-in", "/live", "/status.js", "/nowhere"])
def test_every_answer_keeps_to_itself(path: str) -> None:
    for response in (signed_in().get(path), Visitor(Site(TOKEN)).get(path)):
        policy = header(response, "Content-Security-Policy")
        assert policy is not None
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert header(response, "X-Content-Type-Options") == "nosniff"
        if path.removeprefix("/") not in STATIC:
            assert header(response, "Cache-Control") == "no-store"


def test_the_pages_have_nothing_inline_and_nothing_from_elsewhere() -> None:
    for response in (signed_in().get("/"), Visitor(Site(TOKEN)).get("/")):
        text = response.body.decode()
        assert "http:" not in text
        assert "https:" not in text
        assert "<style" not in text
        assert " style=" not in text
        assert " on" + "click" not in text
        assert text.count("<script") == text.count('<script type="module" src=')
        assert "{{" not in text


def test_what_is_asked_of_is_bounded_and_shows_nothing_of_itself() -> None:
    visitor = signed_in()
    assert visitor.post("/act", b"x" * (LONGEST + 1)).status == 413
    assert "secret" not in repr(Request("POST", "/act", headers={"cookie": "secret"}, query="secret", body=b"secret"))


@pytest.mark.parametrize(("method", "path"), [("POST", "/"), ("DELETE", "/status.json"), ("GET", "/act"),
                                              ("GET", "/sign-in"), ("HEAD", "/sign-out"), ("POST", "/status.js")])
def test_a_wrong_method_is_told(method: str, path: str) -> None:
    response = signed_in().ask(method, path)
    assert response.status == 405
    assert header(response, "Allow") in ("GET, HEAD", "POST")


@pytest.mark.parametrize("path", ["/../site.py", "/static/status.js", "/page.html", "/sign_in.html", "//",
                                  "/status.js/"])
def test_nothing_else_is_served(path: str) -> None:
    assert signed_in().get(path).status == 404


@pytest.mark.parametrize("token", [f"{TOKEN}\n", f" {TOKEN}"], ids=["line end", "space"])
def test_a_token_that_nobody_could_send_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="without spaces or line ends around it") as refused:
        Site(token)
    assert TOKEN not in str(refused.value)


def test_a_bearer_in_utf_8_is_understood_as_servers_hand_it_on() -> None:
    token = "ключ от квартиры, где"
    visitor = Visitor(Site(token))
    sent = f"Bearer {token}".encode().decode("latin-1")
    assert visitor.get("/status.json", authorization=sent).status == 200
    assert visitor.get("/status.json", authorization=f"{sent}?").status == 401
