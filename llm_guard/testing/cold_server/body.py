"""The body of a reply whose length nobody knows when it begins."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from llm_guard.testing.cold_server.dialects import Reply

if TYPE_CHECKING:
    from llm_guard.testing.cold_server.connection import Connection


class Body:
    """Sends the head, then what is written, each piece at once; ends the body unless the block is left by an error."""

    def __init__(self, connection: Connection, reply: Reply) -> None:
        self._connection, self._reply = connection, reply
        # HTTP/1.0 knows no chunks: there the end of the connection is the end of the body.
        self._chunked = connection.request_version != "HTTP/1.0"

    def __enter__(self) -> Self:
        if not self._chunked:
            self._connection.close_connection = True
        self._connection.begin(self._reply, {"Transfer-Encoding": "chunked"} if self._chunked else {})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if kind is None and self._chunked:
            self._connection.wfile.write(b"0\r\n\r\n")

    def write(self, event: bytes) -> None:
        if event:
            self._connection.wfile.write(b"%x\r\n%b\r\n" % (len(event), event) if self._chunked else event)
            self._connection.wfile.flush()
