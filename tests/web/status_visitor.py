"""Somebody who visits a status site: keeps its cookies, and sends what a browser sends."""

from __future__ import annotations

import json
import re
from typing import Any

from llm_guard.web.status import Request, Response, Site

TOKEN = "a token of more than sixteen characters"
HOST = "guard.example"


class Visitor:
    """`get` and `post` as the page itself would; headers given take the place of those, None leaves one out."""

    def __init__(self, site: Site, *, native: object = None, root: str = "/guard", secure: bool = False) -> None:
        self.site = site
        self.cookies: dict[str, str] = {}
        self._native = native
        self._root = root
        self._secure = secure

    def ask(self, method: str, path: str, body: bytes = b"", query: str = "", **headers: str | None) -> Response:
        sent = {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
                **{name.replace("_", "-"): value for name, value in headers.items() if value is not None}}
        response = self.site.respond(Request(method, path, self._root, sent, query, body, HOST, self._secure,
                                             self._native))
        for name, value in response.headers:
            if name == "Set-Cookie":
                key, _, rest = value.partition("=")
                self.cookies[key] = rest.partition(";")[0]
        return response

    def get(self, path: str, query: str = "", **headers: str | None) -> Response:
        return self.ask("GET", path, b"", query, **headers)

    def post(self, path: str, body: bytes, **headers: str | None) -> Response:
        return self.ask("POST", path, body, **{"origin": f"https://{HOST}"} | headers)

    def sign_in(self, token: str = TOKEN, **headers: str | None) -> Response:
        return self.post("/sign-in", f"token={token.replace(' ', '+')}".encode(), **headers)

    def key(self) -> str:
        """What the page gives its buttons."""
        found = re.search(r'name="form-key" content="(\w+)"', self.get("/").body.decode())
        assert found
        return found[1]

    def act(self, **asked: Any) -> Response:
        return self.post("/act", json.dumps(asked).encode(), x_form_key=self.key())

    def status(self, query: str = "") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/status.json", query).body)
        return found


def header(response: Response, name: str) -> str | None:
    return next((value for key, value in response.headers if key == name), None)
