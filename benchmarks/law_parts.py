"""The parts of the pace's law, each of which can be taken out: to see what it buys.

`without("spacing")` is a context manager; inside it every pace runs without that part. The state is patched, not the
code that people run: a part that could be switched off there would cost a look at each call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

from llm_guard.state import pace, pace_gate, pace_load, pace_rate
from llm_guard.state.pace_allowance import Allowance, FixedWindows
from llm_guard.state.pace_gate import ServerGate
from llm_guard.state.pace_latency import Latency, Strain
from llm_guard.state.pace_load import Load
from llm_guard.state.pace_rate import Rate
from llm_guard.state.pace_window import Window


def _nothing(*args: object, **options: object) -> None:
    """In place of a method that changes something."""


def _always(value: object) -> Callable[..., Any]:
    return lambda *args, **options: value


def _limit(latency: Latency, timeout: float | None) -> float:
    if latency.base is None:
        return math.inf
    return min(2.5 * latency.base, math.inf if timeout is None else timeout / 2)


class Around(NamedTuple):
    """Makes the replacement from what stands there, be it a replacement itself."""

    make: Callable[[Callable[..., Any]], Callable[..., Any]]


def _whole(add: Callable[..., bool]) -> Callable[..., bool]:
    def added(strain: Strain, seconds: float, timeout: float | None, tokens: object, first_item: object) -> bool:
        return add(strain, seconds, timeout, None, None)
    return added


def _always_quick(add: Callable[..., bool]) -> Callable[..., bool]:
    def added(strain: Strain, *measured: Any) -> bool:
        add(strain, *measured)
        return True
    return added


def _endless(init: Callable[[Window], None]) -> Callable[[Window], None]:
    def made(window: Window) -> None:
        init(window)
        window.size = 1e6
    return made


Patch = tuple[object, str, object]

#: What there is besides, over the form that the recorded runs in the tests have.
ADDED: dict[str, list[Patch]] = {
    "spacing of starts after a refused burst": [(pace_load, "BURST", 0.0)],
    "timeouts heard as latencies": [(Load, "timed_out", _nothing)],
    "slow servers told from overrun ones": [(Latency, "limit", _limit), (pace_load, "QUEUEING", 0.0)],
    "slow calls grow nothing": [(Strain, "add", Around(_always_quick))],
    "what was sent, where nothing is known to be delivered": [(Rate, "_sent_lately", _always(math.inf))],
    "ever faster growth after a quiet time": [(pace_rate, "QUIET_GROWTH", 0.0)],
    "fixed windows learned": [(FixedWindows, "next_probe", _always(None))],
    "fewer probes of a server that refuses": [(pace_gate, "LONGEST_REFUSED", 4.0)],
    "latency per token, or to the first item": [(Strain, "add", Around(_whole))],
    "a base doubted where one call is in flight": [(Strain, "doubt_base", _nothing)],
    "remaining calls told by the server": [(Allowance, "tell", _nothing)],
    "no burst when a gate opens": [(Load, "_space_opening", _nothing)],
}
#: The parts that it has had from the beginning; but for its gate as a whole, without which refused calls come again at
#: once, and on servers that count them too nobody is ever answered.
FIRST: dict[str, list[Patch]] = {
    "window": [(Window, "__init__", Around(_endless)), (Window, "step_back", _nothing), (Window, "restart", _nothing)],
    "latency gradient": [(Load, "_step_back", _always(False))],
    "waits between probes grow": [(ServerGate, "_wait", _always(0.5))],
    "single probe": [(ServerGate, "taken", _always(False))],
    "learned rate": [(Rate, "_set_bound", _nothing)],
    "many failures in a row close the gate": [(pace, "FAILURES_TO_CLOSE", 10**9)],
    "what cannot end in time is refused": [(pace.Pace, "hopeless", _always(False))],
}
PARTS = {**FIRST, **ADDED}


@contextmanager
def without(*parts: str) -> Iterator[None]:
    """Every pace inside runs without these parts."""
    with ExitStack() as patches:
        for part in parts:
            for owner, name, replacement in PARTS[part]:
                if isinstance(replacement, Around):
                    replacement = replacement.make(getattr(owner, name))
                patches.enter_context(mock.patch.object(owner, name, replacement))
        yield
