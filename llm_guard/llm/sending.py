"""Posts the requests of a ready call function: a session for each thread, the key, and errors without secrets."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from llm_guard.llm.bodies import read
from llm_guard.llm.options import secret

if TYPE_CHECKING:
    import requests

_MOST_ERROR: Final = 64 * 1024  # bytes of what a server says instead of a stream
_BEARER: Final = "Authorization"


class Provider(NamedTuple):
    """Where an API is, in which `header` it takes its key, and which `headers` go along with every call.

    The environment's `variable` goes out over https to hosts whose names end in one of `hosts`, and to no other.
    """

    name: str
    base: str
    variable: str
    hosts: tuple[str, ...]
    header: str = _BEARER
    headers: tuple[tuple[str, str], ...] = ()


class Sender:
    """Posts JSON to one server."""

    def __init__(self, provider: Provider, url: str, key: str | None, session: requests.Session | None,
                 timeout: tuple[float, float]) -> None:
        self._provider, self._url, self._key, self._session, self._timeout = provider, url, key, session, timeout
        self._local = threading.local()

    @property
    def parts(self) -> tuple[Provider, str, None, None, tuple[float, float]]:
        """What another process makes one like it of: without the key. TypeError where it was given a session."""
        if self._session is not None:
            raise TypeError(f"a call to {self._provider.name} cannot be pickled: it was given a session")
        return self._provider, self._url, None, None, self._timeout

    def post(self, path: str, body: Mapping[str, Any], *, stream: bool) -> requests.Response:
        """The response, its status below 400; else requests' errors. With `stream` its body is not read yet."""
        import requests

        key = self._found_key()
        header = self._provider.header
        try:
            response = self._own_session().post(
                self.url(path), json=body, headers=dict(self._provider.headers), timeout=self._timeout, stream=stream,
                auth=None if key is None else _Key(header, key), allow_redirects=header == _BEARER)
            if response.is_redirect and header != _BEARER:
                raise requests.exceptions.InvalidURL("the server redirects, which is not followed: the key would go "
                                                     "along", response=response)
            if stream and response.status_code >= 400:
                read(response, _MOST_ERROR)  # so that the guards can
            response.raise_for_status()
        except requests.RequestException as error:
            self.strip(error)
            raise
        return response

    def url(self, path: str) -> str:
        """Where it posts to."""
        return self._url + path

    def header_names(self) -> tuple[str, ...]:
        """The headers that it sets beside those of requests."""
        own = tuple(name for name, _ in self._provider.headers)
        return ("Content-Type", *own, *(() if self._found_key() is None else (self._provider.header,)))

    def strip(self, error: requests.RequestException) -> None:
        """Takes key and prompt out of the requests that an error holds on to."""
        responses = [] if error.response is None else [error.response, *error.response.history]
        followers = [response.next for response in responses]  # where a redirect was to go
        for request in [error.request, *(response.request for response in responses), *followers]:
            if request is not None:
                request.headers.pop(self._provider.header, None)
            if request is not None and hasattr(request, "body"):
                request.body = None

    def _found_key(self) -> str | None:
        return self._key if self._key is not None else self._key_of_environment()

    def _key_of_environment(self) -> str | None:
        parts = urlsplit(self._url)
        if parts.scheme != "https" or not f".{parts.hostname}".endswith(self._provider.hosts):
            return None
        return secret(self._provider.variable, os.environ.get(self._provider.variable, "").strip() or None)

    def _own_session(self) -> requests.Session:
        if self._session is not None:
            return self._session
        # A forked child starts anew: two processes on one socket would mix their answers.
        if getattr(self._local, "process", None) != os.getpid():
            self._local.session, self._local.process = _new_session(), os.getpid()
        session: requests.Session = self._local.session
        return session


class _Key:
    """Given as `auth`, since requests lets a netrc file override a plain header, and sends none to another host."""

    def __init__(self, header: str, key: str) -> None:
        self._header, self._value = header, f"Bearer {key}" if header == _BEARER else key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[self._header] = self._value
        return request


def _new_session() -> requests.Session:
    import requests

    from llm_guard.llm.session import Adapter

    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, Adapter(pool_connections=1, pool_maxsize=1))  # one thread, one connection
    return session
