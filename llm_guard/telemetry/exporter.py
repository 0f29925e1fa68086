"""What all exporters have in common: which functions they watch, and that they never hurt a call."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Self

from llm_guard import events
from llm_guard.errors import ConfigError
from llm_guard.events import Taker, Takers
from llm_guard.runtime.guarded import Guarded, guarded_functions

_log = logging.getLogger("llm_guard")

#: The outcome of a call of which no attempt started, beside those that an attempt may have.
NOT_STARTED = "not_started"


class Exporter:
    """Tells of guarded functions somewhere else. `watch()` begins, `close()` ends.

    What it does with an event must be short and raise nothing: errors are for `broke`.
    """

    #: What it is called in the log.
    name = "exporter"

    def __init__(self) -> None:
        self._offs: dict[Guarded[Any, Any] | None, Callable[[], None]] = {}
        self._is_broken = False

    def takers(self) -> Takers:
        """What it does with which events. It hears of a call from its start to its end, or not at all."""
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
        takers = self.takers()
        for each in chosen:
            self._offs[each] = each.take_events(takers)
        if not chosen:
            self._offs[None] = events.everywhere.add_takers(takers)
        return self

    def close(self) -> None:
        """Watches no further calls. Again: no effect."""
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

    def unhurt(self, taker: Taker) -> Taker:
        """`taker`, which may raise."""
        def safe(*facts: Any) -> None:
            try:
                taker(*facts)
            except Exception as error:
                self.broke(error)

        return safe

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
