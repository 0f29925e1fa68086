"""Those who wait, in order: retries first, then first come, first served.

A line serves any number of gates. An attempt that needs several is admitted by all of them together or by none, so what
waits holds nothing, and no order in which gates are shared can deadlock. Attempts that need the same gates form a lane;
only the first in a lane is ever asked about, and only it waits on time: the others sleep until they are admitted or
come first. Whoever frees a place admits the next and wakes exactly that thread. Nobody polls; there is no thread of
its own; the lock is never held while waiting.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from llm_guard import clock
from llm_guard.call import FOREVER, CutOff
from llm_guard.errors import Cancelled, Rejected, Saturated
from llm_guard.fork import renew_after_fork
from llm_guard.outcome import IGNORED
from llm_guard.state.gate import Ending, Gate, Request


class _Waiting:
    """A request in the line, and how to wake its thread."""

    __slots__ = ("asleep_until", "lane", "number", "refusal", "request", "waiter", "wake_at")

    def __init__(self, request: Request, lane: _Lane, number: int) -> None:
        self.request = request
        self.lane: _Lane | None = lane  # None once it has left the line
        self.number = number
        self.waiter: clock.Waiter | None = None
        self.wake_at = FOREVER  # when the gates are worth asking again
        self.asleep_until = -FOREVER  # when its thread wakes by itself
        self.refusal: Rejected | None = None

    def wake(self) -> None:
        self.asleep_until = -FOREVER
        self.tell()

    def tell(self) -> None:
        if self.waiter is not None:
            self.waiter.set()


class _Lane:
    """Those who wait for the same gates."""

    __slots__ = ("first_attempts", "gates", "key", "retries")

    def __init__(self, key: tuple[object, ...], gates: tuple[Gate, ...]) -> None:
        self.key = key
        self.gates = gates
        self.retries: OrderedDict[_Waiting, None] = OrderedDict()
        self.first_attempts: OrderedDict[_Waiting, None] = OrderedDict()

    def queue_of(self, request: Request) -> OrderedDict[_Waiting, None]:
        return self.retries if request.urgent else self.first_attempts

    def head(self) -> _Waiting | None:
        return next(iter(self.retries), None) or next(iter(self.first_attempts), None)


class Line:
    """See the module. Thread-safe; after a fork the child's line is empty and permits from before it are void."""

    def __init__(self) -> None:
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._lock = allocate_lock()
        self._era = object()  # a permit of another era was given before a fork
        self._came = 0
        self._lanes: dict[tuple[object, ...], _Lane] = {}
        self._lanes_at: dict[Gate, dict[_Lane, None]] = {}

    def waiting(self, gate: Gate) -> int:
        """How many wait for `gate`, perhaps among others."""
        with self._lock:
            return sum(len(lane.retries) + len(lane.first_attempts) for lane in self._lanes_at.get(gate, ()))

    def enter(self, request: Request, *, give_up_at: float = FOREVER, cut_off: CutOff | None = None) -> None:
        """Waits until all gates of `request` admit it; its `permits` then go back through `leave`.

        Raises `Saturated` when `give_up_at` (an instant of the clock) is reached first, what a gate refuses with, or
        `Cancelled` when it is cut off.
        """
        time = clock.current()
        with self._lock:
            now = request.since = time.now()
            if not self._lanes:
                ready = self._ask(request, now)
                if ready is True:
                    return
                if isinstance(ready, Rejected):
                    raise ready
            waiting = self._append(request)
            self._serve(request.gates, now)
        if cut_off is not None:
            cut_off.watch(waiting.tell)
        try:
            self._wait(waiting, time, give_up_at, cut_off)
        except BaseException:
            self._abandon(waiting)
            raise
        finally:
            if cut_off is not None:
                cut_off.unwatch(waiting.tell)

    def leave(self, era: object, permits: Iterable[tuple[Gate, Any]], ending: Ending) -> None:
        """Gives permits of a request's `era` back, all at one instant, and admits whoever can go on."""
        with self._lock:
            if era is not self._era:
                return
            now = clock.current().now()
            gates = []
            for gate, permit in permits:
                gate.end(now, permit, ending)
                gates.append(gate)
            if self._lanes:
                self._serve(gates, now)

    def changed(self, gate: Gate) -> None:
        """Asks again on behalf of those who wait for `gate`: call it after a setting of the gate has changed."""
        with self._lock:
            self._serve((gate,), clock.current().now())

    def locked(self) -> Any:
        """The line's lock, for reading or setting a gate's state consistently; hold it briefly."""
        return self._lock

    # What follows is called under the lock, unless it says otherwise.

    def _append(self, request: Request) -> _Waiting:
        key = (request.gates, request.by_call, request.patience is None)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(key, request.gates)
            for gate in request.gates:
                self._lanes_at.setdefault(gate, {})[lane] = None
        self._came += 1
        waiting = _Waiting(request, lane, self._came)
        lane.queue_of(request)[waiting] = None
        return waiting

    def _remove(self, waiting: _Waiting) -> None:
        lane, waiting.lane = waiting.lane, None
        if lane is None:
            return
        del lane.queue_of(waiting.request)[waiting]
        if not lane.retries and not lane.first_attempts:
            del self._lanes[lane.key]
            for gate in lane.gates:
                self._lanes_at[gate].pop(lane, None)
                if not self._lanes_at[gate]:
                    del self._lanes_at[gate]

    def _ask(self, request: Request, now: float) -> bool | float | Rejected:
        """True: admitted by all. A number: the instant at which to ask again."""
        for gate in request.gates:
            at = gate.ready_at(now, request)
            if isinstance(at, Rejected):
                return at
            if at > now:
                return at
        permits: list[Any] = []
        try:
            for gate in request.gates:
                permits.append(gate.start(now, request))
        except Rejected as refused:  # by a circuit that others use past this line
            for gate, permit in zip(request.gates, permits, strict=False):
                gate.end(now, permit, Ending(IGNORED, 0.0))
            return refused
        request.permits = permits
        request.era = self._era
        return True

    def _serve(self, gates: Sequence[Gate], now: float) -> None:
        """Admits, in order, whoever waits for one of `gates` and can start now; sees that the new heads keep time."""
        lanes = {lane: None for gate in gates for lane in self._lanes_at.get(gate, ())}
        while lanes:
            heads = [head for lane in lanes if (head := lane.head()) is not None]
            if len(heads) > 1:
                heads.sort(key=lambda head: (not head.request.urgent, head.number))
            if not any(self._decide(head, now) for head in heads):
                return

    def _decide(self, head: _Waiting, now: float) -> bool:
        """True where the head left the line: admitted or refused."""
        answer = self._ask(head.request, now)
        if answer is True or isinstance(answer, Rejected):
            head.refusal = answer if isinstance(answer, Rejected) else None
            self._remove(head)
            head.wake()
            return True
        head.wake_at = answer
        if head.wake_at < head.asleep_until:
            head.wake()
        return False

    def _wait(self, waiting: _Waiting, time: clock.Clock, give_up_at: float, cut_off: CutOff | None) -> None:
        """Returns when admitted; raises what ended the wait otherwise. Takes the lock itself."""
        while True:
            with self._lock:
                now = time.now()
                if waiting.lane is not None and now >= waiting.wake_at:
                    self._serve(waiting.lane.gates, now)
                if waiting.lane is None:
                    break
                if cut_off is not None and cut_off.is_cut:
                    raise Cancelled("the call was given up while it waited at the door")
                if now >= give_up_at:
                    raise self._no_room(waiting, now)
                until = min(give_up_at, waiting.wake_at if waiting.lane.head() is waiting else FOREVER)
                waiting.asleep_until = until
                waiter = waiting.waiter = time.waiter()
            if cut_off is not None and cut_off.is_cut:
                continue  # it was cut before there was a waiter to tell
            waiter.wait(None if until == FOREVER else until - now)
        if waiting.refusal is not None:
            raise waiting.refusal

    def _abandon(self, waiting: _Waiting) -> None:
        """Its thread gives up, or was interrupted: nothing is left behind. Takes the lock itself."""
        with self._lock:
            now = clock.current().now()
            request = waiting.request
            self._remove(waiting)
            for gate, permit in zip(request.gates, request.permits, strict=False):
                gate.end(now, permit, Ending(IGNORED, 0.0))
            request.permits = []
            self._serve(request.gates, now)

    @staticmethod
    def _no_room(waiting: _Waiting, now: float) -> Saturated:
        blocking = next((gate.name for gate in waiting.request.gates
                         if isinstance(at := gate.ready_at(now, waiting.request), Rejected) or at > now), "door")
        return Saturated(f"{blocking} had no room within {now - waiting.request.since:.3g} s", policy=blocking,
                         retry_after=waiting.wake_at - now if now < waiting.wake_at < FOREVER else None)
