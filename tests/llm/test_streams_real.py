"""Streams of real responses: pieces come as they are sent, connections are used again, closing reaches the server."""

from __future__ import annotations

import gzip
import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
import requests
from samples import delta, sse

from llm_guard.llm import StreamError, outcome_of, stream_text, text_of
from llm_guard.outcome import Kind, Outcome

pytestmark = pytest.mark.real
FIRST, REST = sse(delta("Good ")), sse(delta("day", "stop"), "[DONE]")


class Server:
    """Sends the first event of a stream, and the rest when it is told to; `how` says in which way."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.go_on = threading.Event()
        self.gone = threading.Event()  # a client has left
        self.connections = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.go_on.set()
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(5)
            try:
                while connection.recv(65536):
                    for part in self._parts():
                        connection.sendall(part)
                    if self.how != "chunked":
                        connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            self.gone.set()

    def _parts(self) -> Iterator[bytes]:
        packer = zlib.compressobj(wbits=31) if self.how == "gzip" else None
        yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        if self.how == "length":
            yield b"Content-Length: %d\r\n" % len(FIRST + REST)
        if self.how != "chunked":
            yield b"Connection: close\r\n"
        if self.how in ("chunked", "gzip"):
            yield b"Transfer-Encoding: chunked\r\n" + (b"Content-Encoding: gzip\r\n" if packer else b"")
        yield b"\r\n"
        for place, part in enumerate((FIRST, REST)):
            if place:
                self.go_on.wait(5)
            if packer is not None:
                part = packer.compress(part) + packer.flush(zlib.Z_FINISH if place else zlib.Z_SYNC_FLUSH)
            for half in (part[:9], part[9:]):
                yield b"%x\r\n%b\r\n" % (len(half), half) if self.how in ("chunked", "gzip") else half
        if self.how in ("chunked", "gzip"):
            yield b"0\r\n\r\n"


@pytest.fixture(params=["chunked", "length", "until closed", "gzip"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with closing(Server(request.param)) as made:
        yield made


def test_a_piece_comes_as_soon_as_it_is_sent(server: Server) -> None:
    def check(answer: Any) -> None:
        stream = stream_text(answer)
        assert next(stream) == "Good "  # the rest is sent only after it
        server.go_on.set()
        assert list(stream) == ["day"]
        assert stream.finish_reason == "stop"
        server.go_on.clear()

    with requests.Session() as session:
        check(session.get(server.url, stream=True, timeout=5))
        check(session.get(server.url, stream=True, timeout=5))
    with httpx.Client(timeout=5) as client:
        for _ in range(2):
            with client.stream("GET", server.url) as answer:
                check(answer)
    # The end of a body in chunks is read, so that its connection serves the next stream too.
    assert server.connections == (2 if server.how == "chunked" else 4)


def test_closing_reaches_the_server(server: Server) -> None:
    with stream_text(requests.get(server.url, stream=True, timeout=5)) as stream:
        assert next(stream) == "Good "
        assert not server.gone.is_set()
    server.go_on.set()
    assert server.gone.wait(5)


@pytest.mark.parametrize("how", ["chunked", "length", "until closed"])
def test_a_connection_that_breaks_is_told_as_such(how: str) -> None:
    head = {"chunked": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(FIRST),
            "length": b"Content-Length: 1000\r\n\r\n", "until closed": b"\r\n"}[how]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        def serve() -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + FIRST + (b"\r\n" if how == "chunked" else b""))

        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        stream = stream_text(requests.get(url, stream=True, timeout=5))
        assert next(stream) == "Good "
        with pytest.raises(StreamError if how == "until closed" else requests.RequestException) as caught:
            next(stream)
        assert outcome_of(caught.value) == Outcome(Kind.FAILURE, answered=how == "until closed")
        with httpx.stream("GET", url, timeout=5) as answer, pytest.raises(
                StreamError if how == "until closed" else httpx.HTTPError):
            list(stream_text(answer))


def test_a_body_that_was_packed_is_read_whole_and_within_the_bound() -> None:
    body = gzip.compress(b'[{"generated_text": "' + b"x" * 1_000_000 + b'"}]')
    with socket.create_server(("127.0.0.1", 0)) as listening:
        def serve() -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b"
                                       % (len(body), body))

        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        assert len(text_of(requests.get(url, stream=True, timeout=5))) == 1_000_000
        with pytest.raises(StreamError, match="too long a line"):
            list(stream_text(requests.get(url, stream=True, timeout=5), max_bytes=1000))
