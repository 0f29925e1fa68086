"""A ready call to a model on HuggingFace's inference API, or on a server that speaks as it does."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from llm_guard.checks import number
from llm_guard.errors import ConfigError
from llm_guard.llm.answers import text_of

if TYPE_CHECKING:
    import requests

BASE: Final = "https://router.huggingface.co/hf-inference"
TIMEOUT: Final = (10.0, 120.0)
_HOSTS = (".huggingface.co", ".huggingface.cloud", ".hf.space")


def huggingface(model: str, *, url: str | None = None, token: str | None = None,
                parameters: Mapping[str, Any] | None = None, session: requests.Session | None = None,
                timeout: float | tuple[float, float] | None = None) -> Callable[[str], str]:
    """A function that sends a prompt to `model` and returns the text of its answer.

    It posts `{"inputs": prompt, "parameters": parameters}` as JSON to `{url}/models/{model}`, where `url` is the base
    of a server, by default HuggingFace's inference API. Each thread has a `requests.Session` of its own, unless
    `session` gives one for all. `timeout` is the longest wait in seconds for a connection and for each read, one number
    for both or a pair; by default 10 and 120.

    `token` goes out as a bearer token. Without it the environment's HF_TOKEN, as it is at each call, goes out to hosts
    of HuggingFace over https alone. A pickled copy leaves `token` behind and uses HF_TOKEN where it wakes up; with a
    `session` the function cannot be pickled.

    A call raises requests' `HTTPError` for a status of 400 and above, requests' other errors where no answer came, and
    `AnswerError` for an answer without a text. Neither the token nor the prompt stays in them. Bad options raise
    `ConfigError`.
    """
    if not isinstance(model, str) or not model.strip("/ "):
        raise ConfigError("model", model, "the name of a model, such as 'gpt2'")
    return _Call(model, _base(url), _checked_token(token), _copied(parameters), session, _pair(timeout))


class _Call:
    """The function that `huggingface` makes."""

    # Slots, so that functools.wraps copies names alone, and no token, into what wraps it.
    __slots__ = ("__dict__", "_local", "_model", "_parameters", "_session", "_timeout", "_token", "_url")

    def __init__(self, model: str, url: str, token: str | None, parameters: dict[str, Any] | None,
                 session: requests.Session | None, timeout: tuple[float, float]) -> None:
        self._model, self._url, self._token = model, url, token
        self._parameters, self._session, self._timeout = parameters, session, timeout
        self._local = threading.local()
        self.__name__ = self.__qualname__ = f"huggingface({model!r})"

    def __call__(self, prompt: str) -> str:
        import requests

        body: dict[str, Any] = {"inputs": prompt}
        if self._parameters:
            body["parameters"] = self._parameters
        token = self._token if self._token is not None else _token_of_environment(self._url)
        try:
            response = self._own_session().post(
                f"{self._url}/models/{quote(self._model, safe='/')}", json=body, timeout=self._timeout,
                auth=None if token is None else _Bearer(token))
            response.raise_for_status()
        except requests.RequestException as error:
            _strip(error)
            raise
        return text_of(response)

    def __repr__(self) -> str:
        return self.__name__

    def __copy__(self) -> _Call:
        return self  # nothing in it changes, and a copy by way of pickle would lose the token

    def __deepcopy__(self, memo: object) -> _Call:
        return self

    def __reduce__(self) -> tuple[type[_Call], tuple[Any, ...]]:
        if self._session is not None:
            raise TypeError(f"{self!r} cannot be pickled: it was given a session")
        return _Call, (self._model, self._url, None, self._parameters, None, self._timeout)

    def _own_session(self) -> requests.Session:
        if self._session is not None:
            return self._session
        # A forked child starts anew: two processes on one socket would mix their answers.
        if getattr(self._local, "process", None) != os.getpid():
            self._local.session, self._local.process = _new_session(), os.getpid()
        session: requests.Session = self._local.session
        return session


class _Bearer:
    """Authorization by token. Given as `auth`, since requests lets a netrc file override a plain header."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _new_session() -> requests.Session:
    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    for scheme in ("https://", "http://"):
        # One thread, one connection. Retries are the guards' business: urllib3 must hide none from them.
        session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=1, max_retries=0))
    return session


def _strip(error: requests.RequestException) -> None:
    """Takes token and prompt out of the requests that an error holds on to."""
    responses = [] if error.response is None else [error.response, *error.response.history]
    for request in [error.request, *(response.request for response in responses)]:
        if request is not None:
            request.headers.pop("Authorization", None)
        if request is not None and hasattr(request, "body"):
            request.body = None


def _token_of_environment(url: str) -> str | None:
    parts = urlsplit(url)
    if parts.scheme != "https" or not f".{parts.hostname}".endswith(_HOSTS):
        return None
    return _checked_token(os.environ.get("HF_TOKEN", "").strip() or None)


def _checked_token(token: str | None) -> str | None:
    # The value stays out of the error: it is a secret. Elsewhere a header that cannot be sent is echoed in full.
    if token is not None and not (isinstance(token, str) and token.isascii() and token.isprintable()
                                  and token and " " not in token):
        raise ConfigError("token", "...", "a word of printable ASCII characters")
    return token


def _base(url: str | None) -> str:
    if url is None:
        return BASE
    allowed = "the base of a server, http(s)://host[:port][/path], without a user, a query or a fragment"
    if not isinstance(url, str):
        raise ConfigError("url", url, allowed)
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        raise ConfigError("url", "...", allowed) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or "?" in url or "#" in url:
        # A user or a query may hold a key.
        raise ConfigError("url", "..." if set(url) & set("@?#") else url, allowed)
    return url.rstrip("/")


def _copied(parameters: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if parameters is None:
        return None
    try:
        copied: dict[str, Any] = json.loads(json.dumps(dict(parameters), allow_nan=False))
    except (TypeError, ValueError):
        raise ConfigError("parameters", type(parameters), "a mapping that can be sent as JSON") from None
    return copied


def _pair(timeout: float | tuple[float, float] | None) -> tuple[float, float]:
    if timeout is None:
        return TIMEOUT
    connect, read = timeout if isinstance(timeout, tuple) and len(timeout) == 2 else (timeout, timeout)
    return number("timeout", connect, above=0, unit="seconds"), number("timeout", read, above=0, unit="seconds")
