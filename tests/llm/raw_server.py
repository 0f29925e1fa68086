"""A server on loopback that misbehaves as it is asked to, for the tests of connections that are cut."""

from __future__ import annotations

import os
import re
import socket
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import trustme

#: Seconds between two bytes of a body that drips.
DRIP = 0.02
#: Seconds after which it gives up what would never end, so that a test of code that is broken does.
PATIENCE = 10.0
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
#: How each kind of body is announced, and how a part of it is sent.
FRAMES: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "length": (b"Content-Length: 100000\r\n", lambda part: part),
    "chunked": (b"Transfer-Encoding: chunked\r\n", lambda part: b"%x\r\n%b\r\n" % (len(part), part)),
    "open": (b"Connection: close\r\n", lambda part: part),
}


class RawServer:
    """Answers `/ok` at once and `/slow` in two parts, 0.5 s apart; `/close` closes the connection, `/status/<code>` and
    `/to/<path>` (a redirect) say so. The others never end: `/drip/<frame>`, `/stall/<frame>`, `/silent`, `/half-head`,
    `/drip-head`, and `/upload`, which reads no body. What stands behind that in a path does not matter.

    `connections` are those that are open now, as the server sees them; `taken` counts all that there were.
    With `tls` it speaks TLS; with `shakes=False` it takes connections and says nothing.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, *, shakes: bool = True) -> None:
        self._tls = tls
        self._shakes = shakes
        self._lock = threading.Lock()
        self.connections = self.taken = 0
        self.heads: list[str] = []
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        scheme = "http" if tls is None and shakes else "https"
        self.url = f"{scheme}://{'localhost' if tls else '127.0.0.1'}:{self.port}"
        threading.Thread(target=self._accept, daemon=True, name="raw server").start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for line in self._open:
                try:
                    line.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def all_gone(self, within: float = 5.0) -> bool:
        """Whether every client has gone within so many seconds. Where not, tells on standard error where all stand."""
        gone = until(lambda: self.connections == 0, within)
        if not gone:
            print(self.connections, "still there;", [thread.name for thread in threading.enumerate()], file=sys.stderr)
            for frame in sys._current_frames().values():
                print(*traceback.format_stack(frame)[-6:], sep="", file=sys.stderr)
        return gone

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self.taken += 1
                self._open.add(line)
            threading.Thread(target=self._serve, args=(line,), daemon=True, name="raw server's connection").start()

    def _serve(self, plain: socket.socket) -> None:
        line = plain
        try:
            if not self._shakes:
                _until_gone(line)
                return
            if self._tls is not None:
                line = self._tls.wrap_socket(plain, server_side=True)
            while self._answer(line):
                pass
        except OSError:
            pass
        finally:
            line.close()
            with self._lock:
                self._open.discard(plain)
                self.connections -= 1

    def _answer(self, line: socket.socket) -> bool:
        """Whether the connection goes on."""
        head = b""
        while b"\r\n\r\n" not in head:
            part = line.recv(1 if head.startswith(b"POST /upload") else 4096)
            if not part:
                return False
            head += part
        text = head.decode("latin-1")
        self.heads.append(text)
        threading.current_thread().name = f"raw server's connection: {text.partition(' HTTP')[0]}"
        method, target = text.split(" ")[:2]
        if method == "CONNECT":
            return self._tunnel(line, target)
        path = re.sub("^http://[^/]*", "", target)  # as a proxy is asked
        if method in ("POST", "PUT") and not path.startswith("/upload"):
            length = re.search(r"content-length: (\d+)", text.lower())
            body = head.partition(b"\r\n\r\n")[2]
            while len(body) < int(length[1]) if length else not body.endswith(b"0\r\n\r\n"):
                part = line.recv(65536)
                if not part:
                    return False
                body += part
        if path.startswith("/slow"):
            line.sendall(_OK + b"Content-Length: 4\r\n\r\nab")
            time.sleep(0.5)
            line.sendall(b"cd")
            return True
        if path.startswith("/ok"):
            line.sendall(_OK + b"X-RateLimit-Remaining-Requests: 7\r\nContent-Length: 2\r\n\r\nok")
            return True
        if path.startswith("/close"):
            line.sendall(_OK + b"Connection: close\r\n\r\nok")
            return False
        if path.startswith("/status/"):
            line.sendall(b"HTTP/1.1 %s Said\r\nContent-Length: 2\r\n\r\n{}" % path[8:11].encode())
            return True
        if path.startswith("/to/"):
            line.sendall(b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % path[3:].encode())
            return True
        _misbehave(line, path)
        return False

    def _tunnel(self, line: socket.socket, target: str) -> bool:
        """As a proxy: passes bytes on, until either side has gone."""
        host, _, port = target.partition(":")
        if host == "silent":
            _until_gone(line)
            return False
        other = socket.create_connection((host, int(port)))
        line.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=_pump, args=(other, line), daemon=True)
        back.start()
        _pump(line, other)
        back.join()
        other.close()
        return False


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while part := source.recv(65536):
            sink.sendall(part)
    except OSError:
        pass
    for line in (source, sink):
        try:
            line.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def _misbehave(line: socket.socket, path: str) -> None:
    kind, frame, *_ = [*path.strip("/").split("/"), ""]
    if kind in ("drip", "stall"):
        announced, framed = FRAMES[frame]
        line.sendall(_OK + announced + b"\r\n" + framed(b"abc"))
        if kind == "drip":
            _drip(line, lambda number: framed(b"x"))
    elif kind == "half-head":
        line.sendall(b"HTTP/1.1 200 OK\r\nContent-Ty")
    elif kind == "drip-head":
        line.sendall(b"HTTP/1.1 200 OK\r\n")
        _drip(line, lambda number: b"X-%d: y\r\n" % number)
    if kind == "upload":
        _until_broken(line)
    else:
        _until_gone(line)


def _drip(line: socket.socket, part: Callable[[int], bytes]) -> None:
    for number in range(round(PATIENCE / DRIP)):
        line.sendall(part(number))
        line.settimeout(DRIP)
        try:
            if not line.recv(4096):
                return
        except TimeoutError:
            pass


def _until_gone(line: socket.socket) -> None:
    line.settimeout(PATIENCE)
    while line.recv(4096):
        pass


def _until_broken(line: socket.socket) -> None:
    """Reads nothing: sees that the client has gone only where that resets the connection."""
    until(lambda: line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0, PATIENCE)


def until(condition: Callable[[], bool], within: float = 5.0) -> bool:
    """Whether it holds within so many seconds."""
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def descriptors() -> int:
    """Open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def full_server() -> Iterator[int]:
    """A port at which `connect` blocks: its backlog is full, and nobody takes connections from it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):
            line = socket.socket()
            line.setblocking(False)
            line.connect_ex(listener.getsockname())
            waiting.append(line)
        time.sleep(0.05)
        try:
            yield listener.getsockname()[1]
        finally:
            for line in waiting:
                line.close()


class Tls(NamedTuple):
    """A server's TLS context, the file with its authority's certificate for clients, and that authority."""

    context: ssl.SSLContext
    path: str
    authority: trustme.CA


def certificates(directory: Path) -> Tls:
    """An authority of its own, and a certificate for localhost."""
    authority = trustme.CA()
    path = directory / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return Tls(context, str(path), authority)
