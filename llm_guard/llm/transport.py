"""For clients of httpx, such as those of openai, anthropic and huggingface_hub: requests that end with their call.

    client = openai.OpenAI(max_retries=0, http_client=httpx_client())
    huggingface_hub.set_client_factory(httpx_client)

httpx is `httpx` or its successor `httpx2`, whichever the client is built on. Both speak HTTP over connections of
httpcore, which takes what opens its sockets as a part: here they are `exchange`s.
"""

from __future__ import annotations

import logging
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from llm_guard import call, clock
from llm_guard.errors import ConfigError
from llm_guard.llm.exchange import at_most, bounding, error_of, forget

LIBRARIES = ("httpx2", "httpx")
#: A limit on connections below what guards let through would only hide their waits.
_LIMITS = {"max_connections": 1000, "max_keepalive_connections": 100}

_log = logging.getLogger("llm_guard")


def httpx_transport(library: ModuleType | None = None, **options: Any) -> Any:
    """A transport for a client of one's own: `httpx.Client(transport=httpx_transport(httpx))`.

    A request that a guarded function makes is cut off at the deadline of the call in progress, and when that call is
    given up, as `Adapter` has it; its thread sees an error that is both a `CallTimeout` and a `TimeoutException` of
    httpx, or a `Cancelled` and a `NetworkError`. It speaks HTTP/1.1, since a connection of HTTP/2 is shared by calls.

    `library` is the module `httpx` or `httpx2` that the client is of, by default `httpx2` where that is installed;
    `options` are those of its `HTTPTransport`. Note that a client with a transport of its own heeds no proxies of the
    environment: `httpx_client` does.
    """
    guarded = _guarded(_named(library))
    _check(options)
    return guarded(**options)


def httpx_client(library: ModuleType | None = None, **options: Any) -> Any:
    """An httpx client whose requests end with their call: see `httpx_transport`.

    `options` are those of its `Client`; redirects are followed, as the clients of LLM APIs have it, and there may be
    many connections, unless they say otherwise. A client that is given it should not try again by itself, for two
    layers of retries multiply, and such a retry is asleep when its call is over: `OpenAI(max_retries=0, ...)`. Where
    one does so in a guarded call, a warning in the log names it.
    """
    name = _named(library)
    guarded = _guarded(name)
    _check(options)
    if "transport" in options:
        raise ConfigError("transport", options["transport"], "left out: the client gets one of its own")
    found = import_module(name)
    client = found.Client(**{"follow_redirects": True, "limits": found.Limits(**_LIMITS), **options})
    for transport in (client._transport, *client._mounts.values()):
        if type(transport) is found.HTTPTransport:
            transport.__class__ = guarded
            transport.guard()
    return client


def _named(library: ModuleType | None) -> str:
    if library is None:
        for name in LIBRARIES:
            if name in sys.modules or find_spec(name) is not None:
                return name
        raise ModuleNotFoundError("neither httpx2 nor httpx is installed: pip install 'llm-guard-flow[httpx]'")
    name = getattr(library, "__name__", "")
    if name not in LIBRARIES:
        raise ConfigError("library", library, "the module httpx or httpx2")
    return name


def _check(options: dict[str, Any]) -> None:
    if options.get("http2") or not options.get("http1", True):
        raise ConfigError("http2", True, "False: a connection of HTTP/2 is shared by calls, and can't be cut for one")
    if options.get("retries"):
        raise ConfigError("retries", options["retries"], "0: @retry tries again, and two layers of retries multiply")


@cache
def _guarded(name: str) -> type[Any]:
    """The class of guarded transports, of either library."""
    from llm_guard.llm.sockets import Backend, Line
    from llm_guard.llm.transport_errors import errors_of

    library, errors = import_module(name), errors_of(name)

    class Body(library.SyncByteStream):  # type: ignore[name-defined, misc] # of either library
        """A response's body; its connection is let go of before it can be another call's."""

        def __init__(self, stream: Any, line: Line) -> None:
            self._stream, self._line = stream, line

        def __iter__(self) -> Any:
            try:
                yield from self._stream
                return
            except Exception as low:
                error = self._line.error(errors)
                if error is None:
                    raise
                forget(low)
            try:
                raise error
            finally:
                del error  # its traceback holds this frame

        def close(self) -> None:
            self._line.let_go()
            self._stream.close()

    class GuardedTransport(library.HTTPTransport):  # type: ignore[name-defined, misc]
        """See `httpx_transport`."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.guard()

        def guard(self) -> None:
            """Has the sockets opened here."""
            self._warned = False
            self._pool._network_backend = Backend(name.replace("httpx", "httpcore"), self._pool._network_backend)

        def handle_request(self, request: Any) -> Any:
            if not isinstance(request, library.Request):
                raise ConfigError("library", library, f"that of the client, {type(request).__module__.split('.')[0]}")
            bound, began = bounding(), clock.current().now()
            error = error_of(bound, began, errors)
            if error is None:
                self._warn_of_retries(request)
                asked = request.extensions
                try:
                    if bound is not None:  # also a wait for a place among the connections
                        timeout = asked.get("timeout", {})
                        pool = at_most(timeout.get("pool"), max(0.0, bound.deadline - began))
                        request.extensions = {**asked, "timeout": {**timeout, "pool": pool}}
                    response = super().handle_request(request)
                except Exception as low:
                    error = error_of(bound, began, errors)
                    if error is None:
                        raise
                    forget(low)
                else:
                    line = response.extensions.get("network_stream")
                    if isinstance(line, Line):
                        response.stream = Body(response.stream, line)
                    in_progress = call.in_progress()
                    if in_progress is not None:
                        in_progress.heard = response
                    return response
                finally:
                    request.extensions = asked
            try:
                raise error
            finally:
                del error  # its traceback holds this frame

        def _warn_of_retries(self, request: Any) -> None:
            count = request.headers.get("x-stainless-retry-count", "0")  # as openai and anthropic tell it
            if count != "0" and not self._warned and call.in_progress() is not None:
                self._warned = True
                client = request.headers.get("user-agent", "").partition("/")[0] or "an API's client"
                _log.warning("%s tries again by itself inside a guarded call: make it with max_retries=0, @retry tries "
                             "again", client)

    return GuardedTransport
