"""What an exchange cuts, and what it leaves alone."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from raw_server import descriptors, full_server, until

from llm_guard import call
from llm_guard.call import FOREVER, Call, CutOff
from llm_guard.clock.virtual import VirtualClock
from llm_guard.errors import CallTimeout, Cancelled
from llm_guard.llm.connecting import connect
from llm_guard.llm.exchange import Errors, Exchange, at_most, bounding

pytestmark = pytest.mark.real

ERRORS = Errors(CallTimeout, Cancelled)


@pytest.fixture
def cut_off() -> Iterator[CutOff]:
    """That of a call in progress."""
    token = call.begin(Call(cut_off=CutOff()))
    found = call.in_progress()
    assert found is not None
    assert found.cut_off is not None
    yield found.cut_off
    call.end(token)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    here.settimeout(5)
    there.settimeout(5)
    yield here, there
    here.close()
    there.close()


Pair = tuple[socket.socket, socket.socket]


def test_a_call_without_any_bound_bounds_no_request() -> None:
    assert bounding() is None
    token = call.begin(Call())
    assert bounding() is None
    call.end(token)


def test_a_call_that_has_ended_bounds_no_request(cut_off: CutOff) -> None:
    assert bounding() is call.in_progress()
    call.in_progress().active = False  # type: ignore[union-attr]
    assert bounding() is None


def test_whoever_is_blocked_on_it_goes_on(cut_off: CutOff, pair: Pair) -> None:
    exchange = Exchange()
    exchange.hold(pair[0].fileno())
    threading.Timer(0.05, cut_off.cut).start()
    assert pair[0].recv(1) == b""
    assert exchange.is_cut
    assert pair[1].recv(1) == b""
    assert isinstance(exchange.error(ERRORS), Cancelled)


def test_a_connection_that_comes_after_the_cut_is_cut(cut_off: CutOff, pair: Pair) -> None:
    exchange = Exchange()
    cut_off.cut()
    exchange.hold(pair[0].fileno())
    assert pair[0].recv(1) == b""


def test_of_several_connections_the_last_is_cut(cut_off: CutOff, pair: Pair) -> None:
    other = socket.socketpair()
    exchange = Exchange()
    exchange.hold(pair[0].fileno())
    exchange.hold(other[0].fileno())
    cut_off.cut()
    assert other[0].recv(1) == b""
    pair[0].sendall(b"a")
    assert pair[1].recv(1) == b"a"
    for line in other:
        line.close()


def test_once_it_has_ended_it_cuts_nothing_and_keeps_nothing(cut_off: CutOff, pair: Pair) -> None:
    before = descriptors()
    exchange = Exchange()
    exchange.hold(pair[0].fileno())
    assert descriptors() == before + 1
    assert not exchange.end()
    assert descriptors() == before
    cut_off.cut()
    assert not exchange.is_cut
    pair[0].sendall(b"a")
    assert pair[1].recv(1) == b"a"
    assert not exchange.end()  # again: no effect


def test_one_that_is_dropped_keeps_no_descriptor(pair: Pair) -> None:
    gc.collect()
    before = descriptors()
    exchange = Exchange()
    exchange.hold(pair[0].fileno())
    del exchange
    gc.collect()
    assert descriptors() == before


@pytest.mark.parametrize("ends_first", [True, False])
def test_a_cut_and_an_end_at_once_touch_no_descriptor_of_others(ends_first: bool) -> None:
    """A descriptor that is closed is soon another connection's."""
    for _ in range(200):
        cut_off = CutOff()
        token = call.begin(Call(cut_off=cut_off))
        here, there = socket.socketpair()
        exchange = Exchange()
        exchange.hold(here.fileno())
        call.end(token)
        acts = [cut_off.cut, exchange.end]
        thread = threading.Thread(target=acts[ends_first])
        thread.start()
        acts[not ends_first]()
        others = [socket.socketpair() for _ in range(3)]
        thread.join()
        for one, other in others:
            one.sendall(b"a")
            other.settimeout(5)
            assert other.recv(1) == b"a"
            one.close()
            other.close()
        here.close()
        there.close()


def test_a_finaliser_may_end_it_in_the_midst_of_a_cut(cut_off: CutOff, pair: Pair,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_guard.llm import exchange as module

    exchange, shut_down = Exchange(), module._shut_down
    exchange.hold(pair[0].fileno())

    def in_its_midst(descriptor: int) -> None:
        exchange.end()
        shut_down(descriptor)

    monkeypatch.setattr(module, "_shut_down", in_its_midst)
    done = threading.Thread(target=cut_off.cut)
    done.start()
    done.join(5)
    assert not done.is_alive()


def test_a_deadline_that_its_caller_will_see_to_sets_no_alarm(pair: Pair) -> None:
    with VirtualClock() as clock:
        for cut_off, rings in ((None, True), (CutOff(), True), (CutOff(at=7.0), True), (CutOff(at=5.0), False)):
            token = call.begin(Call(deadline=clock.now() + 5.0, cut_off=cut_off))
            if cut_off is not None and cut_off.at != FOREVER:
                cut_off.at += clock.now()
            exchange = Exchange()
            clock.sleep(5.5)
            assert exchange.is_cut == rings
            assert isinstance(exchange.error(ERRORS), CallTimeout)
            call.end(token)


@pytest.mark.parametrize("meanwhile", [8.0, FOREVER], ids=["moved on", "not waited for"])
def test_a_deadline_that_moved_on_cuts_when_it_comes_and_no_sooner(meanwhile: float, pair: Pair) -> None:
    with VirtualClock() as clock:
        bound = Call(deadline=5.0)
        token = call.begin(bound)
        exchange = Exchange()
        exchange.hold(pair[0].fileno())
        clock.sleep(3.0)
        bound.deadline = meanwhile  # as that of a stream whose consumer takes its time
        clock.sleep(3.0)
        assert not exchange.is_cut
        bound.deadline = 8.0
        exchange.join()  # the next operation
        clock.sleep(1.9)
        assert not exchange.is_cut
        clock.sleep(0.2)
        assert exchange.is_cut
        exchange.end()
        call.end(token)


def test_what_is_left_is_that_of_the_call_in_progress_now() -> None:
    with VirtualClock() as clock:
        outer = Call(deadline=20.0)
        outer_token = call.begin(outer)
        inner = Call(deadline=5.0)
        token = call.begin(inner)
        exchange = Exchange()
        clock.sleep(1)
        assert exchange.left() == 4.0
        inner.active = False
        call.end(token)
        assert exchange.left() == FOREVER
        exchange.join()
        assert exchange.left() == 19.0
        call.end(outer_token)
        clock.sleep(18.9)
        assert not exchange.is_cut
        clock.sleep(0.2)
        assert exchange.is_cut


@pytest.mark.parametrize(("timeout", "left", "most"), [
    (None, FOREVER, None), (3.0, FOREVER, 3.0), (None, 2.0, 2.0), (3.0, 2.0, 2.0), (1.0, 2.0, 1.0), (None, 0.0, 0.001)])
def test_the_shorter_of_a_timeout_and_what_is_left(timeout: float | None, left: float, most: float | None) -> None:
    assert at_most(timeout, left) == most


# Connecting


def test_it_connects_as_the_standard_library_does(cut_off: CutOff) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        line = connect(Exchange(), "localhost", port, timeout=5, source=("127.0.0.1", 0),
                       options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)])
        assert line.gettimeout() == 5
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert line.getpeername()[1] == port
        line.close()
    with pytest.raises(ConnectionRefusedError):
        connect(Exchange(), "127.0.0.1", port, timeout=5)
    with pytest.raises(socket.gaierror):
        connect(Exchange(), "no-such-host.invalid", port, timeout=5)


def test_it_goes_on_to_the_next_address_of_a_host(cut_off: CutOff, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as gone:
        refuses = gone.getsockname()
        gone.close()
        addresses = [refuses, listener.getsockname()]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *given: [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in addresses])
        before, exchange = descriptors(), Exchange()
        line = connect(exchange, "host", 1, timeout=5)
        assert line.getpeername() == addresses[1]
        cut_off.cut()
        assert line.recv(1) == b""
        line.close()
        exchange.end()
        assert until(lambda: descriptors() == before)


@pytest.mark.parametrize("begun", [True, False], ids=["as it connects", "before"])
def test_a_cut_at_the_very_moment_of_connecting_is_not_missed(begun: bool, cut_off: CutOff,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to shut down yet, and the server would not answer for long."""
    class Line(socket.socket):
        def connect_ex(self, address: object) -> int:
            if not begun:
                cut_off.cut()
            code = super().connect_ex(address)  # type: ignore[arg-type]
            if begun:
                cut_off.cut()
            return code

    with full_server() as port:
        monkeypatch.setattr(socket, "socket", Line)
        before, began = descriptors(), time.monotonic()
        exchange = Exchange()
        with pytest.raises(ConnectionAbortedError):
            connect(exchange, "127.0.0.1", port, timeout=8)
        assert time.monotonic() - began < 5
        exchange.end()
        assert until(lambda: descriptors() == before)


def test_a_connect_ends_when_it_is_cut_or_its_time_is_up(cut_off: CutOff) -> None:
    with full_server() as port:
        with pytest.raises(TimeoutError):
            connect(Exchange(), "127.0.0.1", port, timeout=0.05)
        threading.Timer(0.05, cut_off.cut).start()
        with pytest.raises(ConnectionResetError):
            connect(Exchange(), "127.0.0.1", port, timeout=None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_in_a_child_process_it_shuts_nothing_down(cut_off: CutOff, pair: Pair) -> None:
    exchange = Exchange()
    exchange.hold(pair[0].fileno())
    pid = os.fork()
    if pid == 0:
        cut_off.cut()
        os._exit(int(exchange.is_cut))
    assert os.waitpid(pid, 0)[1] == 0
    pair[0].sendall(b"a")
    assert pair[1].recv(1) == b"a"
