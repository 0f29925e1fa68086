"""urllib3's connections, with each request on one an `Exchange` that the call in progress may cut.

The class is made from the one that a pool has, so that those for SOCKS proxies, and a user's own, are guarded too.
Where no call bounds the request, nothing is added to what urllib3 does. For urllib3 1.26 and 2.
"""

from __future__ import annotations

import errno
import http.client
import socket
import sys
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from urllib3 import exceptions
from urllib3.connection import HTTPConnection
from urllib3.util.connection import allowed_gai_family

from llm_guard.llm.connecting import connect
from llm_guard.llm.exchange import Exchange, bounding

if TYPE_CHECKING:
    _Connection = HTTPConnection
else:
    _Connection = object

_NO_NAME = getattr(exceptions, "NameResolutionError", None)  # 1.26 has none of its own


class GuardedConnection(_Connection):
    """A connection; its exchange lasts from `connect`, or a request on it, until it is closed or put back."""

    exchange: Exchange | None = None
    _hands_over = False

    def _joined(self) -> Exchange | None:
        """The exchange under way, registered with the call in progress; None where nothing bounds that."""
        if self.exchange is not None:
            self.exchange.join()
        elif bounding() is not None:
            self.exchange = Exchange()
            if self.sock is not None:
                self.exchange.hold(self.sock.fileno())
        return self.exchange

    def _new_conn(self) -> socket.socket:
        exchange = self._joined()
        if exchange is None:
            return super()._new_conn()
        if super()._new_conn.__func__ is not HTTPConnection._new_conn:  # type: ignore[attr-defined] # one by SOCKS
            line = super()._new_conn()
            exchange.hold(line.fileno())
            return line
        host: str = self._dns_host
        timeout = seconds_of(self.timeout)
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
        self._joined()
        super().request(*args, **kwargs)

    def request_chunked(self, *args: Any, **kwargs: Any) -> None:
        self._joined()
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


@cache
def guarded_connection(connection: type[Any]) -> type[Any]:
    """The class of connections that are cut with the call in progress."""
    if not issubclass(connection, http.client.HTTPConnection):  # urllib3 has a stand-in where there is no TLS
        return connection
    return type(connection.__name__, (GuardedConnection, connection), {"__module__": __name__})


def seconds_of(timeout: object) -> float | None:
    """A timeout as urllib3 has it: "the default" is an object."""
    return timeout if isinstance(timeout, int | float | None) else socket.getdefaulttimeout()
