"""What all exporters have in common: which functions they watch, and that they never hurt a call."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import wraps
from typing import Any, Self

from llm_guard import events
from llm_guard.errors import ConfigError
from llm_guard.events import Takers
from llm_guard.runtime.guarded import Guarded, guarded_functions

_log = logging.getLogger("llm_guard")


class Since:
    """From which call on one hears. A call that began earlier is left out altogether: its end would have no start."""

    __slots__ = ("call",)

    def __init__(self) -> None:
        self.call = math.inf


class Exporter:
    """Tells of guarded functions somewhere else. `watch()` begins, `close()` ends.

    What it does with an event must be short and raise nothing: errors are for `broke`.
    """

    #: What it is called in the log.
    name = "exporter"

    def __init__(self) -> None:
        self._offs: dict[Guarded[Any, Any] | None, Callable[[], None]] = {}
        self._is_broken = False

    def takers(self, since: Since) -> Takers:
        """What it does with which events, of calls from `since.call` on."""
        raise NotImplementedError

    def watch(self, *functions: Guarded[..., Any]) -> Self:
        """Watches these guarded functions, or, without any, all of the process, those to come too; calls that begin
        from now on. Returns itself. `ConfigError` for what is no guarded function, or is watched already."""
        for function in functions:
            if not isinstance(function, Guarded):
                raise ConfigError("functions", function, "guarded functions, or none for all of them")
        chosen = [getattr(function, "__func__", function) for function in functions]  # of a method: its class's
        if None in self._offs or (self._offs and not chosen) or len({*chosen, *self._offs}) < len(chosen) + len(
                self._offs):
            raise ConfigError("functions", functions, "each watched once: it is watched already")
        since = Since()
        takers = self.takers(since)
        for each in chosen:
            self._offs[each] = each.take_events(takers)
        if not chosen:
            self._offs[None] = events.everywhere.add_takers(takers)
        since.call = events.next_call()  # whoever draws a later one saw that somebody listens
        return self

    def close(self) -> None:
        """Watches nothing any more. Again: no effect."""
        while self._offs:
            self._offs.popitem()[1]()

    def functions(self) -> list[Guarded[Any, Any]]:
        """Those that it watches now."""
        if None in self._offs:
            return guarded_functions()
        return [function for function in list(self._offs) if function is not None]

    def broke(self, error: Exception) -> None:
        """Something did not work. The log has it once, without its message: that might quote anything."""
        if not self._is_broken:
            self._is_broken = True
            _log.error("%s telemetry raised %s; it goes on, and says so once", self.name, type(error).__name__)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def unhurt(exporter: Exporter, since: Since, taker: Callable[..., object]) -> Callable[..., None]:
    """`taker`, which may raise and shall hear only of calls from `since` on."""
    @wraps(taker)
    def safe(call: int, *facts: Any) -> None:
        if call < since.call:
            return
        try:
            taker(call, *facts)
        except Exception as error:
            exporter.broke(error)
    return safe
