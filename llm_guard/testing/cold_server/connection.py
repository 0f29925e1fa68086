"""One connection of the server: requests in, replies and streams out, kept alive between them."""

from __future__ import annotations

import json
import selectors
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from itertools import chain
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from llm_guard.testing.cold_server.body import Body
from llm_guard.testing.cold_server.dialects import BadRequest, Dialect, Question, Reply, dialect_of
from llm_guard.testing.server import Reason
from llm_guard.testing.virtual_server import CallerGone, ServerFailed, ServerRefused

if TYPE_CHECKING:
    from llm_guard.testing.cold_server.server import Listener

_MOST_BYTES = 1 << 20


class Connection(BaseHTTPRequestHandler):
    """Runs in a thread of its own until the client goes away."""

    server: Listener
    protocol_version = "HTTP/1.1"
    server_version = "cold-server"
    sys_version = ""
    wbufsize = -1  # head and body leave together
    disable_nagle_algorithm = True
    timeout = 120.0  # seconds without a byte

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/stats":
            timeline = parse_qs(query).get("timeline", ["0"])[-1] not in ("", "0", "false")
            self._send(Reply(200, self.server.stats(timeline)))
        elif self._dialect(path) is not None:
            self._send(Reply(405, {"error": "Method Not Allowed"}, {"Allow": "POST"}))
        else:
            self._send(Reply(404, {"error": "Not Found"}))

    def do_POST(self) -> None:
        dialect = self._dialect(self.path.partition("?")[0])
        raw = self._body()
        if isinstance(raw, Reply):
            # The rest of such a request cannot be told from the next one.
            self.close_connection = True
            self._send(raw)
        elif dialect is None:
            self._send(Reply(404, {"error": "Not Found"}))
        else:
            self._answer(dialect, raw)

    def _dialect(self, path: str) -> Dialect | None:
        return dialect_of(path, self.server.api, self.server.mixed_shapes)

    def _answer(self, dialect: Dialect, raw: bytes) -> None:
        endpoint, words = dialect
        try:
            question = endpoint.read(json.loads(raw))
        except BadRequest as bad:
            self._send(words.bad_request(bad.status, bad.message))
            return
        except (ValueError, RecursionError):
            self._send(words.bad_request(400, "the body is not valid JSON"))
            return
        try:
            (self._stream if question.streams else self._reply)(dialect, question)
        except ServerFailed as failed:
            self._send(_telling(dialect, words.failure(), failed))
        except ServerRefused as refused:
            if refused.reason is Reason.CONNECTION:
                self.close_connection = True  # without a word
            else:
                said = words.refusal(refused.reason, refused.hint, refused.tells_growth, question.model)
                self._send(_telling(dialect, said, refused))
        except CallerGone:
            self.close_connection = True

    def _reply(self, dialect: Dialect, question: Question) -> None:
        text = self.server.model.call(question.prompt, gone=self._watch())
        self._send(_telling(dialect, dialect.endpoint.answer(question, text), text), cut_off=self.server.breaks())

    def _stream(self, dialect: Dialect, question: Question) -> None:
        """An error after the first token is told in the stream; those before it are left to the caller."""
        endpoint, words = dialect
        model = self.server.model
        with closing(model.stream(question.prompt, most=question.most, gone=self._watch())) as tokens:
            first = next(tokens)
            delivered, sent, muted, breaks = 0, 0, False, self.server.breaks()

            def counted() -> Iterator[str]:
                nonlocal delivered
                for token in chain([first], tokens):
                    delivered += 1
                    yield token

            reply = _telling(dialect, Reply(200, None, {"Content-Type": endpoint.stream_type}), first)
            with Body(self, reply) as body:
                try:
                    for event in endpoint.events(question, counted()):
                        if self._is_gone():
                            raise CallerGone
                        sent += 1
                        if muted:
                            continue
                        muted = breaks and delivered > 1  # in the midst of an event, and nothing after it
                        body.write(event[:len(event) // 2] if muted else event)
                except ServerFailed:
                    if not muted:
                        body.write(endpoint.broken_off(question, words.failure().body, sent))

    def _watch(self) -> Callable[[], bool] | None:
        return self._is_gone if self.server.cancels else None

    def _is_gone(self) -> bool:
        """Whether the client has closed its end."""
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self.connection, selectors.EVENT_READ)
                return bool(selector.select(0)) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def _body(self) -> bytes | Reply:
        if "Transfer-Encoding" in self.headers:
            return Reply(411, {"error": "Length Required"})
        told = self.headers.get("Content-Length", "0")
        if not (told.isascii() and told.isdecimal() and len(told) < 16):
            return Reply(400, {"error": "Bad Content-Length"})
        length = int(told)
        if length <= _MOST_BYTES:
            return self.rfile.read(length)
        # A client reads the reply only when it has sent all; what is far too long is cut off.
        left = min(length, 16 * _MOST_BYTES)
        while left > 0 and (read := len(self.rfile.read(min(left, 1 << 16)))):
            left -= read
        return Reply(413, {"error": f"The body has more than {_MOST_BYTES} bytes"})

    def _send(self, reply: Reply, *, cut_off: bool = False) -> None:
        body = json.dumps(reply.body).encode()
        if cut_off:
            body = body[:len(body) // 2]
        self.begin(reply, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def begin(self, reply: Reply, headers: Mapping[str, str]) -> None:
        """Sends the status and all headers."""
        self.send_response(reply.status)
        for name, value in {**headers, **reply.headers}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class finds wrong with a request, as JSON."""
        self.close_connection = True
        self._send(Reply(code, {"error": message or self.responses.get(code, ("Error",))[0]}))

    def log_message(self, format: str, *args: object) -> None:
        """Stays quiet: what happened is in the stats."""


def _telling(dialect: Dialect, reply: Reply, end: object) -> Reply:
    """The reply, with what the end of the call tells that the account has left."""
    remaining, reset = getattr(end, "remaining", None), getattr(end, "reset", None)
    if remaining is None or reset is None:
        return reply
    return replace(reply, headers={**reply.headers, **dialect.words.left(remaining, reset)})
