"""`Session` and `Adapter` do what requests' own do, in a guarded call and outside of one."""

from __future__ import annotations

import copy
import pickle
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from raw_server import RawServer, Tls, full_server
from responses import RequestsMock
from urllib3 import Retry

from llm_guard import CallTimeout, bounded, call, deadline, map_with_backpressure, outcome_of, retry, timeout
from llm_guard.call import Call, CutOff
from llm_guard.clock.virtual import VirtualClock
from llm_guard.errors import ConfigError
from llm_guard.llm import Adapter, RequestCancelled, RequestTimeout, Session
from llm_guard.outcome import Kind

real = pytest.mark.real

#: As it is, in a guarded call in the same thread, and on a worker.
GUARDS: list[Callable[[Callable[[], Any]], Any]] = [lambda function: function, deadline(20), timeout(20)]
guarded = pytest.mark.parametrize("guard", GUARDS, ids=["plain", "deadline", "timeout"])


def trusting(tls: Tls) -> Session:
    made = Session()
    made.trust_env = False
    made.verify = tls.path
    return made


@pytest.fixture
def session(tls: Tls) -> Iterator[Session]:
    with trusting(tls) as made:
        yield made


# In a call and outside of one


@real
@guarded
def test_it_fetches_and_keeps_its_connection(guard: Any, server: RawServer, session: Session) -> None:
    for _ in range(3):
        response = guard(lambda: session.get(server.url + "/ok"))()
        assert (response.status_code, response.text) == (200, "ok")
        assert isinstance(response.raw, urllib3.HTTPResponse)
    assert server.taken == 1


@real
@guarded
def test_tls_is_verified_and_connections_are_kept(guard: Any, secure_server: RawServer, session: Session) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        guard(lambda: Session().get(secure_server.url + "/ok", verify=True))()
    with pytest.warns(urllib3.exceptions.InsecureRequestWarning):
        assert guard(lambda: Session().get(secure_server.url + "/ok", verify=False).text)() == "ok"
    taken = secure_server.taken
    for _ in range(2):
        assert guard(lambda: session.get(secure_server.url + "/ok").text)() == "ok"
    assert secure_server.taken == taken + 1


@real
@guarded
def test_a_certificate_for_another_name_is_refused(guard: Any, tls: Tls, session: Session) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.authority.issue_cert("elsewhere.example").configure_cert(context)
    server = RawServer(context)
    with pytest.raises(requests.exceptions.SSLError, match="localhost"):
        guard(lambda: session.get(server.url + "/ok"))()
    server.close()


@real
@guarded
def test_a_client_certificate_is_shown(guard: Any, tls: Tls, session: Session, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.authority.issue_cert("localhost").configure_cert(context)
    tls.authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    own = tmp_path / "client.pem"
    tls.authority.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(str(own))
    server = RawServer(context)
    assert guard(lambda: session.get(server.url + "/ok", cert=str(own)).text)() == "ok"
    with pytest.raises(requests.ConnectionError):
        guard(lambda: trusting(tls).get(server.url + "/ok"))()
    server.close()


@real
@guarded
def test_proxies_pass_requests_on(guard: Any, server: RawServer, secure_server: RawServer, session: Session) -> None:
    with_proxy = {"http": server.url, "https": server.url}
    for _ in range(2):
        assert guard(lambda: session.get("http://no-such-host.invalid/ok", proxies=with_proxy).text)() == "ok"
        assert guard(lambda: session.get(secure_server.url + "/ok", proxies=with_proxy).text)() == "ok"
    assert [head.split()[0] for head in server.heads] == ["GET", "CONNECT", "GET"]
    assert server.heads[0].startswith("GET http://no-such-host.invalid/ok ")
    assert secure_server.taken == 1


@real
@guarded
def test_redirects_hooks_and_cookies(guard: Any, server: RawServer, session: Session) -> None:
    seen: list[str] = []
    session.hooks["response"].append(lambda response, **_: seen.append(response.url))
    response = guard(lambda: session.get(server.url + "/to/to/ok", cookies={"a": "b"}))()
    assert response.text == "ok"
    assert [each.status_code for each in response.history] == [302, 302]
    assert seen == [server.url + path for path in ("/to/to/ok", "/to/ok", "/ok")]
    assert "Cookie: a=b" in server.heads[-1]
    assert server.taken == 1
    assert guard(lambda: session.get(server.url + "/to/ok", allow_redirects=False).status_code)() == 302


@real
@guarded
def test_uploads_in_parts_and_streams_of_parts(guard: Any, server: RawServer, session: Session) -> None:
    def ask() -> bytes:
        session.post(server.url + "/ok", data=(part for part in (b"a", b"b"))).raise_for_status()
        with session.get(server.url + "/slow", stream=True) as response:
            return b"".join(response.iter_content(1))

    assert guard(ask)() == b"abcd"
    assert "Transfer-Encoding: chunked" in server.heads[0]
    assert guard(lambda: session.head(server.url + "/close").status_code)() == 200
    assert guard(lambda: session.get(server.url + "/close").text)() == "ok"


@real
@guarded
def test_what_goes_wrong_is_told_as_requests_tells_it(guard: Any, session: Session) -> None:
    nobody = RawServer()
    nobody.close()
    with pytest.raises(requests.ConnectionError, match="refused"):
        guard(lambda: session.get(nobody.url))()
    with pytest.raises(requests.ConnectionError) as unknown:
        guard(lambda: session.get("http://no-such-host.invalid/"))()
    plain = requests.Session()
    plain.trust_env = False
    with pytest.raises(requests.ConnectionError) as expected:
        plain.get("http://no-such-host.invalid/")
    assert type(unknown.value.args[0].reason) is type(expected.value.args[0].reason)
    for url in ("no scheme", "http://", "ftp://localhost/", f"http://{'a' * 300}/"):
        with pytest.raises((requests.RequestException, urllib3.exceptions.HTTPError)) as wrong:
            guard(lambda url=url: session.get(url))()
        with pytest.raises(type(wrong.value)):
            plain.get(url)


@real
@guarded
def test_its_own_timeouts_hold_where_they_are_shorter(guard: Any, server: RawServer, session: Session) -> None:
    for own in (0.1, (5, 0.1), urllib3.Timeout(total=0.1), urllib3.Timeout(connect=5, read=0.1)):
        with pytest.raises(requests.ReadTimeout) as late:
            guard(lambda own=own: session.get(server.url + "/silent", timeout=own))()
        assert not isinstance(late.value, CallTimeout)
        with pytest.raises((requests.ConnectionError, requests.ReadTimeout)):  # the first: as it tells one in the body
            guard(lambda own=own: session.get(server.url + "/stall/length", timeout=own))()
    with full_server() as port, pytest.raises(requests.ConnectTimeout):
        guard(lambda: session.get(f"http://127.0.0.1:{port}", timeout=(0.1, 5)))()
    with pytest.raises(ValueError, match="timeout"):
        guard(lambda: session.get(server.url, timeout=(1, 2, 3)))()


@real
def test_outside_of_a_call_nothing_is_added(server: RawServer, session: Session) -> None:
    response = session.get(server.url + "/drip/length", stream=True)
    assert response.raw._connection.exchange is None
    response.close()


@real
def test_a_proxy_that_does_not_answer_is_cut_too(server: RawServer, session: Session) -> None:
    with pytest.raises(RequestTimeout):
        deadline(0.5)(lambda: session.get("https://silent/", proxies={"https": server.url}))()
    assert server.all_gone()
    with pytest.raises(RequestTimeout):
        deadline(0.5)(lambda: session.get("http://any/stall/open", proxies={"http": server.url}))()
    assert server.all_gone()


# Made by users


@real
def test_a_subclass_keeps_its_ways(server: RawServer) -> None:
    class Mine(Session):
        def __init__(self, base: str) -> None:
            super().__init__()
            self.base = base

        def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
            return super().request(method, self.base + url, *args, **kwargs)

    assert timeout(20)(lambda: Mine(server.url).get("/ok").text)() == "ok"
    with pytest.raises(RequestTimeout):
        deadline(0.3)(lambda: Mine(server.url).get("/silent"))()


@real
@pytest.mark.parametrize("copied", [lambda value: pickle.loads(pickle.dumps(value)), copy.copy, copy.deepcopy],
                         ids=["pickle", "copy", "deepcopy"])
def test_a_copy_is_guarded_too(copied: Callable[[Any], Any], server: RawServer) -> None:
    session = Session()
    session.headers["X-Mine"] = "yes"
    session.get(server.url + "/ok")
    twin = copied(session)
    assert type(twin) is Session
    assert twin.headers["X-Mine"] == "yes"
    assert deadline(20)(lambda: twin.get(server.url + "/ok").text)() == "ok"
    with pytest.raises(RequestTimeout):
        deadline(0.3)(lambda: twin.get(server.url + "/silent"))()


@real
def test_an_adapter_guards_a_session_of_one_s_own(server: RawServer) -> None:
    session = requests.Session()
    session.mount(server.url, Adapter(pool_connections=1, pool_maxsize=1))
    assert deadline(20)(lambda: session.get(server.url + "/ok").text)() == "ok"
    with pytest.raises(RequestTimeout):
        deadline(0.3)(lambda: session.get(server.url + "/silent"))()


@pytest.mark.parametrize("retries", [1, -1, True, None, Retry(2), Retry(None), Retry(connect=3)], ids=repr)
def test_retries_of_urllib3_are_refused(retries: Any) -> None:
    with pytest.raises(ConfigError, match=r"@retry tries again"):
        Adapter(max_retries=retries)


@real
@pytest.mark.parametrize("retries", [0, False, Retry(0), Retry(False)], ids=repr)
def test_no_retries_can_be_asked_for_in_any_way(retries: Any, server: RawServer) -> None:
    session = requests.Session()
    session.mount("http://", Adapter(max_retries=retries))
    assert session.get(server.url + "/status/503").status_code == 503
    assert len(server.heads) == 1


@guarded
def test_a_mocked_session_is_mocked(guard: Any) -> None:
    session = Session()
    with RequestsMock() as http:
        http.get("https://api.example.org/", json={"a": "b"}, headers={"X-RateLimit-Remaining-Requests": "3"})
        http.get("https://api.example.org/503", status=503)
        http.get("https://api.example.org/gone", body=requests.ConnectionError("gone"))
        assert guard(lambda: session.get("https://api.example.org/", timeout=7).json())() == {"a": "b"}
        assert http.calls[0].request.req_kwargs["timeout"] == 7  # as it was given
        assert guard(lambda: session.get("https://api.example.org/503", stream=True).status_code)() == 503
        with pytest.raises(requests.ConnectionError, match="gone"):
            guard(lambda: session.get("https://api.example.org/gone"))()


def test_a_mocked_session_keeps_to_the_deadline_in_virtual_time() -> None:
    session = Session()

    @deadline(5)
    def ask() -> None:
        session.get("https://api.example.org/")
        time.sleep(6)
        session.get("https://api.example.org/")

    with VirtualClock() as time, RequestsMock() as http:
        http.get("https://api.example.org/")
        with pytest.raises(RequestTimeout):
            ask()
        assert len(http.calls) == 1


# What it tells of


@pytest.mark.parametrize("timed", [True, False])
def test_the_last_response_is_noted_on_the_call(timed: bool) -> None:
    heard: list[Any] = []

    def ask() -> str:
        for status in (503, 200):
            session.get(f"https://api.example.org/{status}")
        heard.append(call.in_progress().heard)  # type: ignore[union-attr]
        return "a text"

    session = Session()
    with RequestsMock() as http:
        for status in (503, 200):
            http.get(f"https://api.example.org/{status}", status=status,
                     headers={"X-RateLimit-Remaining-Requests": "3"})
        (timeout(20) if timed else bounded(1))(ask)()
    assert heard[0].status_code == 200
    outcome = outcome_of(heard[0])
    assert outcome is not None
    assert outcome.remaining == 3


@pytest.mark.parametrize(("error", "kind"), [
    (RequestTimeout("late", seconds=3.0), Kind.TIMEOUT), (RequestCancelled("given up"), None)], ids=["late", "cut"])
def test_its_errors_can_be_pickled_and_read(error: Any, kind: Kind | None) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert (error.request, error.response) == (None, None)
    if kind is not None:
        outcome = outcome_of(error)
        assert outcome is not None
        assert outcome.kind is kind


@real
def test_a_request_that_was_cut_tells_nothing_of_what_it_was(server: RawServer, session: Session) -> None:
    with pytest.raises(RequestTimeout) as raised:
        deadline(0.3)(lambda: session.get(server.url + "/silent?key=secret", headers={"Authorization": "secret"}))()
    assert "secret" not in str(raised.value)
    assert "secret" not in repr(vars(raised.value))


@real
def test_a_call_that_was_given_up_is_not_tried_again(server: RawServer, session: Session) -> None:
    cut_off = CutOff()
    token = call.begin(Call(cut_off=cut_off))
    try:
        cut_off.cut()
        with pytest.raises(RequestCancelled):
            session.get(server.url + "/ok")
    finally:
        call.end(token)
    ask = retry(wait=0, jitter=None)(lambda: session.get(server.url + "/silent").text)
    with map_with_backpressure(lambda item: item and ask(), [0, 1]) as mapping:
        next(mapping)
    assert len(server.heads) <= 1


@real
def test_requests_is_imported_when_a_session_is_first_asked_for() -> None:
    code = ("import sys, llm_guard.llm; before = 'requests' in sys.modules or 'urllib3' in sys.modules; "
            "llm_guard.llm.Session(); print(before, 'requests' in sys.modules)")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "False True"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    import llm_guard.llm

    with pytest.raises(AttributeError, match="no attribute 'Sesion'"):
        llm_guard.llm.Sesion  # noqa: B018
