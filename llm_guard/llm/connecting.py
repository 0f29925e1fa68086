"""Opens a connection that the call in progress may cut, from before `connect`.

The resolution of host names can't be cut off: that is a blocking call of the system's, with no connection yet. It is
over when the system gives up, and what comes after it is not begun.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from typing import Any

from llm_guard.llm.exchange import Exchange, at_most

_UNDER_WAY = {errno.EINPROGRESS, errno.EWOULDBLOCK}


def connect(exchange: Exchange, host: str, port: int | None, *, timeout: float | None, family: int = socket.AF_UNSPEC,
            source: tuple[str, int] | None = None, options: Iterable[Any] = ()) -> socket.socket:
    """As `socket.create_connection` does, with each socket registered before it connects.

    `timeout` in seconds, for each address; None: as long as the call lasts. `options` are given to `setsockopt`.
    Raises the last address's `OSError`.
    """
    last: OSError | None = None
    for its_family, kind, protocol, _, address in socket.getaddrinfo(host, port, family, socket.SOCK_STREAM):
        if exchange.is_cut:
            break
        line = socket.socket(its_family, kind, protocol)
        try:
            for option in options:
                line.setsockopt(*option)
            if source:
                line.bind(source)
            exchange.hold(line.fileno())
            _connect(exchange, line, address, at_most(timeout, exchange.left()))
            line.settimeout(timeout)
            return line
        except OSError as error:
            last = error
            line.close()
        except BaseException:
            line.close()
            raise
    try:
        raise last or OSError(errno.ECONNABORTED, "no connection was made")
    finally:
        last = None  # its traceback holds this frame


def _connect(exchange: Exchange, line: socket.socket, address: Any, timeout: float | None) -> None:
    from urllib3.util.wait import wait_for_write

    line.settimeout(0)
    code = line.connect_ex(address)
    if exchange.is_cut:  # perhaps before there was anything to shut down
        code = errno.ECONNABORTED
    elif code in _UNDER_WAY:
        if not wait_for_write(line, timeout):
            raise TimeoutError("timed out")
        code = line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
