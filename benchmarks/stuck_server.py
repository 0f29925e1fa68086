"""The server of `cut_off.py`, in a process of its own: answers some requests, and leaves the others hanging.

It prints a line of JSON with its ports, and ends when its standard input does. `/answer` answers after 20 ms. `/drip`
sends a byte each 100 ms for a minute, `/silent` sends no header, `/stall` half a body, `/upload` reads no body; the
port "mute" takes connections and says nothing. `/stats` tells how many connections are open, and how many slots are
busy: requests, or handshakes, that it still works on, for as long as it believes that the client is there.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import sys
from asyncio import StreamReader, StreamWriter
from contextlib import suppress

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
LIFE = 60.0


class Server:
    """Counts what is open and what is busy, of all its ports; those who ask for the counts are left out."""

    def __init__(self) -> None:
        self.open = self.busy = 0

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection."""
        self.open += 1
        asks_for_counts = False
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ", 2)[1]
                if path == b"/stats":
                    if not asks_for_counts:
                        asks_for_counts = True
                        self.open -= 1
                    body = json.dumps({"open": self.open, "busy": self.busy}).encode()
                    writer.write(OK + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
                    continue
                self.busy += 1
                try:
                    await self._answer(path, reader, writer)
                finally:
                    self.busy -= 1
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= not asks_for_counts
            writer.close()

    async def mute(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection to whom nothing is said."""
        self.open += 1
        self.busy += 1
        try:
            with suppress(OSError):
                while await reader.read(65536):
                    pass
        finally:
            self.open -= 1
            self.busy -= 1
            writer.close()

    async def _answer(self, path: bytes, reader: StreamReader, writer: StreamWriter) -> None:
        if path == b"/answer":
            await asyncio.sleep(0.02)
            writer.write(OK + b"Content-Length: 2\r\n\r\nok")
            return
        if path == b"/upload":
            line: socket.socket = writer.get_extra_info("socket")
            for _ in range(round(LIFE / 0.05)):
                await asyncio.sleep(0.05)
                if line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    break
            raise ConnectionResetError
        gone = asyncio.ensure_future(reader.read(1))
        try:
            if path == b"/stall":
                writer.write(OK + b"Content-Length: 1000\r\n\r\nabc")
            elif path == b"/drip":
                writer.write(OK + b"Connection: close\r\n\r\n")
            for _ in range(round(LIFE / 0.1)):
                await asyncio.wait([gone], timeout=0.1)
                if gone.done():
                    break
                if path == b"/drip":
                    writer.write(b"x")
                    await writer.drain()
        finally:
            gone.cancel()
        raise ConnectionResetError


async def main() -> None:
    """Serves until standard input ends; its first line is the file of a certificate with its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.stdin.readline().strip())
    server = Server()
    ports = {}
    for name, serve, tls in (("http", server.serve, None), ("https", server.serve, context),
                             ("mute", server.mute, None)):
        listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, backlog=1024)
        ports[name] = listener.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
