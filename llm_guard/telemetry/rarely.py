"""Not too many lines: what is said of one thing is bounded, and what was last true is never left out. Pure."""

from __future__ import annotations

from collections import deque

#: So many lines within so many seconds.
LINES, WITHIN = 6, 60.0


class Rarely:
    """Lines about one thing. Beyond `LINES` within `WITHIN` seconds only the last is kept, until it may be said."""

    __slots__ = ("_kept", "_left_out", "_said_at")

    def __init__(self) -> None:
        self._said_at: deque[float] = deque(maxlen=LINES)
        self._kept: tuple[int, str] | None = None
        self._left_out = 0

    def say(self, now: float, level: int, words: str) -> tuple[int, str] | None:
        """The line, if it may be said now. None: it is kept, and to be asked for at `due_at`."""
        self._left_out += self._kept is not None
        self._kept = level, words
        return self.rest(now)

    @property
    def due_at(self) -> float | None:
        """The instant at which `rest` will have a line; None: there is none."""
        if self._kept is None:
            return None
        return self._said_at[0] + WITHIN if len(self._said_at) == LINES else self._said_at[-1]

    def rest(self, now: float) -> tuple[int, str] | None:
        """The line that was kept, where it may be said now, with how many were left out before it."""
        if self._kept is None or (len(self._said_at) == LINES and now < self._said_at[0] + WITHIN):
            return None
        (level, words), self._kept = self._kept, None
        left_out, self._left_out = self._left_out, 0
        self._said_at.append(now)
        return level, words if not left_out else f"{words} ({left_out} before it left out)"
