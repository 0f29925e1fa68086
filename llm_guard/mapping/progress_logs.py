"""Log lines beside a bar: what the handlers write to the terminal goes through the bar's writer meanwhile."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

#: Writes a text to a stream without tearing what is drawn.
Write = Callable[[str, TextIO], object]


class _Above:
    """A stream whose writes go through `write`; in all else it is the stream beneath."""

    def __init__(self, beneath: TextIO, write: Write) -> None:
        self.beneath = beneath
        self._write = write

    def write(self, text: str) -> int:
        self._write(text, self.beneath)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.beneath, name)


class _LastResort(logging.StreamHandler[Any]):
    """What writes warnings where nobody has set up logging, as logging's own does."""


class Redirection:
    """While it lasts, handlers that write to a terminal by the standard streams do so through `write`.

    Only streams are exchanged: levels, formats and filters stay, and so do handlers that come and go meanwhile. Two at
    once nest in any order.
    """

    def __init__(self, write: Write) -> None:
        self._streams: list[tuple[logging.StreamHandler[Any], _Above]] = []
        self._last_resort = logging.lastResort
        for handler in _handlers():
            stream = handler.stream
            if stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__) and stream.isatty():
                above = _Above(stream, write)
                handler.setStream(above)
                self._streams.append((handler, above))
        self._own: logging.StreamHandler[Any] | None = None
        if self._last_resort is not None and not isinstance(self._last_resort, _LastResort) and sys.stderr is not None:
            self._own = _LastResort(_Above(sys.stderr, write))
            self._own.setLevel(self._last_resort.level)
            logging.lastResort = self._own

    def end(self) -> None:
        """Puts back what is still as it was put."""
        for handler, above in self._streams:
            if handler.stream is above:
                handler.setStream(above.beneath)
        if self._own is not None and logging.lastResort is self._own:
            logging.lastResort = self._last_resort


def _handlers() -> Iterator[logging.StreamHandler[Any]]:
    """All that there are, once each."""
    found = []
    for logger in [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]:
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler) and handler not in found:
                found.append(handler)
    return iter(found)
