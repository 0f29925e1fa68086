"""urllib3's connections, pools and responses, with each request an `Exchange` that the call in progress may cut.

Classes are made from those that a pool manager has, so that those for SOCKS proxies, and a user's own, are guarded too.
Where no call bounds the request, nothing is added to what urllib3 does. For urllib3 1.26 and 2.
"""

from __future__ import annotations

import errno
import http.client
import socket
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

import urllib3
from urllib3 import exceptions
from urllib3.connection import HTTPConnection
from urllib3.util.connection import allowed_gai_family

from llm_guard import clock
from llm_guard.call import FOREVER
from llm_guard.llm.exchange import Exchange, at_most, bounding, connect, forget
from llm_guard.llm.request_errors import ERRORS

if TYPE_CHECKING:
    _Connection = HTTPConnection
    _Pool = urllib3.HTTPConnectionPool
    _Response = urllib3.HTTPResponse
else:
    _Connection = _Pool = _Response = object

V = TypeVar("V")

#: A wait for a place in a full pool looks up so often, in seconds, whether its call was given up.
_LOOK_UP = 0.1
_NO_NAME = getattr(exceptions, "NameResolutionError", None)  # 1.26 has none of its own


class _Connects(_Connection):
    """A connection; its exchange lasts from `connect`, or a request on it, until it is closed or put back."""

    exchange: Exchange | None = None
    _hands_over = False

    def joined(self) -> Exchange | None:
        """The exchange under way, registered with the call in progress; None where nothing bounds that."""
        if self.exchange is not None:
            self.exchange.join()
        elif bounding() is not None:
            self.exchange = Exchange()
            if self.sock is not None:
                self.exchange.hold(self.sock.fileno())
        return self.exchange

    def _new_conn(self) -> socket.socket:
        exchange = self.joined()
        if exchange is None:
            return super()._new_conn()
        if super()._new_conn.__func__ is not HTTPConnection._new_conn:  # type: ignore[attr-defined] # one by SOCKS
            line = super()._new_conn()
            exchange.hold(line.fileno())
            return line
        host: str = self._dns_host
        timeout = _seconds(self.timeout)
        try:
            line = connect(exchange, host.strip("[]") if host.startswith("[") else host, self.port, timeout=timeout,
                           family=allowed_gai_family(), source=self.source_address, options=self.socket_options or ())
        except UnicodeError:
            raise exceptions.LocationParseError(f"'{host}', label empty or too long") from None
        except socket.gaierror as error:
            if _NO_NAME is not None:
                raise _NO_NAME(self.host, self, error) from error
            raise exceptions.NewConnectionError(self, f"Failed to establish a new connection: {error}") from error
        except TimeoutError as error:
            raise exceptions.ConnectTimeoutError(
                self, f"Connection to {self.host} timed out. (connect timeout={timeout})") from error
        except OSError as error:
            raise exceptions.NewConnectionError(self, f"Failed to establish a new connection: {error}") from error
        sys.audit("http.client.connect", self, self.host, self.port)
        return line

    def request(self, *args: Any, **kwargs: Any) -> None:
        self.joined()
        super().request(*args, **kwargs)

    def request_chunked(self, *args: Any, **kwargs: Any) -> None:
        self.joined()
        super().request_chunked(*args, **kwargs)

    def getresponse(self, *args: Any, **kwargs: Any) -> Any:
        # Where the body has no length, or the server will close the connection, http.client closes it here already:
        # the response goes on reading from it.
        self._hands_over = True
        if self.exchange is not None:
            self.exchange.line = self.sock
            self.response_class = partial(_Answer, self.exchange)  # type: ignore[assignment] # it is only called
        try:
            return super().getresponse(*args, **kwargs)
        finally:
            self._hands_over = False
            self.__dict__.pop("response_class", None)

    def close(self) -> None:
        try:
            super().close()
        finally:
            if not self._hands_over:
                self.end_exchange()

    def end_exchange(self, *, whole: bool = False) -> bool:
        """Whether it was cut. `whole`: the answer was received."""
        exchange, self.exchange = self.exchange, None
        return exchange is not None and exchange.end(whole=whole)


class _Answer(http.client.HTTPResponse):
    """http.client's response, to which headers that are cut do not look whole."""

    def __init__(self, exchange: Exchange, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._exchange = exchange

    def begin(self) -> None:
        super().begin()
        if self._exchange.is_cut:
            raise ConnectionAbortedError(errno.ECONNABORTED, "cut")


class _Keeps(_Pool):
    """A pool. What was cut does not come back to it, and waits in it are bounded by the call."""

    def urlopen(self, *args: Any, **kwargs: Any) -> Any:
        bound = bounding()
        asked = None
        if bound is not None:
            timeout = self._get_timeout(kwargs.get("timeout", self.timeout))  # a copy
            total = _seconds(timeout.total)
            asked = _seconds(timeout.read_timeout) if total is None else total
            timeout.total = at_most(total, max(0.0, bound.deadline - clock.current().now()))
            kwargs["timeout"] = timeout
        response: Any = super().urlopen(*args, **kwargs)
        if not isinstance(response, _Reads):
            response.__class__ = _guarded_response(response.__class__)
            if response.exchange is not None:
                response.exchange.timeout = asked
        return response

    def _get_conn(self, timeout: float | None = None) -> Any:
        if not self.block or bounding() is None:
            return super()._get_conn(timeout)
        time = clock.current()
        give_up_at = FOREVER if timeout is None else time.now() + timeout
        while True:
            bound = bounding()
            left = give_up_at - time.now()
            if bound is not None:
                left = min(left, bound.deadline - time.now())
            try:
                return super()._get_conn(max(0.0, min(left, _LOOK_UP)))
            except exceptions.EmptyPoolError:
                if left <= _LOOK_UP or (bound is not None and bound.cut_off is not None and bound.cut_off.is_cut):
                    raise

    def _put_conn(self, conn: Any) -> None:
        if isinstance(conn, _Connects) and conn.end_exchange(whole=True):
            conn.close()
            conn = None
        super()._put_conn(conn)


class _Reads(_Response):
    """A response whose reads are cut with the call in which they are made."""

    def read(self, *args: Any, **kwargs: Any) -> bytes:
        read = super().read
        return self._guarded(lambda: read(*args, **kwargs))

    def read1(self, *args: Any, **kwargs: Any) -> bytes:
        read1 = super().read1
        return self._guarded(lambda: read1(*args, **kwargs))

    def read_chunked(self, *args: Any, **kwargs: Any) -> Any:
        chunks: Iterator[bytes] = super().read_chunked(*args, **kwargs)
        try:
            while (chunk := self._guarded(lambda: next(chunks, None))) is not None:
                yield chunk
        finally:
            chunks.close()  # type: ignore[attr-defined] # it is a generator

    @property
    def exchange(self) -> Exchange | None:
        """The exchange that it is the answer of, as long as it holds its connection."""
        return getattr(self._connection, "exchange", None)

    def _guarded(self, operation: Callable[[], V]) -> V:
        exchange = self._joined()
        if exchange is None:
            return operation()
        if not exchange.is_cut:
            try:
                exchange.set_timeout()
                value = operation()
            except Exception as low:
                if exchange.error(ERRORS) is None:
                    raise
                forget(low)
            else:
                if not exchange.is_cut:
                    return value
                # A body without a length looks whole where it was cut.
        self.close()
        error = exchange.error(ERRORS)
        try:
            raise error  # type: ignore[misc] # where it is cut, there is one
        finally:
            del error  # its traceback holds this frame

    def _joined(self) -> Exchange | None:
        connection = self._connection
        if not isinstance(connection, _Connects) or self.closed:
            return None
        if connection.exchange is not None:
            connection.exchange.join()
        elif bounding() is not None:  # it was asked for outside of this call
            connection.exchange = Exchange()
            connection.exchange.hold(self.fileno())
        return connection.exchange


def _seconds(timeout: object) -> float | None:
    """A timeout as urllib3 has it: "the default" is an object."""
    return timeout if isinstance(timeout, int | float | None) else socket.getdefaulttimeout()


@cache
def guarded_pool(pool: type[urllib3.HTTPConnectionPool]) -> type[urllib3.HTTPConnectionPool]:
    """The class of pools whose connections are cut with the call in progress."""
    if issubclass(pool, _Keeps):
        return pool
    members = {"__module__": __name__, "ConnectionCls": _guarded_connection(pool.ConnectionCls)}
    return type(pool.__name__, (_Keeps, pool), members)


@cache
def _guarded_connection(connection: type[Any]) -> type[Any]:
    if not issubclass(connection, http.client.HTTPConnection):  # urllib3 has a stand-in where there is no TLS
        return connection
    return type(connection.__name__, (_Connects, connection), {"__module__": __name__})


@cache
def _guarded_response(response: type[Any]) -> type[Any]:
    return type(response.__name__, (_Reads, response), {"__module__": __name__})
