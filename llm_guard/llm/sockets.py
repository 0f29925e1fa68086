"""httpcore's network streams, with each request an `Exchange` that the call in progress may cut."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from llm_guard.errors import CallTimeout, Cancelled
from llm_guard.llm.connecting import connect
from llm_guard.llm.exchange import Errors, Exchange, at_most, bounding


class Line:
    """One connection, as httpcore has it. An exchange on it lasts from its first operation until `let_go` or `close`.

    Where no call bounds the operation, and no exchange is under way, nothing is added.
    """

    def __init__(self, stream: Any, exchange: Exchange | None = None) -> None:
        self._stream = stream
        self._exchange = exchange
        self._last = exchange

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        exchange = self._joined()
        if exchange is None:
            return self._stream.read(max_bytes, timeout)  # type: ignore[no-any-return]
        part: bytes = self._stream.read(max_bytes, at_most(timeout, exchange.left()))
        _check(exchange)  # a body without a length looks whole where it was cut
        return part

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        exchange = self._joined()
        self._stream.write(buffer, timeout if exchange is None else at_most(timeout, exchange.left()))

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> Line:
        try:
            exchange = self._joined()
            left = timeout if exchange is None else at_most(timeout, exchange.left())
            return Line(self._stream.start_tls(ssl_context, server_hostname, left), exchange)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._end(whole=False)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def let_go(self) -> None:
        """The answer was received, or is not wanted. What was cut is closed, so that nobody uses it again."""
        if self._end(whole=True):
            self._stream.close()

    def error(self, errors: Errors) -> CallTimeout | Cancelled | None:
        """What the last operation must raise, where its call is over or cut it."""
        return None if self._last is None else self._last.error(errors)

    def _end(self, *, whole: bool) -> bool:
        exchange, self._exchange = self._exchange, None
        return exchange is not None and exchange.end(whole=whole)

    def _joined(self) -> Exchange | None:
        if self._exchange is not None:
            self._exchange.join()
        elif bounding() is not None:
            self._exchange = self._last = Exchange()
            self._exchange.hold(self._stream.get_extra_info("socket").fileno())
        if self._exchange is not None:
            _check(self._exchange)
        return self._exchange


def _check(exchange: Exchange) -> None:
    if exchange.is_cut:
        raise ConnectionAbortedError(errno.ECONNABORTED, "cut")


class Backend:
    """Opens the connections of a pool of httpcore. `plain` is what did so before: it opens those of no call."""

    def __init__(self, core: str, plain: Any) -> None:
        self._core = import_module(core)
        self._stream = import_module(f"{core}._backends.sync").SyncStream
        self._plain = plain

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
                    socket_options: Iterable[Any] | None = None) -> Line:
        if bounding() is None:
            return Line(self._plain.connect_tcp(host, port, timeout, local_address, socket_options))
        exchange = Exchange()
        try:
            line = connect(exchange, host, port, timeout=timeout,
                           source=None if local_address is None else (local_address, 0),
                           options=[*(socket_options or ()), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)])
            return Line(self._stream(line), exchange)
        except OSError as error:
            exchange.end()
            kind = self._core.ConnectTimeout if isinstance(error, TimeoutError) else self._core.ConnectError
            raise kind(str(error)) from error
        except BaseException:
            exchange.end()
            raise

    def connect_unix_socket(self, path: str, timeout: float | None = None,
                            socket_options: Iterable[Any] | None = None) -> Line:
        return Line(self._plain.connect_unix_socket(path, timeout, socket_options))

    def sleep(self, seconds: float) -> None:
        self._plain.sleep(seconds)
