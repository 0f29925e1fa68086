"""urllib3's pools and responses, whose requests and reads are cut with the call in progress: see `connections`.

Classes are made from those that a pool manager has, so that a user's own are guarded too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import urllib3
from urllib3 import exceptions

from llm_guard import clock
from llm_guard.call import FOREVER
from llm_guard.llm.connections import GuardedConnection, guarded_connection, seconds_of
from llm_guard.llm.exchange import Exchange, at_most, bounding, forget
from llm_guard.llm.request_errors import ERRORS

if TYPE_CHECKING:
    _Pool = urllib3.HTTPConnectionPool
    _Response = urllib3.HTTPResponse
else:
    _Pool = _Response = object

V = TypeVar("V")

#: A wait for a place in a full pool looks up so often, in seconds, whether its call was given up.
_LOOK_UP = 0.1


class _GuardedPool(_Pool):
    """A pool. What was cut does not come back to it, and waits in it are bounded by the call."""

    def urlopen(self, *args: Any, **kwargs: Any) -> Any:
        bound = bounding()
        asked = None
        if bound is not None:
            timeout = self._get_timeout(kwargs.get("timeout", self.timeout))  # a copy
            total = seconds_of(timeout.total)
            asked = seconds_of(timeout.read_timeout) if total is None else total
            timeout.total = at_most(total, max(0.0, bound.deadline - clock.current().now()))
            kwargs["timeout"] = timeout
        response: Any = super().urlopen(*args, **kwargs)
        if not isinstance(response, _GuardedResponse):
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
        if isinstance(conn, GuardedConnection) and conn.end_exchange(whole=True):
            conn.close()
            conn = None
        super()._put_conn(conn)


class _GuardedResponse(_Response):
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
        if not isinstance(connection, GuardedConnection) or self.closed:
            return None
        if connection.exchange is not None:
            connection.exchange.join()
        elif bounding() is not None:  # it was asked for outside of this call
            connection.exchange = Exchange()
            connection.exchange.hold(self.fileno())
        return connection.exchange


@cache
def guarded_pool(pool: type[urllib3.HTTPConnectionPool]) -> type[urllib3.HTTPConnectionPool]:
    """The class of pools whose connections are cut with the call in progress."""
    if issubclass(pool, _GuardedPool):
        return pool
    members = {"__module__": __name__, "ConnectionCls": guarded_connection(pool.ConnectionCls)}
    return type(pool.__name__, (_GuardedPool, pool), members)


@cache
def _guarded_response(response: type[Any]) -> type[Any]:
    return type(response.__name__, (_GuardedResponse, response), {"__module__": __name__})
