"""The functions of the module `time`, on the virtual clock: so that a plain decorator can be a client as it stands.

What calls `time.sleep(...)` or `time.monotonic()` through the module waits and reads virtual time, in threads under the
clock alone. Who has the function itself (`from time import sleep`) has the machine's.
"""

from __future__ import annotations

import time as machine
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llm_guard.clock.virtual import VirtualClock


@contextmanager
def plain_time(clock: VirtualClock) -> Iterator[None]:
    """Inside the block, `time.sleep` and the clocks of `time` that tell seconds are that clock's."""
    def sleep(seconds: float) -> None:
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        clock.sleep(seconds)

    instead: dict[str, Callable[..., Any]] = {
        "sleep": sleep, "time": clock.wall, "monotonic": clock.now, "perf_counter": clock.now}
    for name in ("time", "monotonic", "perf_counter"):
        instead[f"{name}_ns"] = _nanoseconds(instead[name])
    real = {name: getattr(machine, name) for name in instead}
    try:
        for name, virtual in instead.items():
            setattr(machine, name, _by_thread(clock, virtual, real[name]))
        yield
    finally:
        for name, function in real.items():
            setattr(machine, name, function)


def _by_thread(clock: VirtualClock, virtual: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    def either(*args: Any) -> Any:
        return (virtual if clock.has_this_thread() else real)(*args)

    return either


def _nanoseconds(seconds: Callable[[], float]) -> Callable[[], int]:
    return lambda: int(seconds() * 1e9)
