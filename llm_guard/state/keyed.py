"""A family of gates, one for each key: each model its own pace, each tenant its own limit.

The line, under its lock, chooses for each attempt the gate of its key. So the family always knows who is in use: a gate
that has attempts in flight, or waiting in the line, is never dropped; there is nothing to count and nothing to leak.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from llm_guard.fork import renew_after_fork
from llm_guard.state.gate import Gate, Request

#: How many keys a family keeps, where nobody says otherwise.
MOST = 1024
#: How many gates are looked at for one to drop: the cost of a new key is bounded, however many are busy.
LOOKS = 64


class Countable(Gate, Protocol):
    """A gate that knows how many attempts it let in that have not ended."""

    @property
    def in_flight(self) -> int: ...


G = TypeVar("G", bound=Countable)


class Keyed(Generic[G]):
    """`make` makes the gate of a new key. `key` says which key a call has: a function of its arguments, or the name of
    a parameter; the key itself comes with each `Request`. `option` is what the user calls it.

    At most `most` gates are kept: a new key takes the place of the one whose last attempt came to the door longest ago,
    among those that are idle. Where all (of `LOOKS`) are busy, one more is kept; further new keys make up for it. What
    was learned about a dropped key is forgotten. Not thread-safe: all methods are called under the line's lock. After a
    fork the child's family is empty. A key is nowhere shown.
    """

    def __init__(self, make: Callable[[], G], key: str | Callable[..., Hashable], *, option: str = "key",
                 most: int = MOST) -> None:
        self.key = key
        self.option = option
        self._make = make
        self._most = most
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._gates: OrderedDict[Hashable, G] = OrderedDict()  # the one used last at its end

    def of(self, key: Hashable, awaited: Callable[[Gate], bool]) -> G:
        """The gate of `key`, made where there is none. `awaited` tells whether anybody waits for a gate."""
        gate = self._gates.get(key)
        if gate is None:
            self._make_room(awaited)
            return self._gates.setdefault(key, self._make())
        self._gates.move_to_end(key)
        return gate

    def known(self, key: Hashable) -> G | None:
        """The gate of `key` where there is one. That does not count as a use."""
        return self._gates.get(key)

    def gates(self) -> list[G]:
        """All of them, the longest unused first."""
        return list(self._gates.values())

    def _make_room(self, awaited: Callable[[Gate], bool]) -> None:
        for _ in range(min(len(self._gates), LOOKS)):
            if len(self._gates) < self._most:
                return
            key, gate = next(iter(self._gates.items()))
            if gate.in_flight or awaited(gate):
                self._gates.move_to_end(key)  # it is in use just now
            else:
                del self._gates[key]


def gates_of(gate: G | Keyed[G]) -> list[G]:
    """All gates of a family, or the one gate that there is without a key."""
    return gate.gates() if isinstance(gate, Keyed) else [gate]


def choose(request: Request, awaited: Callable[[Gate], bool]) -> None:
    """Puts the gates of the request's keys in the places of their families."""
    keys = request.keys or {}
    request.gates = tuple(gate.of(keys[gate], awaited) if isinstance(gate, Keyed) else gate for gate in request.gates)
