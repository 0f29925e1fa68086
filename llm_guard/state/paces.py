"""The paces of one policy: one for all calls, or one for each key, all under the same settings."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from llm_guard import clock
from llm_guard.call import NEVER
from llm_guard.fork import renew_after_fork
from llm_guard.state.keyed import Keyed, gates_of
from llm_guard.state.pace import Pace
from llm_guard.state.pace_door import PaceGate


class Paces:
    """`gate` is that of the one pace, or, where `key` says which key a call has, the family of at most `most` of them.

    `make(ceiling=...)` makes a pace; a bad option raises `ConfigError`. A ceiling and a pause hold for keys to come
    too. Not thread-safe: all methods are called under the line's lock.
    """

    __slots__ = ("__weakref__", "_ceiling", "_make", "_name", "_paused_until", "gate")

    def __init__(self, make: Callable[..., Pace], ceiling: float | None, name: str,
                 key: str | Callable[..., Hashable] | None, most: int) -> None:
        self._make = make
        self._name = name
        self._ceiling = ceiling
        self.after_fork()
        first = self.new_gate()  # checks the options
        self._ceiling = first.pace.ceiling
        self.gate: PaceGate | Keyed[PaceGate] = first
        if key is not None:
            self.gate = Keyed(self.new_gate, key, most=most)
            renew_after_fork(self)

    def after_fork(self) -> None:
        self._paused_until = NEVER

    def new_gate(self) -> PaceGate:
        """That of a key that comes for the first time."""
        pace = self._make(ceiling=self._ceiling)
        now = clock.current().now()
        if now < self._paused_until:
            pace.pause(now, self._paused_until - now)
        return PaceGate(pace, self._name)

    @property
    def ceiling(self) -> float | None:
        """The most calls a second of each pace, or None."""
        return self._ceiling

    @ceiling.setter
    def ceiling(self, ceiling: float | None) -> None:
        trial = self._make(ceiling=self._ceiling)
        trial.ceiling = ceiling  # refuses what cannot work before anything is changed
        self._ceiling = trial.ceiling
        for gate in gates_of(self.gate):
            gate.pace.ceiling = ceiling

    def pause(self, now: float, seconds: float) -> None:
        """Nobody starts for so many seconds, whatever its key."""
        self._paused_until = now + seconds
        for gate in gates_of(self.gate):
            gate.pace.pause(now, seconds)

    def resume(self, now: float) -> None:
        """Calls of all keys may start again."""
        self._paused_until = NEVER
        for gate in gates_of(self.gate):
            gate.pace.resume(now)
