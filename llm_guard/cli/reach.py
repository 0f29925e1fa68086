"""Whether anything listens at a URL at all: looked at before the first item, since a wrong port looks like a server
that is down, and is waited for."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from llm_guard import clock
from llm_guard.cli.exits import Exit, Problem

_EVERY: Final = 1.0  # seconds between two tries
_LOOK: Final = 0.1  # seconds until it is seen that it was given up
_TRY: Final = 5.0  # seconds that one may take


def reach(url: str, patience: float, say: Callable[[str], None], given_up: Callable[[], bool]) -> None:
    """Returns when a connection to the host of `url` is accepted, or `given_up`; `Problem` where none is accepted
    within `patience` seconds.

    `say` is told once that it waits. Behind a proxy nothing is tried: the proxy would answer.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if parts.scheme in getproxies() and not proxy_bypass(host):
        return
    time = clock.current()
    ends = time.now() + patience
    waits = False
    while not given_up() and (wrong := _refusal(host, port)) is not None:
        left = ends - time.now()
        if left <= 0:
            raise Problem(f"{parts.scheme}://{host}:{port} cannot be reached ({wrong}) for {patience:g} s; nothing was "
                          "sent. Is --url right, and the server up? --server-wait waits longer for one that starts.",
                          Exit.STOPPED)
        if not waits:
            say(f"{parts.scheme}://{host}:{port} cannot be reached ({wrong}): trying for {patience:g} s")
            waits = True
        until = time.now() + min(_EVERY, left)
        while not given_up() and (left := until - time.now()) > 0:
            time.sleep(min(_LOOK, left))


def _refusal(host: str, port: int) -> str | None:
    """Why no connection came about; None where one did."""
    try:
        socket.create_connection((host, port), _TRY).close()
    except TimeoutError:
        return "no answer"
    except socket.gaierror:
        return "no such host"
    except OSError as error:
        return (error.strerror or type(error).__name__).lower()
    return None
