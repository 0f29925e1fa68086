"""A lane: those who wait for the same gates, and how each is woken."""

from __future__ import annotations

from collections import OrderedDict

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
        self.asleep_until = NEVER
        self.tell()

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
