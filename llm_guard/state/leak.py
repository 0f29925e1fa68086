"""The arithmetic of a leaky bucket as a meter: virtual scheduling (ITU-T I.371, the generic cell rate algorithm with a
burst of one)."""

from __future__ import annotations

from llm_guard.call import NEVER

#: A start that comes late is made up for by the next ones, but never more than this many seconds of it.
CATCH_UP = 0.010


class Leak:
    """When the next call may start.

    At a constant rate at most rate * (w + CATCH_UP) + 1 calls start in any window of w seconds, the first included.
    """

    __slots__ = ("_last", "next_start")

    def __init__(self) -> None:
        self._last = NEVER
        self.next_start = NEVER

    def take(self, now: float, since: float, rate: float) -> None:
        """A call starts that has waited since `since`; the next follows at `rate` calls a second.

        Only who waited makes up for a late start.
        """
        last = now - CATCH_UP  # comparisons, not `max`: this is part of every call
        if since > last:
            last = since
        if self.next_start > last:
            last = self.next_start
        self._last = last
        self.next_start = last + 1 / rate

    def reschedule(self, rate: float) -> None:
        """The next call follows the last one at another rate."""
        self.next_start = self._last + 1 / rate
