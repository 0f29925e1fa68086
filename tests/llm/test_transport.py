"""Clients of httpx and httpx2: their requests end when their call does, and else they do what they always did."""

from __future__ import annotations

import copy
import gc
import json
import logging
import pickle
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest
from cuts import BOUND, EVILS, GUARDS, WAITS, LateAlarm, all_cut, ended_in_time, threads
from raw_server import FRAMES, RawServer, Tls, descriptors, full_server, until

from llm_guard import CallTimeout, bounded, call, deadline, map_with_backpressure, timeout
from llm_guard.call import Call, CutOff
from llm_guard.errors import Cancelled, ConfigError
from llm_guard.llm import exchange, httpx_client, httpx_transport, transport

pytestmark = pytest.mark.real

LIBRARIES = [httpx, httpx2]
guarded = pytest.mark.parametrize("guard", [lambda function: function, deadline(20), timeout(20)],
                                  ids=["plain", "deadline", "timeout"])


@pytest.fixture(params=LIBRARIES, ids=lambda library: library.__name__)
def library(request: pytest.FixtureRequest) -> ModuleType:
    found: ModuleType = request.param
    return found


@pytest.fixture
def client(library: Any, tls: Tls) -> Iterator[Any]:
    with httpx_client(library, verify=ssl.create_default_context(cafile=tls.path), timeout=30, trust_env=False) as made:
        yield made


def fetch(client: Any, url: str) -> str:
    if url.endswith("/upload"):
        return str(client.post(url, content=bytes(20_000_000)).text)
    return str(client.get(url).text)


# It ends


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_whatever_the_server_does_control_returns_and_the_server_sees_the_client_go(
        scheme: str, guard: Any, request: pytest.FixtureRequest, client: Any) -> None:
    server: RawServer = request.getfixturevalue("server" if scheme == "http" else "secure_server")
    limit, bound = bounded(len(EVILS)), guard(BOUND)
    ask = limit(bound(lambda evil: fetch(client, server.url + evil)))
    gc.collect()
    before = descriptors(), threads() + (len(EVILS) if guard is timeout else 0)
    all_cut(ask, EVILS)
    assert server.all_gone()
    assert until(lambda: limit.statistics().in_flight == 0)
    assert guard is deadline or until(lambda: bound.statistics().still_running == 0)
    taken = server.taken
    assert client.get(server.url + "/ok").text == "ok"
    assert server.taken > taken  # what was cut is not used again
    client.close()
    gc.collect()
    assert until(lambda: descriptors() <= before[0])
    assert until(lambda: threads() <= before[1] + 1)


@pytest.mark.parametrize("guard", GUARDS)
def test_a_handshake_that_is_never_answered_and_a_connect_that_blocks(guard: Any, client: Any) -> None:
    server = RawServer(shakes=False)
    before = descriptors()
    ended_in_time(guard(BOUND)(lambda: client.get(server.url)))
    assert server.all_gone()
    with full_server() as port:
        ended_in_time(guard(BOUND)(lambda: client.get(f"http://127.0.0.1:{port}")))
    gc.collect()
    assert until(lambda: descriptors() <= before)
    server.close()


def test_a_stream_ends_in_the_midst(server: RawServer, client: Any) -> None:
    parts: dict[str, list[bytes]] = {frame: [] for frame in FRAMES}

    @deadline(BOUND)
    def ask(frame: str) -> None:
        with client.stream("GET", f"{server.url}/drip/{frame}") as response:
            parts[frame].extend(response.iter_bytes(1))

    all_cut(ask, list(FRAMES))
    assert all(parts.values())
    assert server.all_gone()


def test_a_thread_that_is_not_left_sees_a_timeout_of_both_kinds(server: RawServer, client: Any, library: Any) -> None:
    error = ended_in_time(deadline(BOUND)(lambda: client.get(server.url + "/drip/open")))
    assert isinstance(error, library.TimeoutException)
    assert isinstance(error, TimeoutError)
    assert 0 < error.seconds <= BOUND
    assert not error.still_running
    assert (error.__context__, error.__cause__) == (None, None)


def test_a_mapping_that_is_closed_cuts_what_is_in_flight(server: RawServer, client: Any, library: Any) -> None:
    errors: list[Exception] = []

    def ask(path: str) -> str:
        try:
            assert path != "/ok" or until(lambda: len(server.heads) == 3)
            return str(client.get(server.url + path).text)
        except Exception as error:
            errors.append(error)
            raise

    with map_with_backpressure(ask, ["/ok", "/drip/length", "/silent", "/stall/open"], workers=4) as mapping:
        assert next(mapping) == "ok"
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert len(errors) == 3
    for error in errors:
        assert isinstance(error, Cancelled)
        assert isinstance(error, library.NetworkError)
    assert until(lambda: server.connections <= 1)


@pytest.mark.parametrize("evil", WAITS)
def test_a_connection_that_was_kept_is_cut_as_a_new_one_is(evil: str, server: RawServer, client: Any) -> None:
    assert client.get(server.url + "/ok").text == "ok"
    cut_off = CutOff()

    def cut_in_the_midst() -> None:
        assert until(lambda: len(server.heads) == 2)
        cut_off.cut()

    other = threading.Thread(target=cut_in_the_midst)
    other.start()
    began = time.monotonic()
    token = call.begin(Call(cut_off=cut_off))
    try:
        with pytest.raises(Cancelled):
            fetch(client, server.url + evil)
    finally:
        call.end(token)
        other.join()
    assert time.monotonic() - began < 5
    assert server.taken == 1
    assert server.all_gone()


def test_a_call_that_is_given_up_already_makes_no_request(server: RawServer, client: Any) -> None:
    seen: list[Exception] = []

    @timeout(0.05)
    def ask() -> None:
        while call.in_progress().cut_off.is_cut is False:  # type: ignore[union-attr]
            time.sleep(0.001)
        try:
            client.get(server.url + "/ok")
        except Exception as error:
            seen.append(error)

    with pytest.raises(CallTimeout):
        ask()
    assert until(lambda: bool(seen))
    assert isinstance(seen[0], CallTimeout)
    assert server.taken == 0


def test_a_body_is_cut_with_the_call_that_reads_it(server: RawServer, client: Any) -> None:
    def opened(frame: str) -> Any:
        return client.send(client.build_request("GET", f"{server.url}/drip/{frame}"), stream=True)

    responses = {frame: opened(frame) for frame in FRAMES}
    all_cut(deadline(BOUND)(lambda frame: responses[frame].read()), list(FRAMES))
    assert server.all_gone()


def test_a_response_of_a_guarded_function_is_cut_with_the_one_above_that_reads_it(server: RawServer,
                                                                                  client: Any) -> None:
    request = client.build_request("GET", server.url + "/drip/length")
    inner = deadline(BOUND)(lambda: client.send(request, stream=True))
    ended_in_time(deadline(3 * BOUND)(lambda: inner().read()), 3 * BOUND)
    assert server.all_gone()


def test_where_the_alarm_is_late_the_socket_s_own_timeout_ends_what_waits(
        server: RawServer, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "alarm", LateAlarm)
    all_cut(deadline(BOUND)(lambda evil: fetch(client, server.url + evil)), WAITS)
    assert server.all_gone()


def test_a_full_pool_is_waited_for_no_longer_than_the_call(server: RawServer, library: Any) -> None:
    client = httpx_client(library, limits=library.Limits(max_connections=1), timeout=20)
    with client.stream("GET", server.url + "/drip/length"):
        ended_in_time(deadline(BOUND)(lambda: client.get(server.url + "/ok")))
    response = deadline(20)(lambda: client.get(server.url + "/ok"))()
    assert response.request.extensions["timeout"]["pool"] == 20  # as was asked for
    client.close()


# What is not cut


@pytest.mark.parametrize("guard", GUARDS)
def test_a_response_that_was_returned_is_the_caller_s_own(guard: Any, server: RawServer, client: Any) -> None:
    ask = guard(0.3)(lambda: client.send(client.build_request("GET", server.url + "/slow"), stream=True))
    response = ask()
    assert response.read() == b"abcd"
    assert client.get(server.url + "/ok").text == "ok"
    assert server.taken == 1


@pytest.mark.parametrize("next_is_guarded", [True, False])
def test_a_connection_that_is_back_in_its_pool_belongs_to_the_next_call(next_is_guarded: bool, server: RawServer,
                                                                        client: Any) -> None:
    back, taken = threading.Event(), threading.Event()

    @timeout(BOUND)
    def first() -> None:
        client.get(server.url + "/ok")
        back.set()
        taken.wait(5)

    def in_background() -> None:
        with suppress(CallTimeout):
            first()

    background = threading.Thread(target=in_background)
    background.start()
    assert back.wait(5)
    ask: Callable[[], str] = lambda: client.get(server.url + "/slow").text  # noqa: E731
    answer = timeout(5)(ask)() if next_is_guarded else ask()  # while the first runs out of time
    background.join()
    taken.set()
    assert answer == "abcd"
    assert server.taken == 1


# It does what it always did


@guarded
def test_it_fetches_keeps_its_connection_and_follows(guard: Any, server: RawServer, secure_server: RawServer,
                                                     client: Any, library: Any) -> None:
    for each in (server, secure_server):
        for _ in range(2):
            assert guard(lambda each=each: client.get(each.url + "/ok").text)() == "ok"
        assert guard(lambda each=each: client.get(each.url + "/to/ok").text)() == "ok"
        assert guard(lambda each=each: client.get(each.url + "/slow").text)() == "abcd"
        assert each.taken == 1
        assert guard(lambda each=each: client.get(each.url + "/close").text)() == "ok"
        assert guard(lambda each=each: client.post(each.url + "/ok", content=iter([b"a", b"b"])).text)() == "ok"
    nobody = RawServer()
    nobody.close()
    with pytest.raises(library.ConnectError):
        guard(lambda: client.get(nobody.url))()
    with pytest.raises(library.ConnectError):
        guard(lambda: client.get("http://no-such-host.invalid"))()


@guarded
def test_tls_is_verified(guard: Any, secure_server: RawServer, library: Any) -> None:
    with httpx_client(library, trust_env=False) as client, pytest.raises(library.ConnectError, match="certificate"):
        guard(lambda: client.get(secure_server.url + "/ok"))()


@guarded
def test_its_own_timeouts_hold_where_they_are_shorter(guard: Any, server: RawServer, client: Any,
                                                      library: Any) -> None:
    for path in ("/silent", "/stall/length"):
        with pytest.raises(library.ReadTimeout) as late:
            guard(lambda path=path: client.get(server.url + path, timeout=library.Timeout(20, read=0.1)))()
        assert not isinstance(late.value, CallTimeout)
    with full_server() as port, pytest.raises(library.ConnectTimeout):
        guard(lambda: client.get(f"http://127.0.0.1:{port}", timeout=library.Timeout(20, connect=0.1)))()
    with pytest.raises((library.WriteTimeout, library.ReadTimeout)):  # of the first it goes on to read
        guard(lambda: client.post(server.url + "/upload", content=_zeros(),
                                  timeout=library.Timeout(20, write=0.1, read=0.1)))()


def _zeros() -> Iterator[bytes]:
    while True:
        yield bytes(1_000_000)


@pytest.mark.parametrize("given", [True, False], ids=["given", "of the environment"])
def test_proxies_pass_requests_on_and_are_cut(given: bool, server: RawServer, secure_server: RawServer, tls: Tls,
                                              library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.create_default_context(cafile=tls.path)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, server.url)
    options: dict[str, Any] = {"proxy": server.url, "trust_env": False} if given else {}
    with httpx_client(library, verify=context, **options) as client:
        for guard in (lambda function: function, deadline(20), timeout(20)):
            assert guard(lambda: client.get("http://no-such-host.invalid/ok").text)() == "ok"
            assert guard(lambda: client.get(secure_server.url + "/ok").text)() == "ok"
        all_cut(deadline(BOUND)(lambda url: client.get(url).text),
                ["https://silent/", secure_server.url + "/stall/open", "http://no-such-host.invalid/stall/open"])
    assert server.all_gone()
    assert secure_server.all_gone()


def test_a_transport_serves_a_client_of_one_s_own(library: Any, server: RawServer) -> None:
    with library.Client(transport=httpx_transport(library, limits=library.Limits(max_connections=1))) as client:
        assert deadline(20)(lambda: client.get(server.url + "/ok").text)() == "ok"
        ended_in_time(deadline(BOUND)(lambda: client.get(server.url + "/silent")))
    assert server.all_gone()


# What it tells of


def test_the_last_response_is_noted_on_the_call(server: RawServer, client: Any) -> None:
    heard: list[Any] = []

    @deadline(20)
    def ask() -> None:
        client.get(server.url + "/status/503")
        client.get(server.url + "/ok")
        heard.append(call.in_progress().heard)  # type: ignore[union-attr]

    ask()
    assert (heard[0].status_code, heard[0].headers["x-ratelimit-remaining-requests"]) == (200, "7")


@pytest.mark.parametrize("copied", [lambda value: pickle.loads(pickle.dumps(value)), copy.copy], ids=["pickle", "copy"])
def test_its_errors_know_their_request_but_a_copy_of_them_does_not(copied: Callable[[Any], Any], client: Any,
                                                                   server: RawServer, library: Any) -> None:
    error = ended_in_time(deadline(BOUND)(lambda: client.post(server.url + "/silent", content=b"a prompt")))
    assert str(error.request.url) == server.url + "/silent"  # as of any error of httpx
    again = copied(error)
    assert type(again) is type(error)
    assert (str(again), again.seconds) == (str(error), error.seconds)
    assert "_request" not in vars(again)
    assert "silent" not in str(error)


def test_a_client_that_tries_again_by_itself_is_named_once(server: RawServer, client: Any,
                                                           caplog: pytest.LogCaptureFixture) -> None:
    def ask(count: str) -> None:
        client.get(server.url + "/ok", headers={"x-stainless-retry-count": count, "User-Agent": "OpenAI/Python 3"})

    with caplog.at_level(logging.WARNING, "llm_guard"):
        ask("1")
        deadline(20)(ask)("0")
        assert not caplog.records
        deadline(20)(ask)("1")
        deadline(20)(ask)("2")
    (record,) = caplog.records
    assert record.getMessage().startswith("OpenAI tries again by itself")
    assert "max_retries=0" in record.getMessage()


# What can't be


@pytest.mark.parametrize(("options", "parameter"), [
    ({"http2": True}, "http2"), ({"http1": False}, "http2"), ({"retries": 2}, "retries")])
def test_what_can_t_be_cut_is_refused(options: dict[str, Any], parameter: str, library: Any) -> None:
    with pytest.raises(ConfigError) as wrong:
        httpx_transport(library, **options)
    assert wrong.value.parameter == parameter
    with pytest.raises(ConfigError):
        httpx_client(library, **options)


def test_a_client_gets_a_transport_of_its_own(library: Any) -> None:
    with pytest.raises(ConfigError, match="transport"):
        httpx_client(library, transport=library.HTTPTransport())


@pytest.mark.parametrize("wrong", [json, "httpx", httpx2.Client], ids=repr)
def test_another_library_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="the module httpx or httpx2"):
        httpx_client(wrong)


def test_a_transport_for_the_other_library_says_so(server: RawServer) -> None:
    with (httpx.Client(transport=httpx_transport(httpx2)) as client,
          pytest.raises(ConfigError, match="that of the client, httpx")):
        client.get(server.url)


def test_by_default_it_is_for_the_newer_one() -> None:
    assert isinstance(httpx_client(), httpx2.Client)
    assert isinstance(httpx_transport(), httpx2.HTTPTransport)


def test_where_neither_is_installed_it_names_what_brings_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("httpx", "httpx2"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(transport, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'llm-guard-flow\[httpx\]'"):
        httpx_client()


def test_it_is_imported_when_a_client_is_first_asked_for() -> None:
    code = ("import sys, llm_guard.llm; before = [name for name in ('httpx', 'httpx2') if name in sys.modules]; "
            "llm_guard.llm.httpx_client(); print(before, 'httpx2' in sys.modules)")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[] True"
