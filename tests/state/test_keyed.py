"""A family of gates: one for each key, and only idle ones are dropped."""

from __future__ import annotations

import pytest

from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import IGNORED
from llm_guard.state.gate import Ending, Gate, Request
from llm_guard.state.keyed import LOOKS, Keyed
from llm_guard.state.limiter import LimitGate
from llm_guard.state.line import Line

ENDED = Ending(IGNORED, 0.0)


def family(most: int = 3) -> Keyed[LimitGate]:
    return Keyed(lambda: LimitGate(1), "key", most=most)


def nobody(gate: Gate) -> bool:
    return False


def test_each_key_has_a_gate_of_its_own_and_keeps_it() -> None:
    gates = family()
    one = gates.of("one", nobody)
    assert gates.of("two", nobody) is not one
    assert gates.of("one", nobody) is one
    assert gates.known("one") is one
    assert gates.known("three") is None


def test_the_longest_unused_is_dropped_first() -> None:
    gates = family(3)
    kept = {key: gates.of(key, nobody) for key in "abc"}
    gates.of("a", nobody)
    gates.of("d", nobody)
    assert [gates.known(key) is not None for key in "abcd"] == [True, False, True, True]
    assert gates.known("a") is kept["a"]


def test_looking_at_a_key_is_no_use_of_it() -> None:
    gates = family(2)
    for key in "ab":
        gates.of(key, nobody)
    gates.known("a")
    gates.of("c", nobody)
    assert gates.known("a") is None


def test_what_is_in_flight_or_awaited_is_not_dropped() -> None:
    gates = family(2)
    flies, awaited = gates.of("flies", nobody), gates.of("awaited", nobody)
    flies.start(0.0, Request([flies]))
    for key in range(5):
        gates.of(key, lambda gate: gate is awaited)
    assert gates.known("flies") is flies
    assert gates.known("awaited") is awaited
    assert len(gates.gates()) == 3  # both, and the newest


def test_where_all_are_busy_one_more_is_kept_and_later_keys_make_up_for_it() -> None:
    gates = family(2)
    made = [gates.of(key, lambda gate: True) for key in range(50)]
    assert gates.gates() == made
    gates.of("new", nobody)
    assert len(gates.gates()) == 2


def test_a_new_key_costs_a_bounded_number_of_looks() -> None:
    gates, asked = family(1), []

    def busy(gate: Gate) -> bool:
        asked.append(gate)
        return True

    for key in range(3 * LOOKS):
        asked.clear()
        gates.of(key, busy)
    assert len(asked) == LOOKS
    assert len(set(map(id, asked))) == LOOKS
    before = list(asked)
    asked.clear()
    gates.of("next", busy)
    assert not set(map(id, asked)) & set(map(id, before))  # the next looks go on where these ended


def test_an_idle_gate_behind_busy_ones_is_found() -> None:
    gates = family(3)
    busy = [gates.of(key, nobody) for key in "ab"]
    gates.of("idle", nobody)
    gates.of("new", lambda gate: gate in busy)
    assert gates.known("idle") is None
    assert len(gates.gates()) == 3


def test_the_line_chooses_the_gate_of_each_key() -> None:
    line, gates, other = Line(), family(), LimitGate(9)
    with VirtualClock():
        requests = [Request([gates, other], keys={gates: key}) for key in "ab"]
        for request in requests:
            line.enter(request)
        chosen = [request.gates for request in requests]
        assert chosen == [(gates.known("a"), other), (gates.known("b"), other)]
        assert [gate.in_flight for gate in gates.gates()] == [1, 1]
        for request in requests:
            line.leave(request, list(zip(request.gates, request.permits, strict=True)), ENDED)
        assert [gate.in_flight for gate in gates.gates()] == [0, 0]


def test_the_line_does_not_lose_a_gate_that_somebody_waits_for() -> None:
    line, gates = Line(), family(1)
    with VirtualClock() as time:
        first = Request([gates], keys={gates: "a"})
        line.enter(first)
        second = Request([gates], keys={gates: "a"})
        time.spawn(lambda: line.enter(second), "second")
        time.sleep(1)
        held = gates.known("a")
        assert held is not None
        for key in range(5):
            assert line.gate_of(gates, key) is not held
        assert gates.known("a") is held
        line.leave(first, [(held, None)], ENDED)
        time.sleep(1)
        assert second.permits == [None]
        assert held.in_flight == 1


def test_it_chooses_under_its_lock_so_that_no_gate_is_dropped_between_choice_and_entry() -> None:
    line, inside = Line(), []

    def make() -> LimitGate:
        inside.append(line.locked()._is_owned())  # type: ignore[attr-defined]
        return LimitGate(1)

    gates = Keyed(make, "key")
    with VirtualClock():
        line.enter(Request([gates], keys={gates: "a"}))
        line.gate_of(gates, "b")
    assert inside == [True, True]


class Angry:
    """A key that cannot be compared."""

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        raise ArithmeticError("not comparable")


def test_a_key_that_cannot_be_compared_leaves_nothing_behind() -> None:
    line, gates, other = Line(), family(), LimitGate(1)
    with VirtualClock():
        line.enter(Request([other, gates], keys={gates: Angry()}))
        other.end(0.0, None, ENDED)
        with pytest.raises(ArithmeticError):
            line.enter(Request([other, gates], keys={gates: Angry()}))
        assert other.in_flight == 0
        line.enter(Request([other]))
