"""What the server of the demo sees, and the line that shows it while a run lasts."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import requests

#: What GET /stats tells: counts, and the seconds since the first call.
Stats = dict[str, Any]


class Watch:
    """Shows how a run gets on: rewrites one line on a terminal, elsewhere prints a line now and then.

    `finished` has the server's stats, with its timeline, as they were at the end of the `with` block.
    """

    def __init__(self, name: str, url: str, items: int, state: Callable[[], str]) -> None:
        self._name = name
        self._stats_url = url + "/stats"
        self._items = items
        self._state = state
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.finished: Stats = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if kind is None:
            self.finished = self._read(timeline=True)
        self._over.set()
        self._thread.join()
        if kind is None:
            self._show(self.finished, "done")
        if sys.stdout.isatty():
            print()

    def _watch(self) -> None:
        on_terminal = sys.stdout.isatty()
        shown = time.monotonic()
        while not self._over.wait(0.2):
            if on_terminal or time.monotonic() - shown >= 5:
                shown = time.monotonic()
                try:
                    self._show(self._read(), self._state())
                except requests.RequestException:  # the line is not worth ending the run for
                    pass

    def _read(self, timeline: bool = False) -> Stats:
        response = requests.get(self._stats_url, params={"timeline": int(timeline)}, timeout=10)
        response.raise_for_status()
        stats: Stats = response.json()
        return stats

    def _show(self, stats: Stats, state: str) -> None:
        line = (f"{self._name:<10}  {stats['seconds']:5.1f} s   answered {stats['successes']:3d} of {self._items}   "
                f"in flight {stats['in_flight']:2d}   refused {refused(stats):3d}   {state}").rstrip()
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns - 1
            print("\r" + line[:width].ljust(width), end="", flush=True)
        else:
            print(line, flush=True)


def refused(stats: Stats) -> int:
    """How many calls the server refused, for whatever reason."""
    return sum(stats["refusals"].values())
