"""A `requests.Session` whose requests end when the call that makes them is over, and an adapter for one's own."""

from __future__ import annotations

from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry
from urllib3.exceptions import HTTPError

from llm_guard import call, clock
from llm_guard.errors import ConfigError
from llm_guard.llm.exchange import bounding, error_of, forget
from llm_guard.llm.pools import guarded_pool
from llm_guard.llm.request_errors import ERRORS


class Adapter(HTTPAdapter):
    """To mount on a `requests.Session` of one's own: `session.mount("https://", Adapter())`.

    A request that a guarded function makes registers its connection with the call in progress. Connect and read
    timeouts never exceed what is left of the call's deadline; at the deadline, and when the call is given up, the
    connection is shut down from outside, so that whatever is blocked on it ends at once: `connect`, a TLS handshake, a
    body that drips, a stream, an upload. A thread in which a request then goes on sees `RequestTimeout` (a
    `CallTimeout` and requests' `Timeout`) or `RequestCancelled` (a `Cancelled` and requests' `ConnectionError`). Only
    the resolution of a host's name can't be cut. A response that the function returns is the caller's own.

    Without a guarded call around it, it is requests' own adapter. Options are those of `HTTPAdapter`, but for retries:
    these are off, and are `@retry`'s business.
    """

    def __init__(self, pool_connections: int = 10, pool_maxsize: int = 10, max_retries: Retry | int = 0,
                 pool_block: bool = False) -> None:
        if (max_retries.total if isinstance(max_retries, Retry) else max_retries) != 0:
            raise ConfigError("max_retries", max_retries, "0: @retry tries again, and two layers of retries multiply")
        super().__init__(pool_connections, pool_maxsize, max_retries, pool_block)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _guard(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        _guard(manager)
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        bound, began = bounding(), clock.current().now()
        error = error_of(bound, began, ERRORS)
        if error is None:
            try:
                response = super().send(request, *args, **kwargs)
            except (requests.RequestException, HTTPError) as low:
                error = error_of(bound, began, ERRORS)
                if error is None:
                    raise
                forget(low)
            else:
                exchange = getattr(response.raw, "exchange", None)
                # Headers that are cut may look whole.
                error = exchange.error(ERRORS) if exchange is not None and exchange.is_cut else None
                if error is None:
                    in_progress = call.in_progress()
                    if in_progress is not None:
                        in_progress.heard = response
                    return response
                response.close()
        try:
            raise error  # out here, where the error of the connection is not its context
        finally:
            del error  # its traceback holds this frame


def _guard(manager: Any) -> None:
    manager.pool_classes_by_scheme = {
        scheme: guarded_pool(pool) for scheme, pool in manager.pool_classes_by_scheme.items()}


class Session(requests.Session):
    """A `requests.Session` whose requests end when the guarded call that makes them is over: see `Adapter`."""

    def __init__(self) -> None:
        super().__init__()
        for scheme in ("https://", "http://"):
            self.mount(scheme, Adapter())
