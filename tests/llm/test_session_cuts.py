"""A request through `Session` ends when its call does, whatever the server does, and leaves nothing behind."""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import pytest
import requests
from cuts import BOUND, EVILS, GUARDS, WAITS, LateAlarm, all_cut, call_all, ended_in_time, threads
from raw_server import FRAMES, RawServer, Tls, descriptors, full_server, until

from llm_guard import CallTimeout, bounded, breaker, call, deadline, map_with_backpressure, retry, timeout
from llm_guard.call import Call, CutOff
from llm_guard.errors import Cancelled
from llm_guard.llm import RequestCancelled, RequestTimeout, Session, exchange

pytestmark = pytest.mark.real

@pytest.fixture
def session(tls: Tls) -> Iterator[Session]:
    with Session() as made:
        made.trust_env = False
        made.verify = tls.path
        yield made


def fetch(session: requests.Session, url: str) -> str:
    if url.endswith("/upload"):
        return session.post(url, data=bytes(20_000_000)).text
    return session.get(url).text


@contextmanager
def nothing_left(session: Session, idle: int = 1) -> Iterator[None]:
    """After the block no descriptor is open that was not open before, and no thread runs but so many idle workers."""
    gc.collect()
    before = descriptors(), threads()
    yield
    session.close()
    gc.collect()  # pytest's picture of an error holds those frames too
    assert until(lambda: descriptors() <= before[0]), "descriptors are left"
    assert until(lambda: threads() <= before[1] + idle), "threads are left"


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_whatever_the_server_does_control_returns_and_the_server_sees_the_client_go(
        scheme: str, guard: Any, request: pytest.FixtureRequest, session: Session) -> None:
    server: RawServer = request.getfixturevalue("server" if scheme == "http" else "secure_server")
    limit, bound = bounded(len(EVILS)), guard(BOUND)
    ask = limit(bound(lambda evil: fetch(session, server.url + evil)))
    with nothing_left(session, len(EVILS) if guard is timeout else 0):
        all_cut(ask, EVILS)
        assert server.all_gone()
        assert until(lambda: limit.statistics().in_flight == 0)
        assert guard is deadline or until(lambda: bound.statistics().still_running == 0)
        taken = server.taken
        assert session.get(server.url + "/ok").text == "ok"
        assert server.taken > taken  # what was cut is not used again


@pytest.mark.parametrize("guard", GUARDS)
def test_a_handshake_that_is_never_answered(guard: Any, session: Session) -> None:
    server = RawServer(shakes=False)
    with nothing_left(session):
        ended_in_time(guard(BOUND)(lambda: session.get(server.url)))
        assert server.all_gone()
    server.close()


@pytest.mark.parametrize("guard", GUARDS)
def test_a_connect_that_blocks(guard: Any, session: Session) -> None:
    with full_server() as port, nothing_left(session):
        ended_in_time(guard(BOUND)(lambda: session.get(f"http://127.0.0.1:{port}")))


def test_where_the_alarm_is_late_the_socket_s_own_timeout_ends_what_waits(
        server: RawServer, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "alarm", LateAlarm)
    all_cut(deadline(BOUND)(lambda evil: fetch(session, server.url + evil)), WAITS)
    assert server.all_gone()


@pytest.mark.parametrize("guard", GUARDS)
def test_a_stream_ends_in_the_midst(guard: Any, server: RawServer, session: Session) -> None:
    parts: dict[str, list[bytes]] = {frame: [] for frame in FRAMES}

    @guard(BOUND)
    def ask(frame: str) -> None:
        with session.get(f"{server.url}/drip/{frame}", stream=True) as response:
            parts[frame].extend(response.iter_content(1))

    with nothing_left(session, len(FRAMES) if guard is timeout else 0):
        all_cut(ask, list(FRAMES))
    assert all(parts.values())
    assert server.all_gone()


@pytest.mark.parametrize("guard", GUARDS)
def test_a_stream_of_lines_and_a_raw_body_end_too(guard: Any, server: RawServer, session: Session) -> None:
    def lines() -> list[Any]:
        return list(session.get(server.url + "/drip/open", stream=True).iter_lines())

    def raw() -> bytes:
        return session.get(server.url + "/stall/open", stream=True).raw.read()

    for ask in (lines, raw):
        ended_in_time(guard(BOUND)(ask))
        assert server.all_gone()


# What its thread sees


def test_a_thread_that_is_not_left_sees_a_timeout_of_both_kinds(server: RawServer, session: Session) -> None:
    for end in call_all(deadline(BOUND)(lambda evil: fetch(session, server.url + evil)), EVILS):
        error: Any = end.error
        assert type(error) is RequestTimeout
        assert isinstance(error, requests.Timeout)
        assert isinstance(error, TimeoutError)
        assert 0 <= error.seconds <= BOUND
        assert not error.still_running
        assert (error.request, error.response, error.__context__, error.__cause__) == (None, None, None, None)


def test_after_a_cut_a_session_that_is_closed_closes_its_connections_before_the_collector_runs(
        server: RawServer, session: Session) -> None:
    gc.collect()
    gc.disable()
    try:
        for evil in ("/silent", "/upload"):
            with suppress(CallTimeout):
                deadline(BOUND)(lambda evil=evil: fetch(session, server.url + evil))()
        session.get(server.url + "/ok")
        assert until(lambda: server.connections == 1)
        session.close()
        assert server.all_gone(2)
    finally:
        gc.enable()


def test_it_is_a_timeout_for_the_breaker_and_is_tried_again(server: RawServer, session: Session) -> None:
    paths = iter(["/stall/open", "/silent", "/ok"])
    votes = breaker()
    ask = retry(wait=0, jitter=None)(votes(timeout(BOUND)(lambda: session.get(server.url + next(paths)).text)))
    assert ask() == "ok"
    assert votes.statistics().failure_rate == pytest.approx(2 / 3)
    assert until(lambda: server.connections == 1)  # the good one is kept


def test_a_mapping_that_is_closed_cuts_what_is_in_flight(server: RawServer, session: Session) -> None:
    errors: list[Exception] = []

    def ask(path: str) -> str:
        try:
            assert path != "/ok" or until(lambda: len(server.heads) == 9)
            return session.get(server.url + path).text
        except Exception as error:
            errors.append(error)
            raise

    with map_with_backpressure(ask, ["/ok", *["/drip/length", "/silent", "/stall/open"] * 3], workers=10) as mapping:
        assert next(mapping) == "ok"
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert [type(error) for error in errors] == [RequestCancelled] * 9
    assert isinstance(errors[0], requests.ConnectionError)
    assert isinstance(errors[0], Cancelled)
    assert until(lambda: server.connections <= 1)  # that of the good one, where it was kept


@pytest.mark.parametrize("evil", WAITS)
def test_a_connection_that_was_kept_is_cut_as_a_new_one_is(evil: str, server: RawServer, session: Session) -> None:
    assert session.get(server.url + "/ok").text == "ok"
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
            fetch(session, server.url + evil)
    finally:
        call.end(token)
        other.join()
    assert time.monotonic() - began < 5
    assert server.taken == 1
    assert server.all_gone()


def test_a_call_that_is_given_up_already_makes_no_request(server: RawServer, session: Session) -> None:
    seen: list[Exception] = []

    @timeout(0.05)
    def ask() -> None:
        while call.in_progress().cut_off.is_cut is False:  # type: ignore[union-attr]
            time.sleep(0.001)
        try:
            session.get(server.url + "/ok")
        except Exception as error:
            seen.append(error)

    with pytest.raises(CallTimeout):
        ask()
    assert until(lambda: bool(seen))
    assert isinstance(seen[0], RequestTimeout)
    assert server.taken == 0


def test_a_name_that_takes_long_to_resolve_is_waited_for_but_not_connected_to(
        server: RawServer, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    bound, resolved, resolve = timeout(0.05), threading.Event(), socket.getaddrinfo

    def slowly(*args: Any) -> Any:
        resolved.wait(5)
        return resolve(*args)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    with pytest.raises(CallTimeout):
        bound(lambda: session.get(server.url))()
    assert bound.statistics().still_running == 1
    resolved.set()
    assert until(lambda: bound.statistics().still_running == 0)
    assert server.taken == 0


# What is not cut


@pytest.mark.parametrize("guard", GUARDS)
def test_a_response_that_was_returned_is_the_caller_s_own(guard: Any, server: RawServer, session: Session) -> None:
    response = guard(0.3)(lambda: session.get(server.url + "/slow", stream=True))()
    assert response.content == b"abcd"
    assert session.get(server.url + "/ok").text == "ok"
    assert server.taken == 1


def test_a_response_that_a_mapping_yielded_is_the_caller_s_own(server: RawServer, session: Session) -> None:
    with map_with_backpressure(lambda path: session.get(server.url + path, stream=True), ["/slow", "/ok"]) as mapping:
        response = next(mapping)
    assert response.content == b"abcd"


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "unguarded"])
def test_a_connection_that_is_back_in_its_pool_belongs_to_the_next_call(guarded: bool, server: RawServer,
                                                                        session: Session) -> None:
    back, taken = threading.Event(), threading.Event()

    @timeout(BOUND)
    def first() -> None:
        session.get(server.url + "/ok")
        back.set()
        taken.wait(5)

    def in_background() -> None:
        with suppress(CallTimeout):
            first()

    background = threading.Thread(target=in_background)
    background.start()
    assert back.wait(5)
    ask = lambda: session.get(server.url + "/slow").text  # noqa: E731
    answer = timeout(5)(ask)() if guarded else ask()  # while the first runs out of time
    background.join()
    taken.set()
    assert answer == "abcd"
    assert server.taken == 1


def test_of_many_calls_on_one_session_only_those_that_are_over_are_cut(server: RawServer, session: Session) -> None:
    """Connections change hands at the very moment when calls run out of time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    number = count()
    ends: list[tuple[float, str | Exception]] = []

    def ask() -> None:
        for _ in range(60):
            bound = 0.002 + 0.002 * (next(number) % 5)
            patient = next(number) % 2
            guard = deadline(5) if patient else deadline(bound)
            try:
                ends.append((patient, guard(lambda: session.get(server.url + "/ok").text)()))
            except Exception as error:
                ends.append((patient, error))

    try:
        crowd = [threading.Thread(target=ask) for _ in range(8)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert len(ends) == 480
    assert {end for patient, end in ends if patient} == {"ok"}
    assert {type(end) for patient, end in ends if not patient} <= {str, RequestTimeout}
    assert until(lambda: server.connections <= 10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_process_does_not_cut_its_parent_s_connections(server: RawServer, session: Session) -> None:
    cut_off = CutOff()
    token = call.begin(Call(cut_off=cut_off))
    try:
        response = session.get(server.url + "/slow", stream=True)
        pid = os.fork()
        if pid == 0:
            cut_off.cut()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert response.content == b"abcd"
    finally:
        call.end(token)


# Whose call it is


def test_a_body_is_cut_with_the_call_that_reads_it(server: RawServer, session: Session) -> None:
    responses = {frame: session.get(f"{server.url}/drip/{frame}", stream=True) for frame in FRAMES}
    all_cut(deadline(BOUND)(lambda frame: responses[frame].content), list(FRAMES))
    assert server.all_gone()


def test_a_response_of_a_guarded_function_is_cut_with_the_one_above_that_reads_it(server: RawServer,
                                                                                  session: Session) -> None:
    inner = deadline(BOUND)(lambda: session.get(server.url + "/drip/length", stream=True))
    ended_in_time(deadline(3 * BOUND)(lambda: inner().content), 3 * BOUND)
    assert server.all_gone()


def test_a_shorter_deadline_below_a_timeout_holds(server: RawServer, session: Session) -> None:
    inner = deadline(BOUND)(lambda: session.get(server.url + "/silent"))
    assert type(ended_in_time(timeout(5)(lambda: inner()))) is RequestTimeout
    assert server.all_gone()


@pytest.mark.parametrize("guard", GUARDS)
def test_a_response_that_is_dropped_unread_leaves_nothing(guard: Any, server: RawServer, session: Session) -> None:
    before = descriptors()
    cut_offs: list[weakref.ref[Any]] = []

    @guard(5)
    def ask() -> str:
        response = session.get(server.url + "/drip/length", stream=True)
        cut_offs.append(weakref.ref(response.raw))
        return "no more than this"

    ask()
    gc.collect()
    assert cut_offs[0]() is None
    assert server.all_gone()
    assert until(lambda: descriptors() <= before)


def test_a_pool_that_blocks_is_waited_for_no_longer_than_the_call(server: RawServer) -> None:
    from llm_guard.llm import Adapter

    session = Session()
    session.mount("http://", Adapter(pool_maxsize=1, pool_block=True))
    response = session.get(server.url + "/drip/length", stream=True)
    give_up = threading.Timer(8, response.close)
    give_up.start()
    ended_in_time(deadline(BOUND)(lambda: session.get(server.url + "/ok")))
    with map_with_backpressure(lambda item: item and session.get(server.url + "/ok"), [0, 1]) as mapping:
        next(mapping)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    give_up.cancel()
    threading.Timer(0.1, response.close).start()
    assert deadline(5)(lambda: session.get(server.url + "/ok").text)() == "ok"
