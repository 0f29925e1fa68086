"""A tiny WSGI app whose view is guarded and watched."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from time import sleep
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from llm_guard import bounded, ramp_up, retry
from llm_guard.telemetry.prometheus import Prometheus
from llm_guard.web.status import Site, mounted

TOKEN = "a token of more than sixteen characters"


@ramp_up
@bounded(16)
@retry
def ask() -> str:
    sleep(0.02)
    return str(os.getpid())


Prometheus().watch(ask)


def views(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/metrics":
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        body = generate_latest(registry)
    else:
        body = ask().encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


app = mounted(views, Site(TOKEN))
