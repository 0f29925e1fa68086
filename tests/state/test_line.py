"""The line: all gates or none, retries first, then first come, first served; whoever gives up leaves nothing behind."""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from random import Random
from types import FrameType
from typing import Any

import pytest
from jobs import all_of

from llm_guard import clock as seam
from llm_guard.call import FOREVER, CutOff
from llm_guard.clock.virtual import Deadlock, VirtualClock, VirtualWaiter
from llm_guard.errors import Cancelled, GuardError, Rejected, Saturated
from llm_guard.outcome import IGNORED, SUCCESS, Outcome
from llm_guard.state.bucket import LeakGate
from llm_guard.state.gate import Ending, Gate, Request
from llm_guard.state.lane import Lane, Lanes, Waiting
from llm_guard.state.limiter import LimitGate
from llm_guard.state.line import Line

DONE = Ending(SUCCESS, 1.0)


class Watched:
    """A waiter of a clock that counts, and that can be made to go wrong."""

    def __init__(self, clock: WatchedClock, waiter: VirtualWaiter) -> None:
        self._clock, self._waiter = clock, waiter
        self._parked = self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.waits.append(timeout)
        self._clock.before_wait()
        self._parked = True
        try:
            return self._waiter.wait(timeout)
        finally:
            self._parked = False
            self._clock.after_wait()

    def set(self) -> None:
        if self._parked and not self._is_set:
            self._clock.woken += 1
        self._is_set = True
        self._waiter.set()


class WatchedClock(VirtualClock):
    """Counts waits and the parked threads that are woken, and runs hooks about a wait."""

    def __init__(self, seed: int = 0, *, shuffle: bool = False) -> None:
        super().__init__(seed, shuffle=shuffle)
        self.waits: list[float | None] = []
        self.woken = 0
        self.before_waiter: Callable[[], object] = lambda: None
        self.before_wait: Callable[[], object] = lambda: None
        self.after_wait: Callable[[], object] = lambda: None

    def waiter(self) -> Any:
        self.before_waiter()
        return Watched(self, super().waiter())


class Lid:
    """A gate that is opened by hand, or at an instant, or refuses; it counts what it is asked and keeps who started."""

    outlives = False

    def __init__(self, opens_at: float = FOREVER, name: str = "lid") -> None:
        self.name = name
        self.answer: float | Callable[[], Rejected] = opens_at
        self.asked = 0
        self.started: list[Request] = []
        self.ended: list[tuple[Any, Outcome]] = []

    def ready_at(self, now: float, request: Request) -> float | Rejected:
        self.asked += 1
        return self.answer() if callable(self.answer) else self.answer

    def start(self, now: float, request: Request) -> int:
        self.started.append(request)
        return len(self.started)

    def end(self, now: float, permit: Any, ending: Ending) -> None:
        self.ended.append((permit, ending.outcome))

    def is_probe(self, permit: Any) -> bool:
        return False


class Crowd:
    """Threads that enter a line; `ends` tells, in order, how each ended."""

    def __init__(self, clock: VirtualClock, line: Line) -> None:
        self.clock, self.line = clock, line
        self.ends: list[tuple[str, object]] = []
        self.at: dict[str, float] = {}
        self.requests: dict[str, Request] = {}

    def enter(self, name: str, *gates: Gate, give_up_at: float = FOREVER, cut_off: CutOff | None = None,
              **request: Any) -> None:
        """Has a thread called `name` enter, and lets it go as far as it can."""
        mine = self.requests[name] = Request(gates)
        for fact, value in request.items():
            setattr(mine, fact, value)

        def run() -> None:
            end: object = None
            try:
                self.line.enter(mine, give_up_at=give_up_at, cut_off=cut_off)
            except (Exception, KeyboardInterrupt) as error:
                end = error
            self.ends.append((name, end))
            self.at[name] = self.clock.now()

        self.clock.spawn(run, name)
        self.settle()

    def settle(self) -> None:
        """Lets everybody go on who can, without time passing."""
        for _ in range(30):
            self.clock.sleep(0)

    def leave(self, name: str, ending: Ending = DONE) -> None:
        mine = self.requests[name]
        self.line.leave(mine, list(zip(mine.gates, mine.permits, strict=True)), ending)
        self.settle()

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.ends]

    def error(self, name: str) -> object:
        return dict(self.ends)[name]


# Alone


def test_who_finds_all_gates_open_enters_at_once_with_a_permit_of_each() -> None:
    with WatchedClock() as clock:
        line, gates = Line(), [Lid(0.0), Lid(-FOREVER), LimitGate(1)]
        request = Request(gates)
        line.enter(request, give_up_at=0.0)
        assert request.permits == [1, 1, None]
        assert gates[2].in_flight == 1
        assert clock.waits == []
        line.leave(request, list(zip(gates, request.permits, strict=True)), DONE)
        assert gates[0].ended == gates[1].ended == [(1, SUCCESS)]
        assert gates[2].in_flight == 0


def test_since_is_the_instant_of_coming_not_of_starting() -> None:
    with VirtualClock() as clock:
        line, request = Line(), Request([Lid(5.0)])
        clock.sleep(2.0)
        line.enter(request)
        assert clock.now() == 5.0
        assert request.since == 2.0


def test_a_refusal_on_arrival_is_raised_and_leaves_nothing() -> None:
    with VirtualClock():
        line, gate = Line(), Lid()
        limit = LimitGate(1)
        gate.answer = lambda: Rejected("closed", policy="lid", retry_after=3.0)
        with pytest.raises(Rejected) as refused:
            line.enter(Request([limit, gate]))
        assert (refused.value.policy, refused.value.retry_after) == ("lid", 3.0)
        assert (limit.in_flight, line.waiting(gate), line.waiting(limit)) == (0, 0, 0)


@pytest.mark.parametrize("others_wait", [False, True])
def test_giving_up_names_the_gate_that_had_no_room_and_when_it_has(others_wait: bool) -> None:
    with VirtualClock() as clock:
        line, limit, lid, elsewhere = Line(), LimitGate(1), Lid(9.0, "pace"), Lid()
        crowd = Crowd(clock, line)
        if others_wait:
            crowd.enter("other", elsewhere)
        clock.sleep(1.0)
        with pytest.raises(Saturated) as gave_up:
            line.enter(Request([limit, lid]), give_up_at=4.0)
        assert clock.now() == 4.0
        assert gave_up.value.policy == "pace"
        assert gave_up.value.retry_after == pytest.approx(5.0)
        assert "3 s" in str(gave_up.value)
        assert (limit.in_flight, line.waiting(limit), line.waiting(lid)) == (0, 0, 0)


def test_giving_up_at_the_very_instant_of_opening_is_entering() -> None:
    with VirtualClock():
        line, lid = Line(), Lid(4.0)
        line.enter(Request([lid]), give_up_at=4.0)
        assert len(lid.started) == 1


def test_nobody_knows_when_a_place_comes_free() -> None:
    with VirtualClock():
        line, limit = Line(), LimitGate(1, "bounded")
        line.enter(Request([limit]))
        with pytest.raises(Saturated) as gave_up:
            line.enter(Request([limit]), give_up_at=1.0)
        assert (gave_up.value.policy, gave_up.value.retry_after) == ("bounded", None)


# All or nothing, and in order


def test_who_waits_for_one_gate_holds_no_other() -> None:
    with VirtualClock() as clock:
        line, x, y = Line(), LimitGate(1), LimitGate(1)
        crowd = Crowd(clock, line)
        crowd.enter("holds y", y)
        crowd.enter("both", x, y)
        assert (x.in_flight, y.in_flight) == (0, 1)
        assert (line.waiting(x), line.waiting(y)) == (1, 1)
        crowd.enter("only x", x)
        assert crowd.names == ["holds y", "only x"]
        crowd.leave("holds y")
        assert (x.in_flight, y.in_flight) == (1, 0)
        crowd.leave("only x")
        assert crowd.names == ["holds y", "only x", "both"]
        assert (x.in_flight, y.in_flight) == (1, 1)


def test_a_lane_that_is_stuck_holds_up_no_other() -> None:
    with VirtualClock() as clock:
        line, x, shut = Line(), LimitGate(2), Lid()
        crowd = Crowd(clock, line)
        for number in range(5):
            crowd.enter(f"stuck {number}", x, shut)
        for number in range(2):
            crowd.enter(f"free {number}", x)
        assert crowd.names == ["free 0", "free 1"]
        assert line.waiting(shut) == line.waiting(x) == 5


def test_first_come_first_served_and_nobody_barges_in() -> None:
    with VirtualClock() as clock:
        line, x = Line(), LimitGate(1)
        crowd = Crowd(clock, line)
        for number in range(6):
            crowd.enter(str(number), x)
        for number in range(5):
            crowd.leave(str(number))
            crowd.enter(f"newcomer {number}", x, give_up_at=clock.now())
        assert [name for name in crowd.names if "new" not in name] == ["0", "1", "2", "3", "4", "5"]
        assert all(isinstance(crowd.error(f"newcomer {number}"), Saturated) for number in range(5))


def test_retries_go_before_first_attempts_and_among_them_the_oldest() -> None:
    with VirtualClock() as clock:
        line, x, y = Line(), LimitGate(1), LimitGate(9)
        crowd = Crowd(clock, line)
        crowd.enter("holds", x)
        crowd.enter("first a", x)
        crowd.enter("first b", x, y)
        crowd.enter("retry a", y, x, urgent=True)
        crowd.enter("first c", y, x)
        crowd.enter("retry b", x, urgent=True)
        order = ["holds", "retry a", "retry b", "first a", "first b", "first c"]
        for name in order:
            assert crowd.names[-1] == name
            crowd.leave(name)
        assert crowd.names == order


@pytest.mark.parametrize("seed", range(5))
def test_across_lanes_the_oldest_goes_first(seed: int) -> None:
    with VirtualClock(seed, shuffle=True) as clock:
        line, shared = Line(), LimitGate(1)
        others = [LimitGate(99) for _ in range(3)]
        crowd = Crowd(clock, line)
        crowd.enter("0", shared)
        for number in range(1, 30):
            gates = [shared, *clock.random.sample(others, clock.random.randrange(4))]
            clock.random.shuffle(gates)
            crowd.enter(str(number), *gates)
        for number in range(30):
            assert crowd.names[-1] == str(number)
            crowd.leave(str(number))


def test_one_that_would_rather_be_refused_does_not_wait_behind_one_that_is_patient() -> None:
    class Circuit(Lid):
        def ready_at(self, now: float, request: Request) -> float | Rejected:
            patient = request.patience is not None and request.by_call == 0
            return FOREVER if patient else Rejected("open", policy="circuit")

    with VirtualClock() as clock:
        line, circuit = Line(), Circuit()
        crowd = Crowd(clock, line)
        crowd.enter("patient", circuit, patience=5.0)
        crowd.enter("impatient", circuit)
        crowd.enter("by call", circuit, patience=5.0, by_call=1)
        assert crowd.names == ["impatient", "by call"]
        assert line.waiting(circuit) == 1


def test_two_lanes_with_equal_gates_but_other_patience_are_served_by_age() -> None:
    with VirtualClock() as clock:
        line, x = Line(), LimitGate(1)
        crowd = Crowd(clock, line)
        for number, patience in enumerate([None, 5.0, None, 7.0, 5.0, None]):
            crowd.enter(str(number), x, patience=patience, by_call=number % 2)
        for number in range(6):
            crowd.leave(str(number))
        assert crowd.names == [str(number) for number in range(6)]


def test_what_is_given_back_together_admits_whoever_needs_it_all() -> None:
    with WatchedClock() as clock:
        line, x, y = Line(), LimitGate(1), LimitGate(1)
        crowd = Crowd(clock, line)
        crowd.enter("holds", x, y)
        crowd.enter("both", y, x)
        crowd.enter("behind", y, x)
        woken = clock.woken
        crowd.leave("holds")
        assert crowd.names == ["holds", "both"]
        assert clock.woken == woken + 1


def test_one_that_leaves_admits_as_many_as_there_is_room_for() -> None:
    with WatchedClock() as clock:
        line, x = Line(), LimitGate(1)
        crowd = Crowd(clock, line)
        for number in range(10):
            crowd.enter(str(number), x)
        x.limit = 4
        crowd.leave("0")
        assert crowd.names == ["0", "1", "2", "3", "4"]
        assert clock.woken == 4


def test_a_change_by_hand_admits_those_it_concerns() -> None:
    with VirtualClock() as clock:
        line, lid, other = Line(), Lid(), Lid()
        crowd = Crowd(clock, line)
        for number in range(3):
            crowd.enter(str(number), lid)
        crowd.enter("other", other)
        line.changed(lid)
        assert crowd.names == []
        lid.answer = clock.now()
        line.changed(lid)
        crowd.settle()
        assert sorted(crowd.names) == ["0", "1", "2"]
        assert (line.waiting(lid), line.waiting(other)) == (0, 1)


# On time


def test_only_the_first_in_a_lane_waits_on_time() -> None:
    with WatchedClock() as clock:
        line, leak = Line(), LeakGate(1.0)
        crowd = Crowd(clock, line)
        for number in range(50):
            crowd.enter(str(number), leak)
        assert crowd.names == ["0"]
        assert [timeout for timeout in clock.waits if timeout is not None] == [1.0]
        clock.sleep(60.0)
        assert crowd.names == [str(number) for number in range(50)]
        assert [crowd.at[str(number)] for number in range(50)] == [float(number) for number in range(50)]
        assert clock.woken == 48  # each that came to be the first, once; it enters by itself
        assert len(clock.waits) == 49 + 48


def test_a_retry_that_comes_first_keeps_time_for_those_behind() -> None:
    with VirtualClock() as clock:
        line, leak = Line(), LeakGate(1.0)
        crowd = Crowd(clock, line)
        for name in ("a", "b", "c"):
            crowd.enter(name, leak)
        clock.sleep(0.5)
        crowd.enter("retry", leak, urgent=True)
        clock.sleep(10.0)
        assert crowd.at == {"a": 0.0, "retry": 1.0, "b": 2.0, "c": 3.0}


def test_one_that_a_retry_overtook_does_not_wake_at_its_old_time_again_and_again() -> None:
    with WatchedClock() as clock:
        line, lid = Line(), Lid(1.0)
        crowd = Crowd(clock, line)
        crowd.enter("overtaken", lid)
        clock.sleep(0.5)
        crowd.enter("retry", lid, urgent=True)
        lid.answer = 2.0
        clock.sleep(1.0)
        assert crowd.names == []
        assert len(clock.waits) <= 4
        clock.sleep(1.0)
        assert crowd.names == ["retry", "overtaken"]


@pytest.mark.parametrize("how", ["gives up", "is cut off", "is interrupted"])
def test_when_the_first_goes_away_the_next_keeps_time(how: str) -> None:
    with WatchedClock() as clock:
        line, lid, cut_off = Line(), Lid(10.0), CutOff()
        crowd = Crowd(clock, line)
        crowd.enter("first", lid, give_up_at=5.0 if how == "gives up" else FOREVER, cut_off=cut_off, urgent=True)
        crowd.enter("second", lid)
        clock.sleep(5.0)
        if how == "is interrupted":
            clock.after_wait = lambda: _interrupt(clock)
        if how != "gives up":
            cut_off.cut()
        clock.sleep(20.0)
        assert crowd.names == ["first", "second"]
        assert crowd.at == {"first": 5.0, "second": 10.0}
        kind = {"gives up": Saturated, "is cut off": Cancelled, "is interrupted": KeyboardInterrupt}[how]
        assert type(crowd.error("first")) is kind


def test_a_gate_that_opens_later_than_it_said_is_asked_again_and_not_without_end() -> None:
    with VirtualClock() as clock:
        line, lid = Line(), Lid(1.0)
        crowd = Crowd(clock, line)
        for number in range(20):
            crowd.enter(str(number), lid)
        asked = lid.asked
        for later in (2.0, 3.0, 4.0):
            lid.answer = later
            clock.sleep(1.0)
        assert crowd.names == []
        assert lid.asked - asked <= 2 * 3
        clock.sleep(1.0)
        assert crowd.names == [str(number) for number in range(20)]


def test_a_gate_that_opens_earlier_than_it_said_is_passed_when_that_is_told() -> None:
    with VirtualClock() as clock:
        line, lid = Line(), Lid(100.0)
        crowd = Crowd(clock, line)
        crowd.enter("a", lid)
        crowd.enter("b", lid)
        clock.sleep(1.0)
        lid.answer = 3.0
        line.changed(lid)
        lid.answer = 2.0
        line.changed(lid)
        clock.sleep(10.0)
        assert crowd.at == {"a": 2.0, "b": 2.0}


def test_of_two_gates_the_later_one_counts_whichever_is_asked_first() -> None:
    with VirtualClock() as clock:
        line, early, late = Line(), Lid(2.0), Lid(5.0)
        crowd = Crowd(clock, line)
        crowd.enter("a", early, late)
        crowd.enter("b", late, early)
        clock.sleep(10.0)
        assert crowd.at == {"a": 5.0, "b": 5.0}
        assert early.asked < 12


# Refused, cut off, interrupted


def test_a_refusal_reaches_everybody_who_waits_for_that_gate() -> None:
    with VirtualClock() as clock:
        line, breaker, x, elsewhere = Line(), Lid(), LimitGate(1), Lid()
        crowd = Crowd(clock, line)
        for number in range(20):
            crowd.enter(f"a {number}", breaker)
            crowd.enter(f"b {number}", x, breaker, urgent=number % 3 == 0)
        crowd.enter("elsewhere", x, elsewhere)
        breaker.answer = lambda: Rejected("open", policy="breaker", retry_after=5.0)
        line.changed(breaker)
        crowd.settle()
        assert len(crowd.ends) == 40
        errors = [error for _, error in crowd.ends]
        assert all(isinstance(error, Rejected) and error.retry_after == 5.0 for error in errors)
        assert len({id(error) for error in errors}) == 40
        assert (x.in_flight, line.waiting(breaker), line.waiting(x)) == (0, 0, 1)


def test_a_refusal_of_one_lets_the_next_be_asked() -> None:
    with VirtualClock() as clock:
        line, lid = Line(), Lid()
        crowd = Crowd(clock, line)
        for name in ("refused", "enters"):
            crowd.enter(name, lid)
        answers: list[Any] = [Rejected("not you", policy="lid"), 0.0]
        lid.answer = lambda: answers.pop(0)
        line.changed(lid)
        crowd.settle()
        assert isinstance(crowd.error("refused"), Rejected)
        assert crowd.error("enters") is None


@pytest.mark.parametrize("others_wait", [False, True])
def test_a_gate_that_refuses_when_it_is_to_start_costs_no_place_at_the_others(others_wait: bool) -> None:
    class Trap(Lid):
        def start(self, now: float, request: Request) -> int:
            raise Rejected("opened meanwhile", policy="trap")

    with VirtualClock() as clock:
        line, x, lid, trap = Line(), LimitGate(1), Lid(0.0), Trap(0.0)
        crowd = Crowd(clock, line)
        if others_wait:
            crowd.enter("holds", x)
            crowd.enter("refused", x, lid, trap)
            crowd.enter("next", x)
            crowd.leave("holds")
            assert isinstance(crowd.error("refused"), Rejected)
            assert crowd.error("next") is None
            crowd.leave("next")
        else:
            with pytest.raises(Rejected, match="meanwhile"):
                line.enter(Request([x, lid, trap]))
        assert lid.ended == [(1, IGNORED)]
        assert (x.in_flight, line.waiting(x)) == (0, 0)


@pytest.mark.parametrize("others_wait", [False, True])
def test_one_that_is_cut_off_before_it_waits_does_not_wait(others_wait: bool) -> None:
    with VirtualClock() as clock:
        line, lid, x, cut_off = Line(), Lid(), LimitGate(1), CutOff()
        crowd = Crowd(clock, line)
        if others_wait:
            crowd.enter("other", lid)
        cut_off.cut()
        with pytest.raises(Cancelled):
            line.enter(Request([x, lid]), cut_off=cut_off)
        assert clock.now() == 0.0
        assert (x.in_flight, line.waiting(x), line.waiting(lid)) == (0, 0, int(others_wait))


def test_those_cut_off_while_they_wait_go_and_the_others_stay_in_order() -> None:
    with VirtualClock() as clock:
        line, x = Line(), LimitGate(1)
        crowd = Crowd(clock, line)
        cuts = [CutOff() for _ in range(9)]
        for number, cut_off in enumerate(cuts):
            crowd.enter(str(number), x, cut_off=cut_off)
        for number in (1, 4, 8):  # the first, the middle, the last
            cuts[number].cut()
        crowd.settle()
        assert [name for name, error in crowd.ends if isinstance(error, Cancelled)] == ["1", "4", "8"]
        assert line.waiting(x) == 5
        for name in ("0", "2", "3", "5", "6", "7"):
            crowd.leave(name)
        assert crowd.names[4:] == ["2", "3", "5", "6", "7"]
        assert x.in_flight == 0


@pytest.mark.parametrize("when", ["before_waiter", "before_wait"])
def test_a_cut_between_the_last_look_and_the_wait_is_seen(when: str) -> None:
    with WatchedClock() as clock:
        line, cut_off = Line(), CutOff()
        setattr(clock, when, cut_off.cut)
        with pytest.raises(Cancelled):
            line.enter(Request([Lid()]), cut_off=cut_off)


def test_a_cut_after_the_place_was_handed_over_comes_too_late_and_the_permit_is_kept() -> None:
    with VirtualClock() as clock:
        line, x, cut_off = Line(), LimitGate(1), CutOff()
        crowd = Crowd(clock, line)
        crowd.enter("holds", x)
        crowd.enter("waits", x, cut_off=cut_off)
        held = crowd.requests["holds"]
        line.leave(held, [(x, None)], DONE)
        cut_off.cut()
        crowd.settle()
        assert crowd.error("waits") is None
        assert x.in_flight == 1


def test_a_cut_off_forgets_those_who_no_longer_wait() -> None:
    with VirtualClock():
        line, cut_off = Line(), CutOff()
        with pytest.raises(Saturated):
            line.enter(Request([Lid()]), cut_off=cut_off, give_up_at=1.0)
        line.enter(Request([Lid(2.0)]), cut_off=cut_off)
        assert not cut_off._watchers


def _interrupt(clock: WatchedClock) -> None:
    """Once: as Ctrl-C does it, out of the wait."""
    clock.before_wait = clock.after_wait = lambda: None
    raise KeyboardInterrupt


def test_an_interrupt_before_the_wait_leaves_nothing_behind() -> None:
    with WatchedClock() as clock:
        line, x, lid = Line(), LimitGate(1), Lid()
        clock.before_wait = lambda: _interrupt(clock)
        with pytest.raises(KeyboardInterrupt):
            line.enter(Request([x, lid]))
        assert (x.in_flight, line.waiting(x), line.waiting(lid)) == (0, 0, 0)


class CutShort(LimitGate):
    """Its first end does not come about."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__(1)
        self.errors = [error]

    def end(self, now: float, permit: None, ending: Ending) -> None:
        if self.errors:
            raise self.errors.pop()
        super().end(now, permit, ending)


def _leave(line: Line, request: Request, whole: bool) -> None:
    if whole:
        line.leave_whole(request, DONE, seam.current().now)
    else:
        line.leave(request, list(zip(request.gates, request.permits, strict=True)), DONE)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in parts"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RecursionError])
def test_what_is_cut_short_while_permits_go_back_whoever_looks_next_does(whole: bool,
                                                                         error: type[BaseException]) -> None:
    line, gates = Line(), [LimitGate(1), CutShort(error), LimitGate(1)]
    request = Request(gates)
    line.enter(request)
    if error is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            _leave(line, request, whole)
    else:
        _leave(line, request, whole)
    assert line.waiting(gates[0]) == 0
    assert [gate.in_flight for gate in gates] == [0, 0, 0]
    _leave(line, request, whole)  # no effect
    assert [gate.in_flight for gate in gates] == [0, 0, 0]


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in parts"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RecursionError])
def test_what_is_cut_short_while_permits_go_back_one_who_waits_does(whole: bool, error: type[BaseException]) -> None:
    with VirtualClock() as clock:
        line, gate = Line(), CutShort(error)
        request, entered = Request([gate]), []
        line.enter(request)

        def wait() -> None:
            line.enter(Request([gate]))
            entered.append(clock.now())

        def leave() -> None:
            clock.sleep(5)
            try:
                _leave(line, request, whole)
            except KeyboardInterrupt:
                assert error is KeyboardInterrupt

        all_of(clock, [wait, leave])
        assert entered == [5]
        assert gate.in_flight == 1


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in parts"])
def test_those_who_wait_are_served_though_that_was_cut_short(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with VirtualClock() as clock:
        line, gate = Line(), LimitGate(1)
        request, entered = Request([gate]), []
        line.enter(request)
        serve, errors = line._serve, [RecursionError]

        def serves(gates: Sequence[Gate], now: float) -> None:
            if clock.now() == 5 and errors:
                raise errors.pop()
            serve(gates, now)

        def wait() -> None:
            line.enter(Request([gate]))
            entered.append(clock.now())

        def leave() -> None:
            clock.sleep(5)
            _leave(line, request, whole)

        monkeypatch.setattr(line, "_serve", serves)
        all_of(clock, [wait, leave])
        assert entered == [5]
        assert gate.in_flight == 1


@pytest.mark.parametrize("late", [True, False], ids=["taken out of its lane", "still in its lane"])
def test_an_interrupt_while_one_is_let_in_does_not_let_it_in_twice(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with VirtualClock() as clock:
        line, gate = Line(), LimitGate(1)
        request, entered, remove = Request([gate]), [], Lanes.remove
        line.enter(request)

        def interrupted(lanes: Lanes, waiting: Waiting) -> None:
            monkeypatch.setattr(Lanes, "remove", remove)
            if late:
                assert waiting.lane is not None
                del waiting.lane.queue_of(waiting.request)[waiting]
            raise KeyboardInterrupt

        def wait() -> None:
            mine = Request([gate])
            line.enter(mine)
            entered.append(clock.now())
            line.leave_whole(mine, DONE, clock.now)

        def leave() -> None:
            clock.sleep(5)
            monkeypatch.setattr(Lanes, "remove", interrupted)
            with pytest.raises(KeyboardInterrupt):
                line.leave_whole(request, DONE, clock.now)

        all_of(clock, [wait, leave])
        assert entered == [5]
        assert gate.in_flight == 0


def test_an_interrupt_while_a_lane_is_made_does_not_hide_those_who_come_into_it() -> None:
    errors = [KeyboardInterrupt]

    class Interrupted(dict[Gate, dict[Lane, None]]):
        def setdefault(self, gate: Gate, lanes: Any = None) -> Any:
            if errors:
                raise errors.pop()
            return super().setdefault(gate, lanes)

    with VirtualClock() as clock:
        line, gate = Line(), LimitGate(1)
        request, entered = Request([gate]), []
        line.enter(request)
        line._lanes.at = Interrupted()
        with pytest.raises(KeyboardInterrupt):
            line.enter(Request([gate]))

        def wait() -> None:
            line.enter(Request([gate]))
            entered.append(clock.now())

        def leave() -> None:
            clock.sleep(5)
            line.leave_whole(request, DONE, clock.now)

        all_of(clock, [wait, leave])
        assert entered == [5]


def test_an_interrupt_with_the_permit_just_handed_over_gives_it_to_the_next() -> None:
    with WatchedClock() as clock:
        line, x, lid = Line(), LimitGate(1), Lid(0.0)
        crowd = Crowd(clock, line)
        for name in ("holds", "interrupted", "next", "last"):
            crowd.enter(name, x, lid)
        clock.after_wait = lambda: _interrupt(clock)
        crowd.leave("holds")
        assert [(name, type(error)) for name, error in crowd.ends[1:]] == [
            ("interrupted", KeyboardInterrupt), ("next", type(None))]
        assert not crowd.requests["interrupted"].permits
        assert lid.ended == [(1, SUCCESS), (2, IGNORED)]
        assert x.in_flight == 1
        crowd.leave("next")
        crowd.leave("last")
        assert (x.in_flight, line.waiting(x)) == (0, 0)


def test_an_interrupt_with_a_refusal_just_handed_over_is_the_interrupt() -> None:
    with WatchedClock() as clock:
        line, lid = Line(), Lid()
        crowd = Crowd(clock, line)
        crowd.enter("interrupted", lid)
        crowd.enter("refused", lid)
        clock.after_wait = lambda: _interrupt(clock)
        lid.answer = lambda: Rejected("no", policy="lid")
        line.changed(lid)
        crowd.settle()
        assert [type(error) for _, error in crowd.ends] == [KeyboardInterrupt, Rejected]
        assert line.waiting(lid) == 0


class _InterruptedCutOff(CutOff):
    """Ctrl-C is raised where a Python function is entered: here, on the way from joining the line to the wait."""

    def watch(self, tell: Callable[[], None]) -> None:
        raise KeyboardInterrupt


def test_an_interrupt_between_joining_the_line_and_the_wait_leaves_nothing_behind() -> None:
    with VirtualClock():
        line, x = Line(), LimitGate(1)
        holds = Request([x])
        line.enter(holds)
        with pytest.raises(KeyboardInterrupt):
            line.enter(Request([x]), cut_off=_InterruptedCutOff())
        assert line.waiting(x) == 0
        line.leave(holds, [(x, None)], DONE)
        assert x.in_flight == 0


def test_an_interrupt_while_it_joins_the_line_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    with VirtualClock():
        line, x = Line(), LimitGate(1)
        holds = Request([x])
        line.enter(holds)

        def interrupted(gates: object, now: object) -> None:
            monkeypatch.undo()
            raise KeyboardInterrupt

        monkeypatch.setattr(line, "_serve", interrupted)
        with pytest.raises(KeyboardInterrupt):
            line.enter(Request([x]))
        assert line.waiting(x) == 0
        line.leave(holds, [(x, None)], DONE)
        assert x.in_flight == 0


def _interrupted_at(step: int, run: Callable[[], object]) -> bool:
    """Runs `run`, and raises KeyboardInterrupt where it enters its `step`-th function, as a signal does.

    False where it has fewer.
    """
    left = [step]

    def entered(frame: FrameType, event: str, arg: Any) -> None:
        if "llm_guard" in frame.f_code.co_filename:
            left[0] -= 1
            if left[0] == 0:
                sys.settrace(before)
                raise KeyboardInterrupt

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        run()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def _can_be_used(line: Line, *gates: Gate) -> bool:
    """By another thread, which does not wait for ever."""
    used: list[bool] = []

    def use() -> None:
        request = Request(gates)
        line.enter(request, give_up_at=seam.current().now() + 0.1)
        line.leave(request, [(gate, None) for gate in gates], DONE)
        used.append(True)

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(0.3)
    return bool(used)


@pytest.mark.real
@pytest.mark.parametrize("step", range(1, 16))
def test_an_interrupt_at_any_step_of_entering_leaves_no_place_taken_and_the_line_in_use(step: int) -> None:
    line, x, y = Line(), LimitGate(1), LimitGate(1)
    request = Request([x, y])
    if _interrupted_at(step, lambda: line.enter(request)):
        assert (x.in_flight, y.in_flight) == (0, 0)
        assert _can_be_used(line, x, y)


@pytest.mark.real
@pytest.mark.parametrize("step", range(1, 9))
def test_an_interrupt_at_any_step_of_leaving_leaves_the_line_in_use(step: int) -> None:
    """Its own place may be lost where the interrupt comes first of all."""
    line, x = Line(), LimitGate(2)
    request = Request([x])
    line.enter(request)
    _interrupted_at(step, lambda: line.leave(request, [(x, None)], DONE))
    assert _can_be_used(line, x)


@pytest.mark.parametrize("waits", [False, True], ids=["on arrival", "after a wait"])
def test_a_refusal_keeps_nothing_of_its_call_alive(waits: bool) -> None:
    """An error that is part of a cycle keeps all frames below it, with their arguments, until the collector comes."""
    class Argument:
        pass

    def call(line: Line, lid: Lid, argument: Argument) -> None:
        try:
            line.enter(Request([lid]))
        except Rejected:
            pass

    with VirtualClock() as clock:
        line, lid, argument = Line(), Lid(), Argument()
        gone = weakref.ref(argument)

        def refuse() -> None:
            lid.answer = lambda: Rejected("no", policy="lid")
            line.changed(lid)

        if waits:
            clock.spawn(lambda: (clock.sleep(1.0), refuse()), "refuses")
        else:
            refuse()
        gc.collect()
        gc.disable()
        try:
            call(line, lid, argument)
            del argument
            assert gone() is None
        finally:
            gc.enable()


@pytest.mark.real
@pytest.mark.parametrize("does", ["enters", "leaves"])
def test_a_finaliser_that_calls_does_not_hang_the_line(does: str) -> None:
    """The collector runs wherever something is allocated: also in the thread that is in the midst of the line."""
    line, x = Line(), LimitGate(10**6)

    class Calls:
        def __init__(self) -> None:
            self.request = Request([x])
            self.itself = self  # only the collector finds it
            if does == "leaves":
                line.enter(self.request)

        def __del__(self) -> None:
            if does == "enters":
                try:
                    line.enter(self.request, give_up_at=0.0)
                except Rejected:
                    return
            line.leave(self.request, [(x, None)], DONE)

    def go() -> None:
        for allocations in range(1, 60):  # the collector comes a little later each time
            gc.collect(0)
            Calls()
            gc.set_threshold(allocations)
            request = Request([x])
            line.enter(request)
            line.leave(request, [(x, None)], DONE)
            gc.set_threshold(*usual)

    usual = gc.get_threshold()
    thread = threading.Thread(target=go, daemon=True)
    try:
        thread.start()
        thread.join(0.5)
    finally:
        gc.set_threshold(*usual)
    assert not thread.is_alive(), "it waits for a lock that it holds itself"
    gc.collect()
    line.changed(x)
    assert x.in_flight == 0


def test_a_finaliser_in_the_midst_may_look_and_tell_of_changes() -> None:
    """What is asked or set from a finaliser either works or raises one of our errors; it breaks nothing."""
    class Meddles(LimitGate):
        def ready_at(self, now: float, request: Request) -> float:
            for meddle in (lambda: line.waiting(self), lambda: line.changed(self)):
                try:
                    meddle()
                except GuardError:
                    pass
            return super().ready_at(now, request)

    with VirtualClock() as clock:
        line, x = Line(), Meddles(1)
        crowd = Crowd(clock, line)
        crowd.enter("a", x)
        crowd.enter("b", x)
        crowd.leave("a")
        assert crowd.names == ["a", "b"]
        assert x.in_flight == 1


# Eras


def test_after_a_fork_the_line_is_empty_and_old_permits_are_void() -> None:
    with VirtualClock() as clock:
        line, x, lid = Line(), LimitGate(2), Lid()
        crowd = Crowd(clock, line)
        crowd.enter("old", x)
        crowd.enter("waits", lid)
        line.after_fork()
        x.after_fork()
        assert (x.in_flight, line.waiting(lid)) == (0, 0)
        crowd.enter("new", x)
        crowd.leave("old")
        assert x.in_flight == 1
        crowd.leave("new")
        assert x.in_flight == 0


# Crowds


def _subset(random: Random, gates: Sequence[Gate]) -> list[Gate]:
    chosen = random.sample(gates, random.randint(1, len(gates)))
    random.shuffle(chosen)
    return chosen


@pytest.mark.parametrize("seed", range(15))
def test_gates_in_any_order_never_deadlock_and_hold_their_limits(seed: int) -> None:
    with VirtualClock(seed, shuffle=True) as clock:
        line, gates = Line(), [LimitGate(limit) for limit in (1, 1, 2, 3)]
        random = Random(seed)

        def job() -> None:
            for _ in range(4):
                request = Request(_subset(random, gates), urgent=random.random() < 0.2)
                line.enter(request)
                assert all(gate.in_flight <= gate.limit for gate in gates)
                if random.random() < 0.7:
                    clock.sleep(random.choice([0.0, 0.5, 1.0]))
                line.leave(request, [(gate, None) for gate in request.gates], DONE)
                if random.random() < 0.3:
                    clock.sleep(random.choice([0.0, 1.0]))

        all_of(clock, [job] * 40)
        assert [gate.in_flight for gate in gates] == [0, 0, 0, 0]
        assert all(gate.peak <= gate.limit for gate in gates)
        assert [line.waiting(gate) for gate in gates] == [0, 0, 0, 0]


class Ledger:
    """Who waits, in order of coming, kept beside the line, to see whether the line leaves anybody standing."""

    def __init__(self) -> None:
        self.waiting: list[Request] = []
        self.started: list[Request] = []
        self.overtaken = 0

    def first_ones(self) -> list[Request]:
        """The first of each lane."""
        first: dict[object, Request] = {}
        for request in sorted(self.waiting, key=lambda request: not request.urgent):
            first.setdefault((request.gates, request.patience is None), request)
        return list(first.values())

    def start(self, request: Request) -> None:
        """It must be the first of its lane."""
        if request in self.waiting:
            self.overtaken += request not in self.first_ones()
            self.waiting.remove(request)
        self.started.append(request)


class Noting(LimitGate):
    def __init__(self, limit: int, ledger: Ledger) -> None:
        super().__init__(limit)
        self._ledger = ledger

    def start(self, now: float, request: Request) -> None:
        super().start(now, request)
        if request.gates[0] is self:
            self._ledger.start(request)


@pytest.mark.parametrize("seed", range(8))
def test_in_a_crowd_that_times_out_is_cut_off_and_interrupted_nobody_is_left_standing(seed: int) -> None:
    with WatchedClock(seed, shuffle=True) as clock:
        line, ledger, random = Line(), Ledger(), Random(seed)
        limits = [Noting(limit, ledger) for limit in (1, 2, 3)]
        leak, lid = LeakGate(3.0), Lid(0.0)
        ends: list[str] = []
        over: list[bool] = []

        def maybe_interrupt() -> None:
            if not over and random.random() < 0.05:
                raise KeyboardInterrupt

        def job() -> None:
            for _ in range(4):
                gates: list[Gate] = list(_subset(random, limits))
                gates += [leak] * (random.random() < 0.3) + [lid] * (random.random() < 0.5)
                request = Request(gates, urgent=random.random() < 0.2, patience=random.choice([None, 9.0]))
                cut_off = CutOff() if random.random() < 0.3 else None
                if cut_off is not None:
                    clock.spawn(lambda cut_off=cut_off: (  # type: ignore[misc]
                        clock.sleep(random.choice([0.0, 1.0, 3.0])), cut_off.cut()), "cuts")
                give_up_at = clock.now() + random.choice([0.0, 1.0, 4.0, FOREVER, FOREVER])
                ledger.waiting.append(request)
                try:
                    line.enter(request, give_up_at=give_up_at, cut_off=cut_off)
                except (Rejected, Cancelled, KeyboardInterrupt) as error:
                    ends.append(type(error).__name__)
                    if request in ledger.waiting:
                        ledger.waiting.remove(request)
                else:
                    ends.append("entered")
                    assert all(gate.in_flight <= gate.limit for gate in limits)
                    clock.sleep(random.choice([0.0, 0.5, 1.0, 2.0]))
                    line.leave(request, list(zip(request.gates, request.permits, strict=True)), DONE)

        def inspect() -> None:
            """Between the events, which come at multiples of a sixth: whoever is the first somewhere cannot start."""
            clock.sleep(0.01)
            while len(ends) < 50 * 4:
                now = clock.now()
                for request in ledger.first_ones():
                    answers = [gate.ready_at(now, request) for gate in request.gates]
                    assert any(isinstance(answer, Rejected) or answer > now for answer in answers), "left standing"
                clock.sleep(0.25)

        def lift_the_lid() -> None:
            for number in range(30):
                clock.sleep(1.0)
                lid.answer = [0.0, FOREVER, lambda: Rejected("no", policy="lid"), 0.0, clock.now() + 1.0][number % 5]
                line.changed(lid)
            lid.answer = 0.0
            line.changed(lid)

        clock.after_wait = maybe_interrupt
        jobs = [job] * 50
        try:
            all_of(clock, [*jobs, inspect, lift_the_lid])
        finally:
            over.append(True)
        assert {"entered", "Saturated", "Cancelled", "KeyboardInterrupt", "Rejected"} == set(ends)
        assert ledger.overtaken == 0
        assert ledger.waiting == []
        assert [gate.in_flight for gate in limits] == [0, 0, 0]
        assert [line.waiting(gate) for gate in (*limits, leak, lid)] == [0] * 5
        assert line._lanes == {}
        assert line._lanes.at == {}


def test_what_nobody_will_ever_free_is_a_deadlock_and_no_busy_wait() -> None:
    with VirtualClock() as clock:
        line, x = Line(), LimitGate(1)
        line.enter(Request([x]))
        with pytest.raises(Deadlock):
            line.enter(Request([x]))
        assert clock.switches < 10


@pytest.mark.parametrize("number", [100, 500])
def test_a_long_line_costs_as_much_per_head_as_a_short_one(number: int) -> None:
    with WatchedClock() as clock:
        line, lid, x = Line(), Lid(1.0), LimitGate(1)

        def job() -> None:
            request = Request([lid, x])
            line.enter(request)
            line.leave(request, list(zip(request.gates, request.permits, strict=True)), DONE)

        all_of(clock, [job] * number)
        assert len(lid.started) == number
        assert lid.asked <= 4 * number
        assert clock.woken <= number
        assert len(clock.waits) <= 2 * number + 1


@pytest.mark.real
def test_threads_of_the_machine_fight_for_gates_in_opposite_orders() -> None:
    line, gates, random = Line(), [LimitGate(1), LimitGate(1), LimitGate(2)], Random(1)
    over_limit: list[bool] = []
    ended: list[str] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def job(number: int) -> None:
        mine = Random(number)
        for _ in range(40):
            request = Request(_subset(mine, gates), urgent=mine.random() < 0.2)
            cut_off = CutOff()
            if mine.random() < 0.2:
                cuts.append(cut_off)
            try:
                line.enter(request, cut_off=cut_off,
                           give_up_at=seam.current().now() + mine.choice([0.0, 0.0005, 5.0, 5.0]))
            except (Saturated, Cancelled) as error:
                ended.append(type(error).__name__)
                continue
            ended.append("entered")
            over_limit.append(any(gate.in_flight > gate.limit for gate in gates))
            line.leave(request, [(gate, None) for gate in request.gates], DONE)

    def cut_some() -> None:
        while any(thread.is_alive() for thread in threads):
            if cuts:
                cuts.pop(random.randrange(len(cuts))).cut()
            time.sleep(0.0001)

    cuts: list[CutOff] = []
    threads = [threading.Thread(target=job, args=(number,), daemon=True) for number in range(10)]
    try:
        for thread in threads:
            thread.start()
        cut_some_thread = threading.Thread(target=cut_some, daemon=True)
        cut_some_thread.start()
        for thread in threads:
            thread.join(5.0)
        cut_some_thread.join(5.0)
    finally:
        sys.setswitchinterval(interval)
    assert len(ended) == 400
    assert not any(over_limit)
    assert [gate.in_flight for gate in gates] == [0, 0, 0]
    assert [line.waiting(gate) for gate in gates] == [0, 0, 0]


# The short way in and out


def test_who_comes_by_the_short_way_passes_nobody_who_waits_for_the_same() -> None:
    with VirtualClock() as clock:
        line, limit, other = Line(), LimitGate(1), LimitGate(1)
        first, waits = Request([limit]), Request([limit])
        assert line.try_enter(first, clock.now)
        clock.spawn(lambda: line.enter(waits), "waits")
        clock.sleep(1)
        limit.limit = 2  # there is room, and nobody has told the one who waits
        assert not line.try_enter(Request([limit]), clock.now)
        assert not line.try_enter(Request([other, limit]), clock.now)
        assert (limit.in_flight, other.in_flight) == (1, 0)
        assert line.try_enter(Request([other]), clock.now)  # for which nobody waits
        line.leave_whole(first, DONE, clock.now)
        clock.sleep(1)
        assert waits.permits == [None]
        assert line.waiting(limit) == 0


def test_the_short_way_out_gives_permits_back_once() -> None:
    with VirtualClock() as clock:
        line, limit = Line(), LimitGate(2)
        first, second = Request([limit]), Request([limit])
        assert line.try_enter(first, clock.now)
        assert line.try_enter(second, clock.now)
        line.leave_whole(first, DONE, clock.now)
        line.leave_whole(first, DONE, clock.now)
        assert limit.in_flight == 1
