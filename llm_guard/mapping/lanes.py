"""Items of one key, one after another in the order of the input; different keys side by side.

No worker waits for a key whose turn is not there: an item comes to the workers when the one before it has ended. Only
keys that are in use take memory.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

J = TypeVar("J")


class Lane(Generic[J]):
    """What waits behind the item of `key` that is with the workers."""

    __slots__ = ("key", "waiting")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.waiting: deque[J] = deque()


class Lanes(Generic[J]):
    """The keys in use."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lanes: dict[Hashable, Lane[J]] = {}

    def enter(self, key: Hashable, make: Callable[[Lane[J]], J]) -> J | None:
        """The job for the workers, or None where it waits behind one of the same key. `make` makes it of its lane.

        Raises what hashing or comparing the key raises.
        """
        with self._lock:
            lane = self._lanes.get(key)
            if lane is None:
                lane = self._lanes[key] = Lane(key)
                return make(lane)
            lane.waiting.append(make(lane))
            return None

    def leave(self, lane: Lane[J]) -> J | None:
        """A job of the lane has ended: the next one for the workers, or None."""
        with self._lock:
            if lane.waiting:
                return lane.waiting.popleft()
            del self._lanes[lane.key]
            return None
