"""The lanes of a line: those who wait for the same gates, and how each is woken."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from llm_guard import clock
from llm_guard.call import FOREVER, NEVER
from llm_guard.state.gate import Gate, Request


class Waiting:
    """A request in the line, and how to wake its thread."""

    __slots__ = ("asleep_until", "lane", "number", "request", "waiter", "wake_at")

    def __init__(self, request: Request, lane: Lane, number: int) -> None:
        self.request = request
        self.lane: Lane | None = lane  # None once it has left the line
        self.number = number
        self.waiter: clock.Waiter | None = None
        self.wake_at = FOREVER  # when the gates are worth asking again
        self.asleep_until = NEVER  # when its thread wakes by itself

    def wake(self) -> None:
        self.tell()
        self.asleep_until = NEVER  # last: until then it is woken again

    def tell(self) -> None:
        if self.waiter is not None:
            self.waiter.set()


class Lane:
    """Those who wait for the same gates."""

    __slots__ = ("first_attempts", "gates", "key", "retries")

    def __init__(self, key: tuple[object, ...], gates: tuple[Gate, ...]) -> None:
        self.key = key
        self.gates = gates
        self.retries: OrderedDict[Waiting, None] = OrderedDict()
        self.first_attempts: OrderedDict[Waiting, None] = OrderedDict()

    def queue_of(self, request: Request) -> OrderedDict[Waiting, None]:
        return self.retries if request.urgent else self.first_attempts

    def head(self) -> Waiting | None:
        return next(iter(self.retries), None) or next(iter(self.first_attempts), None)


class Lanes(dict[tuple[object, ...], Lane]):
    """All lanes, by what those in one have in common; `at` has those at each gate that somebody waits for.

    A dict, so that whether anybody waits at all is seen at a glance: it is asked in every call.
    """

    __slots__ = ("_came", "at")

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[Gate, dict[Lane, None]] = {}
        self._came = 0

    def are_awaited(self, gates: Iterable[Gate]) -> bool:
        """Whether somebody waits for one of them, and so goes first."""
        return not self.at.keys().isdisjoint(gates)

    def waiting(self, gate: Gate) -> int:
        """How many wait for it, perhaps among others."""
        return sum(len(lane.retries) + len(lane.first_attempts) for lane in self.at.get(gate, ()))

    def waits_of(self, owner: object) -> Request | None:
        """That of an owner who waits."""
        for lane in self.values():
            for waiting in (*lane.retries, *lane.first_attempts):
                if waiting.request.owner is owner:
                    return waiting.request
        return None

    def append(self, request: Request) -> Waiting:
        """It waits from now on, behind those of its lane."""
        key = (request.gates, request.by_call, request.patience)
        lane = self.get(key)
        if lane is None:
            lane = Lane(key, request.gates)
            for gate in request.gates:
                self.at.setdefault(gate, {})[lane] = None
            self[key] = lane  # last: who is in a lane must be found by its gates
        self._came += 1
        waiting = Waiting(request, lane, self._came)
        lane.queue_of(request)[waiting] = None
        return waiting

    def remove(self, waiting: Waiting) -> None:
        """It waits no more. Again: no effect."""
        lane = waiting.lane
        if lane is None:
            return
        lane.queue_of(waiting.request).pop(waiting, None)
        waiting.lane = None
        if not lane.retries and not lane.first_attempts:
            del self[lane.key]
            for gate in lane.gates:
                self.at[gate].pop(lane, None)
                if not self.at[gate]:
                    del self.at[gate]
