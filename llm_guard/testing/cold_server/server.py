"""The server itself: a listener on loopback, a thread for each connection, one model behind them all."""

from __future__ import annotations

import socket
import sys
from _thread import allocate_lock
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from random import Random
from socketserver import ThreadingTCPServer
from typing import Any

from llm_guard import checks
from llm_guard.clock import SystemClock
from llm_guard.testing.cold_server.connection import Connection
from llm_guard.testing.cold_server.dialects import APIS
from llm_guard.testing.server import Scenario
from llm_guard.testing.server import scenario as scenario_named
from llm_guard.testing.virtual_server import VirtualServer


class Listener(ThreadingTCPServer):
    """Accepts connections; they share the model."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024  # a whole fleet of clients may connect at once

    def __init__(self, address: tuple[str, int], model: VirtualServer, seed: int, broken: float,
                 mixed_shapes: bool, api: str | None, cancels: bool) -> None:
        self.model = model
        self.mixed_shapes = mixed_shapes
        self.api = api
        self.cancels = cancels
        self._broken = broken
        self._random = Random(f"broken {seed}")
        self._lock = allocate_lock()
        self._broke = 0
        self._open: set[socket.socket] = set()
        super().__init__(address, Connection)

    def breaks(self) -> bool:
        """Whether the next answer is to be cut off in the middle."""
        with self._lock:
            breaks = self._random.random() < self._broken
            self._broke += breaks
            return breaks

    def stats(self, timeline: bool) -> dict[str, object]:
        stats = asdict(self.model.stats())
        samples = stats.pop("timeline")
        stats = {"scenario": self.model.scenario.name, **stats, "broken": self._broke}
        return {**stats, "timeline": samples} if timeline else stats

    def process_request(self, request: socket.socket, client_address: Any) -> None:  # type: ignore[override]
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Ends every connection."""
        with self._lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:  # the client was first
                    pass

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that goes away is no error
            super().handle_error(request, client_address)


def check_options(scenario: Scenario, speed: float, noise: float | None, broken: float, port: int) -> Scenario:
    """The scenario with that noise; ConfigError for options that cannot work."""
    checks.number("speed", speed, above=0)
    checks.number("broken", broken, least=0, most=1)
    checks.whole("port", port, least=0, most=65535)
    return scenario if noise is None else replace(scenario, noise=noise)


class ColdServer:
    """An HTTP server that starts cold, listening as soon as it is made.

    `scenario` is a name or a `Scenario`; `speed` divides all times and hints; `noise` is the share of 500s, below 1, if
    not the scenario's own; `broken` the share of answers whose JSON is cut off; with `mixed_shapes` the text stands in
    a different place from answer to answer. `api` is the one API that is spoken, by default each has paths of its own.

    A stream whose client is gone is dropped when the next token is to be sent; any other call is worked on all the
    same, unless `cancels`: then it is dropped wherever it is. `port` 0 takes a free one. ConfigError for what cannot
    work.
    """

    def __init__(self, scenario: str | Scenario = "A", *, speed: float = 1.0, seed: int = 0, noise: float | None = None,
                 broken: float = 0.0, mixed_shapes: bool = True, api: str | None = None, cancels: bool = False,
                 host: str = "127.0.0.1", port: int = 0) -> None:
        settings = check_options(scenario if isinstance(scenario, Scenario) else scenario_named(scenario), speed, noise,
                                 broken, port)
        if api is not None:
            checks.one_of("api", api, tuple(APIS))
        self._clock = SystemClock()
        model = VirtualServer(settings, seed, speed=speed, clock=self._clock)
        self._listener = Listener((host, port), model, seed, broken, mixed_shapes, api, cancels)
        self._started = False
        self.url = f"http://{host}:{self._listener.server_address[1]}"

    def start(self) -> None:
        """Serves on a thread of its own."""
        self._started = True
        self._clock.spawn(self.serve, "cold server")

    def serve(self) -> None:
        """Serves in this thread, until `close()` or an interrupt."""
        self._listener.serve_forever(poll_interval=0.05)

    def stats(self, timeline: bool = False) -> dict[str, object]:
        """What GET /stats tells: counts, seconds since the first call, and, if asked, the timeline."""
        return self._listener.stats(timeline)

    def close(self) -> None:
        """Ends serving, and every connection."""
        if self._started:
            self._listener.shutdown()
        self._listener.server_close()
        self._listener.hang_up()


@contextmanager
def cold_server(scenario: str | Scenario = "A", *, speed: float = 1.0, seed: int = 0, noise: float | None = None,
                broken: float = 0.0, mixed_shapes: bool = True, api: str | None = None, cancels: bool = False,
                host: str = "127.0.0.1", port: int = 0) -> Iterator[ColdServer]:
    """A `ColdServer` that serves on threads of this process while the block lasts; the same options."""
    server = ColdServer(scenario, speed=speed, seed=seed, noise=noise, broken=broken, mixed_shapes=mixed_shapes,
                        api=api, cancels=cancels, host=host, port=port)
    server.start()
    try:
        yield server
    finally:
        server.close()
