"""Who may look, and whose hand is on the button."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

from llm_guard import checks, clock
from llm_guard.errors import ConfigError
from llm_guard.web.status.message import Request

SESSION, FORM = "llm_guard_status", "llm_guard_form"
#: How long a sign-in lasts, in seconds.
LASTS = 12 * 3600
#: A token is not guessed in a lifetime; a shorter one may be.
SHORTEST = 16


class Access:
    """By the token (as a bearer, or in a cookie that was signed for it), or by the login of the framework.

    Nothing signed holds the token. Signatures of one process hold in another where both have the token or the secret.
    """

    def __init__(self, token: str | None, allowed: Callable[[Any], object] | None, secret: str | bytes | None) -> None:
        if token is None and allowed is None:
            raise ConfigError("token", None, f"a text of at least {SHORTEST} characters, where allowed= is not given: "
                                             "the status page is never open to everybody")
        checked_token("token", token)
        if allowed is not None:
            checks.function("allowed", allowed, "a function from a request to whether its user may look")
        if secret is not None and (not isinstance(secret, str | bytes) or not secret):
            raise ConfigError("secret", type(secret).__name__, "a text or bytes, not empty")
        self._token = None if token is None else _digest(token)
        self._allowed = allowed
        given = secret.encode() if isinstance(secret, str) else secret
        base = [part for part in (given, None if token is None else token.encode()) if part] or [os.urandom(32)]
        self._key = hashlib.sha256(b"llm_guard status\0" + b"\0".join(base)).digest()

    @property
    def has_token(self) -> bool:
        """Whether there is something to sign in with."""
        return self._token is not None

    def way_in(self, request: Request) -> str | None:
        """How this visitor gets in: "bearer", "cookie" or "login". None: not at all."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.fits(_as_sent(given.strip())):
            return "bearer"
        if self._token is not None and self._is_session(request.cookie(SESSION)):
            return "cookie"
        if self._allowed is not None and self._allowed(request.native) is True:
            return "login"
        return None

    def fits(self, token: str) -> bool:
        """Whether that is the token; takes as long for each."""
        return self._token is not None and hmac.compare_digest(_digest(token), self._token)

    def session(self, request: Request) -> str:
        """The header that keeps the visitor signed in."""
        until = str(int(clock.current().wall()) + LASTS)
        return _cookie(SESSION, f"{until}.{self._sign('session', until)}", request, LASTS)

    def no_session(self, request: Request) -> str:
        """The header that signs the visitor out."""
        return _cookie(SESSION, "", request, 0)

    def form_key(self, request: Request) -> tuple[str, str]:
        """What must come with each press of a button, and the header of the cookie that it belongs to."""
        nonce = request.cookie(FORM)
        if nonce is None or len(nonce) != 32 or not nonce.isalnum():
            nonce = os.urandom(16).hex()
        return self._sign("form", nonce), _cookie(FORM, nonce, request, LASTS)

    def is_own_form(self, request: Request, way: str) -> bool:
        """Whether the page itself sent it, and not another site in its visitor's name."""
        if way == "bearer":  # which no browser adds by itself
            return True
        key = request.headers.get("x-form-key", "")
        nonce = request.cookie(FORM) or ""
        return same_origin(request) and hmac.compare_digest(key.encode(), self._sign("form", nonce).encode())

    def _is_session(self, value: str | None) -> bool:
        until, _, signature = (value or "").partition(".")
        return (hmac.compare_digest(signature.encode(), self._sign("session", until).encode())
                and until.isascii() and until.isdigit() and clock.current().wall() < int(until))

    def _sign(self, what: str, value: str) -> str:
        return hmac.digest(self._key, f"{what}\0{value}".encode(), "sha256").hex()


def checked_token(name: str, token: object) -> str | None:
    """The token, if it is one, or none; the ConfigError does not show it."""
    if token is None or (isinstance(token, str) and len(token) >= SHORTEST and token == token.strip()):
        return token
    shown = f"a text of {len(token)} characters" if isinstance(token, str) else type(token).__name__
    raise ConfigError(name, shown, f"a text of at least {SHORTEST} characters, without spaces or line ends around it, "
                                   "such as secrets.token_urlsafe() makes")


def same_origin(request: Request) -> bool:
    """By what browsers tell, and only they: where neither is there it is not."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    try:
        origin = urlsplit(request.headers.get("origin", "")).netloc
    except ValueError:  # no browser's
        return False
    return bool(origin) and origin.lower() == request.host.lower()


def _as_sent(header: str) -> str:
    """Servers read headers as Latin-1; programs send UTF-8."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _cookie(name: str, value: str, request: Request, seconds: int) -> str:
    only = "; Secure" if request.secure else ""
    return f"{name}={value}; Path={quote(request.root)}/; Max-Age={seconds}; HttpOnly; SameSite=Strict{only}"
