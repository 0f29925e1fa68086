"""What the tests of cut connections share: evils, bounds, and a look at what is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from llm_guard import CallTimeout, Result, deadline, map_with_backpressure, timeout
from llm_guard.state.alarm import Timer
from llm_guard.testing.cold_server import cold_server
from llm_guard.testing.server import Scenario

#: Seconds that a call is given.
BOUND = 0.5
#: What a server may do so that a plain request never ends, or not in time.
EVILS = ["/drip/length", "/drip/chunked", "/drip/open", "/stall/length", "/stall/chunked", "/stall/open", "/silent",
         "/half-head", "/drip-head", "/upload"]
#: Those at which a plain request waits, rather than being fed.
WAITS = [evil for evil in EVILS if "drip" not in evil]
#: On a worker that is left, and in its own thread.
GUARDS = [timeout, deadline]


def ended_in_time(guarded: Callable[[], object], bound: float = BOUND) -> Any:
    """The error with which it ended, soon after its bound; on a busy machine not at once."""
    began = time.monotonic()
    with pytest.raises(CallTimeout) as raised:
        guarded()
    assert bound * 0.9 < time.monotonic() - began < bound + 5.0
    return raised.value


def call_all(function: Callable[[str], object], items: list[str]) -> list[Result[str, Any]]:
    """Calls it with all at once."""
    return list(map_with_backpressure(function, items, workers=len(items), on_error="return", results=True))


def all_cut(function: Callable[[str], object], items: list[str]) -> None:
    """Calls it with all at once; each must run out of time, in time."""
    ends = {end.input: end for end in call_all(function, items)}
    assert {item: repr(end) for item, end in ends.items() if not isinstance(end.error, CallTimeout)} == {}
    assert [item for item, end in ends.items() if not BOUND * 0.9 < end.seconds < BOUND + 5] == []


def ends_at_slow_servers(makers: list[Callable[[str], Callable[[], object]]], seconds: float) -> list[Any]:
    """How the calls ended, made for a slow server each and all cut off at once; each server dropped what it had let in.

    Where a call's time was up before its request was there (first calls import much, machines are busy) it is made
    again.
    """
    with ExitStack() as stack:
        servers = [stack.enter_context(cold_server(Scenario("slow", 8, seconds, 0.0), cancels=True)) for _ in makers]
        bound = timeout(1.0)
        calls = {server: bound(make(server.url)) for server, make in zip(servers, makers, strict=True)}
        ends: dict[object, Any] = {}
        until = time.monotonic() + 60
        while missing := [server for server in servers if not server.stats()["calls"]]:
            assert time.monotonic() < until, ends
            found = map_with_backpressure(lambda server: calls[server](), missing, workers=len(missing),
                                          on_error="return")
            ends.update(zip(missing, found, strict=True))
        until = time.monotonic() + 5
        while bound.statistics().still_running or any(
                stats["abandoned"] != stats["calls"] for stats in (server.stats() for server in servers)):
            assert time.monotonic() < until, [server.stats() for server in servers]
        return [ends[server] for server in servers]


class LateAlarm:
    """An alarm that never fires."""

    def at(self, when: float, tell: Callable[[], None]) -> Timer:
        return Timer(tell)


def threads() -> int:
    """Those that are not the raw server's."""
    return sum("raw server" not in thread.name for thread in threading.enumerate())
