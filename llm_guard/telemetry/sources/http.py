"""JSON over HTTP from a server of metrics, by the standard library alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from llm_guard import checks
from llm_guard.errors import ConfigError
from llm_guard.telemetry.measure import NoMeasure

#: Bytes of an answer: one value needs no more.
MOST = 1 << 20


class _NoRedirect(HTTPRedirectHandler):
    """What authorizes is for the server that was named, and for no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


class JsonServer:
    """A server that answers GET requests in JSON. ConfigError for what cannot be one; its secrets are shown nowhere."""

    def __init__(self, url: str, timeout: float, headers: Mapping[str, str] | None,
                 auth: tuple[str, str] | None) -> None:
        allowed = "an address that begins with http:// or https://, without query, user and password (give auth=)"
        try:
            parts = urlsplit(url)
            wrong = (parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc
                     or parts.port == 0 or bool(parts.query or parts.fragment))
        except (ValueError, AttributeError, TypeError):
            wrong = True
        if wrong:
            raise ConfigError("url", url if isinstance(url, str) and not set("@?#") & set(url) else "<hidden>", allowed)
        self._url = url.rstrip("/")
        self.timeout = checks.number("timeout", timeout, above=0, unit="seconds")
        self._headers = {"Accept": "application/json", **_headers(headers)}
        if auth is not None:
            if not (isinstance(auth, tuple) and len(auth) == 2 and all(isinstance(part, str) for part in auth)):
                raise ConfigError("auth", "<hidden>", "a pair of texts, the user and the password")
            self._headers["Authorization"] = "Basic " + base64.b64encode(":".join(auth).encode()).decode()
        self._opener = build_opener(_NoRedirect)

    def get(self, path: str, **parameters: str) -> Any:
        """The JSON behind `path`; NoMeasure where there is none, with a reason that can be shown."""
        request = Request(f"{self._url}{path}?{urlencode(parameters)}", headers=self._headers)
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                body = response.read(MOST + 1)
        except HTTPError as error:
            with error:
                raise NoMeasure(f"HTTP {error.code}") from None
        except TimeoutError:
            raise NoMeasure(f"no answer within {self.timeout:g} s") from None
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None)
            cause = reason if isinstance(reason, Exception) else error
            raise NoMeasure(f"no answer ({type(cause).__name__})") from None
        if len(body) > MOST:
            raise NoMeasure(f"an answer of more than {MOST} bytes")
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise NoMeasure("an answer that is not JSON") from None


def _headers(given: Mapping[str, str] | None) -> dict[str, str]:
    """Checked here, for what a library says of a wrong one may quote it."""
    found = dict(given or {})
    for name, value in found.items():
        if not (isinstance(name, str) and isinstance(value, str) and name and name.isascii()
                and not any(sign in name + value for sign in "\r\n")):
            raise ConfigError("headers", "<hidden>", "texts without line breaks, by name")
    return found
