"""The threads whose calls a server is at, and which of them leads: it alone keeps the time for all."""

from __future__ import annotations

from llm_guard.clock import Waiter
from llm_guard.testing.server.limits import Left
from llm_guard.testing.server.model import Started


class Caller:
    """A thread whose call was accepted, when work on it began (told where it streams), and how it ended."""

    __slots__ = ("left", "ok", "streams", "tokens", "waiter", "work")

    def __init__(self, *, streams: bool) -> None:
        self.streams = streams
        self.work: Started | None = None
        self.ok: bool | None = None
        self.left: Left | None = None  # what its answer tells
        self.tokens: int | None = None  # as well
        self.waiter: Waiter | None = None

    def wake(self) -> None:
        if self.waiter is not None:
            self.waiter.set()


class Callers:
    """Those inside, by call. Used under the server's lock."""

    def __init__(self) -> None:
        self._inside: dict[int, Caller] = {}
        self._leader: Caller | None = None
        self._leader_wakes = 0.0

    def enter(self, call: int, caller: Caller) -> None:
        self._inside[call] = caller

    def leave(self, call: int) -> Caller | None:
        """Whoever was inside with that call."""
        return self._inside.pop(call, None)

    def begin(self, work: Started) -> None:
        """Work on a call began."""
        caller = self._inside.get(work.call)
        if caller is not None and caller.streams:
            caller.work = work
            caller.wake()

    def lead(self, caller: Caller, next_event: float) -> float | None:
        """Until when the caller leads before it looks again; None: another one does, which will wake it."""
        if self._leader not in (None, caller) and next_event >= self._leader_wakes:
            return None
        self._leader, self._leader_wakes = caller, next_event
        return next_event

    def hand_lead_on(self, caller: Caller) -> None:
        """The caller will not wait any more."""
        # Where nobody leads, the caller may be the one that was woken to.
        if self._leader in (caller, None):
            self._leader = None
            for other in self._inside.values():
                if other.waiter is not None:
                    other.wake()
                    break

    def look_again(self) -> None:
        """What the leader waits for may come sooner than it was told."""
        if self._leader is not None:
            self._leader.wake()
