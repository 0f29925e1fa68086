"""One connection of the server: requests in, replies out, kept alive between them."""

from __future__ import annotations

import json
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

from llm_guard.testing.cold_server.dialects import BadRequest, Dialect, HuggingFace, OpenAI, Reply
from llm_guard.testing.server import Reason
from llm_guard.testing.virtual_server import ServerFailed, ServerRefused

if TYPE_CHECKING:
    from llm_guard.testing.cold_server.server import Listener

_MOST_BYTES = 1 << 20
_MODELS = "/models/"
_CHAT = "/v1/chat/completions"


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
            reply = self._answer(dialect, raw)
            if reply is None:
                self.close_connection = True
            else:
                self._send(reply, cut_off=reply.status == 200 and self.server.breaks())

    def _dialect(self, path: str) -> Dialect | None:
        if path == _CHAT:
            return OpenAI()
        if path.startswith(_MODELS) and len(path) > len(_MODELS):
            return HuggingFace(unquote(path[len(_MODELS):]), self.server.mixed_shapes)
        return None

    def _answer(self, dialect: Dialect, raw: bytes) -> Reply | None:
        """None: the line breaks without a word."""
        try:
            prompt = dialect.prompt(json.loads(raw))
        except BadRequest as bad:
            return bad.reply
        except (ValueError, RecursionError):
            return dialect.bad_request(400, "the body is not valid JSON")
        try:
            text = self.server.model.call(prompt)
            return _telling(dialect, dialect.answer(prompt, text), text)
        except ServerFailed as failed:
            return _telling(dialect, dialect.failure(), failed)
        except ServerRefused as refused:
            if refused.reason is Reason.CONNECTION:
                return None
            return _telling(dialect, dialect.refusal(refused.reason, refused.hint, refused.tells_growth), refused)

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
        self.send_response(reply.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

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
    return replace(reply, headers={**reply.headers, **dialect.left(remaining, reset)})
