"""Those who wait, in order: retries first, then first come, first served.

A line serves any number of gates. An attempt that needs several is admitted by all of them together or by none, so what
waits holds nothing, and no order in which gates are shared can deadlock. Attempts that need the same gates form a lane;
only the first in a lane is ever asked about, and only it waits on time: the others sleep until they are admitted or
come first. Whoever frees a place admits the next and wakes exactly that thread. Nobody polls; there is no thread of
its own; the lock is never held while waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from functools import partial
from typing import Any

from llm_guard import clock
from llm_guard.call import FOREVER, CutOff
from llm_guard.errors import Cancelled, Rejected, Saturated
from llm_guard.fork import renew_after_fork
from llm_guard.outcome import IGNORED
from llm_guard.state.gate import Ending, Gate, Request, blocking
from llm_guard.state.keyed import G, Keyed, choose
from llm_guard.state.knot import is_knot
from llm_guard.state.lane import Lanes, Waiting
from llm_guard.state.section import InTheMidst, Section


class Line:
    """See the module. Thread-safe; after a fork the child's line is empty and permits from before it are void."""

    def __init__(self) -> None:
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._section = Section()
        self._inside: dict[Request, Collection[Gate]] = {}  # those admitted, with the gates whose permits they hold
        self._lanes = Lanes()

    def waiting(self, gate: Gate) -> int:
        """How many wait for `gate`, perhaps among others."""
        with self.locked():
            return self._lanes.waiting(gate)

    def enter(self, request: Request, *, give_up_at: float = FOREVER, cut_off: CutOff | None = None) -> None:
        """Waits until all gates of `request` admit it; its `permits` then go back through `leave`.

        Raises `Saturated` when `give_up_at` (an instant of the clock) is reached first or when it would wait for
        itself, what a gate refuses with, or `Cancelled` when it is cut off.
        """
        waiting = None
        try:
            time = clock.current()
            if self._section.later:
                self._section.catch_up()
            with self._section.checked():
                now = request.since = time.now()
                if request.keys is not None:
                    choose(request, self._lanes.at.__contains__)
                if (self._lanes and self._lanes.are_awaited(request.gates)) or self._ask(request, now) is not None:
                    waiting = self._lanes.append(request)
                    self._serve(request.gates, now)
                    if request.nested and waiting.lane is not None:
                        self._refuse_knot(waiting, now)
            if self._section.later:
                self._section.catch_up()
            if waiting is not None:
                if cut_off is not None:
                    cut_off.watch(waiting.tell)
                self._wait(waiting, time, give_up_at, cut_off)
            if request.refusal is not None:
                raise request.refusal
        except InTheMidst:
            raise Saturated("a finaliser ran in the midst of another call, and cannot wait", policy="door") from None
        except BaseException:
            request.refusal = None  # an error that is held where it is raised would hold its whole call
            try:
                self._abandon(request, None, waiting)
                request.permits = ()
            except BaseException:
                self._section.put_off(partial(self._abandon, request, None, waiting))
                raise
            raise
        finally:
            if cut_off is not None and waiting is not None:
                cut_off.unwatch(waiting.tell)

    def try_enter(self, request: Request, now: Callable[[], float]) -> bool:
        """Admits `request`, which has no keys, where nobody waits for its gates and all are open; else leaves all as it
        is, for `enter`."""
        section = self._section
        if section.later or section.is_mine():
            return False
        with section:
            if self._lanes and self._lanes.are_awaited(request.gates):
                return False
            at = request.since = now()
            for gate in request.gates:
                ready_at = gate.ready_at(at, request)
                if type(ready_at) is not float or ready_at > at:
                    return False
            self._start(request, at)
            return request.refusal is None

    def leave_whole(self, request: Request, ending: Ending, now: Callable[[], float]) -> None:
        """`leave`, with all permits of `request`."""
        section = self._section
        if section.later or section.afterwards or section.is_mine():
            self.leave(request, list(zip(request.gates, request.permits, strict=True)), ending)
            return
        with section:
            if request not in self._inside:
                return  # of before a fork
            at, ended = now(), 0
            try:
                for gate, permit in zip(request.gates, request.permits):  # noqa: B905 - a check takes a third of the time
                    gate.end(at, permit, ending)
                    ended += 1
                del self._inside[request]
                if self._lanes:
                    self._serve(request.gates, at)
            except BaseException as error:
                if request in self._inside:
                    self._inside[request] = request.gates[ended:]
                section.put_off(partial(self._abandon, request))
                if not isinstance(error, RecursionError):
                    raise
        if section.later:
            section.catch_up()

    def leave(self, request: Request, permits: Sequence[tuple[Gate, Any]], ending: Ending) -> None:
        """Gives permits of `request` back, all at one instant, and admits whoever can go on.

        Those of before a fork are void, and so are those that were given back before. What there is no room for on the
        stack, or what is interrupted, whoever comes next does; then an ending may count for none.
        """
        try:
            self._do(lambda: self._take_back(request, permits, ending))
        except BaseException as error:
            self._section.later.append(partial(self._abandon, request, permits))  # not `put_off`: a frame less
            self._section.tell_parked()
            if not isinstance(error, RecursionError):
                raise

    def leave_later(self, request: Request, permits: Sequence[tuple[Gate, Any]], ending: Ending,
                    follow: Callable[[], object] | None = None) -> None:
        """`leave`, for a finaliser: takes no lock. Whoever comes to the line next does it, or one who waits there.

        `follow` is called afterwards, by the next who leaves or looks: who was let in just now might wait in there for
        what it holds itself.
        """
        def change() -> Callable[[], object] | None:
            self._take_back(request, permits, ending)
            return follow

        self._section.put_off(change)

    def gate_of(self, family: Keyed[G], key: Hashable) -> G:
        """The gate of `key`, as an attempt would have it."""
        with self._section:
            return family.of(key, self._lanes.at.__contains__)

    def changed(self, gate: Gate) -> None:
        """Asks again on behalf of those who wait for `gate`: call it after a setting of the gate has changed."""
        self._do(lambda: self._serve((gate,), clock.current().now()))

    def locked(self) -> Section:
        """To read or set a gate's state consistently; briefly."""
        if self._section.later:
            self._section.catch_up()
        if self._section.afterwards:
            self._section.follow_up()
        return self._section

    def _do(self, change: Callable[[], None]) -> None:
        """Makes a change inside; a finaliser that comes in the midst of another leaves it to that one."""
        try:
            with self._section.checked():
                change()
        except InTheMidst:
            self._section.later.append(change)
        if self._section.later:
            self._section.catch_up()
        if self._section.afterwards:
            self._section.follow_up()

    # What follows is called inside, unless it says otherwise.

    def _take_back(self, request: Request, permits: Sequence[tuple[Gate, Any]], ending: Ending) -> None:
        """Again, after it was cut short: does what is left."""
        if request not in self._inside:
            return
        held = self._inside[request] = dict.fromkeys(self._inside[request])
        now = clock.current().now()
        for gate, permit in permits:
            if gate in held:
                gate.end(now, permit, ending)
                del held[gate]
        if self._lanes:
            self._serve(request.gates, now)
        if not held:
            del self._inside[request]

    def _ask(self, request: Request, now: float) -> float | None:
        """None: it is admitted by all, or refused. A number: the instant at which to ask again."""
        for gate in request.gates:
            at = gate.ready_at(now, request)
            if isinstance(at, Rejected):
                request.refusal = at
                return None
            if at > now:
                return at
        self._start(request, now)
        return None

    def _start(self, request: Request, now: float) -> None:
        """All its gates are open: it is admitted, or refused after all."""
        permits: list[Any] = []
        try:
            for gate in request.gates:
                permits.append(gate.start(now, request))
        except BaseException as error:  # an interrupt, or a circuit that others use past this line
            for gate, permit in zip(request.gates, permits, strict=False):
                gate.end(now, permit, Ending(IGNORED, 0.0))
            if not isinstance(error, Rejected):
                raise
            request.refusal = error
            return
        request.permits = permits
        self._inside[request] = request.gates

    def _serve(self, gates: Sequence[Gate], now: float) -> None:
        """Admits, in order, whoever waits for one of `gates` and can start now; sees that the new heads keep time."""
        lanes = {lane: None for gate in gates for lane in self._lanes.at.get(gate, ())}
        while lanes:
            heads = [head for lane in lanes if (head := lane.head()) is not None]
            if len(heads) > 1:
                heads.sort(key=lambda head: (not head.request.urgent, head.number))
            if not any(self._decide(head, now) for head in heads):
                return

    def _decide(self, head: Waiting, now: float) -> bool:
        """True where the head left the line: admitted or refused."""
        again_at = None if self._is_decided(head.request) else self._ask(head.request, now)
        if again_at is None:
            head.wake()
            self._lanes.remove(head)
            return True
        if again_at == FOREVER and head.request.nested and self._refuse_knot(head, now):
            return True
        head.wake_at = again_at
        if head.wake_at < head.asleep_until:
            head.wake()
        return False

    def _is_decided(self, request: Request) -> bool:
        """Whether it was admitted or refused: one that is still in line then was not taken out for an interrupt."""
        return request in self._inside or request.refusal is not None

    def _wait(self, waiting: Waiting, time: clock.Clock, give_up_at: float, cut_off: CutOff | None) -> None:
        """Returns when admitted; raises what ended the wait otherwise. Goes inside itself."""
        while True:
            with self._section:
                now = time.now()
                if self._is_decided(waiting.request):
                    self._lanes.remove(waiting)
                elif waiting.lane is not None and now >= waiting.wake_at:
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
            self._section.park(waiter, None if until == FOREVER else until - now)

    def _abandon(self, request: Request, permits: Sequence[tuple[Gate, Any]] | None = None,
                 waiting: Waiting | None = None) -> None:
        """Its thread gives up, was interrupted, or has no room on its stack: of `permits`, or of all it has, nothing is
        left behind. Again: does what is left. Goes inside itself."""
        with self._section:
            if waiting is not None:
                self._section.forget(waiting.waiter)
                self._lanes.remove(waiting)
            if permits is None:  # none, where it was not admitted
                permits = list(zip(request.gates, request.permits, strict=False))
            self._take_back(request, permits, Ending(IGNORED, 0.0))
            self._serve(request.gates, clock.current().now())
        self._section.catch_up()

    def _refuse_knot(self, waiting: Waiting, now: float) -> bool:
        """Refuses a call that would wait for itself: all that could make room for it wait too, in the end for it."""
        waits_at = self._waits_at(waiting.request, now)
        if waits_at is None or not is_knot(waits_at, self._holders, lambda owner: self._owner_waits_at(owner, now)):
            return False
        message = f"{waits_at.name} would never have room: those who hold it wait for this call"
        waiting.request.refusal = Saturated(message, policy=waits_at.name)
        self._lanes.remove(waiting)
        waiting.wake()
        return True

    @staticmethod
    def _waits_at(request: Request, now: float) -> Gate | None:
        """The gate at which it waits for others to end; None where it waits for time alone."""
        gate, at = blocking(request, now)
        return gate if at == FOREVER else None

    def _owner_waits_at(self, owner: object, now: float) -> Gate | None:
        request = self._lanes.waits_of(owner)
        return None if request is None else self._waits_at(request, now)

    def _holders(self, gate: Gate) -> list[object]:
        return [request.owner or request for request, held in self._inside.items() if gate in held]

    @staticmethod
    def _no_room(waiting: Waiting, now: float) -> Saturated:
        gate, _ = blocking(waiting.request, now)
        name = "door" if gate is None else gate.name
        return Saturated(f"{name} had no room within {now - waiting.request.since:.3g} s", policy=name,
                         retry_after=waiting.wake_at - now if now < waiting.wake_at < FOREVER else None,
                         by_key=getattr(gate, "by_key", False))  # only a limit can be a key's own
