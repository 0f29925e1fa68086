"""The call in progress, and the cut-off by which it is given up from outside."""

from __future__ import annotations

import contextvars
import gc
import sys
import threading
import weakref
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

import pytest

from llm_guard import call
from llm_guard.call import FOREVER, Call, CutOff


def test_there_is_no_call_until_one_begins_and_the_inner_one_hides_the_outer() -> None:
    assert call.in_progress() is None
    outer, inner = Call(deadline=5.0), Call()
    outer_token = call.begin(outer)
    inner_token = call.begin(inner)
    assert call.in_progress() is inner
    call.end(inner_token)
    assert call.in_progress() is outer
    call.end(outer_token)
    assert call.in_progress() is None


def test_a_call_has_all_the_time_and_no_cut_off_unless_told() -> None:
    fresh = Call()
    assert fresh.deadline == FOREVER
    assert fresh.cut_off is None
    assert fresh.held == ()
    assert fresh.active
    assert fresh.attempts == 0


def test_a_call_in_progress_is_seen_through_a_copied_context_only() -> None:
    token = call.begin(Call(deadline=7.0))
    seen: list[Call | None] = []
    copied = contextvars.copy_context()
    threads = [threading.Thread(target=lambda: seen.append(call.in_progress())),
               threading.Thread(target=lambda: copied.run(lambda: seen.append(call.in_progress())))]
    for thread in threads:
        thread.start()
        thread.join()
    call.end(token)
    assert seen[0] is None
    assert seen[1] is not None
    assert seen[1].deadline == 7.0


def test_whoever_watches_is_told_once() -> None:
    told: list[str] = []
    cut_off = CutOff()
    cut_off.watch(lambda: told.append("a"))
    cut_off.watch(lambda: told.append("b"))
    assert not cut_off.is_cut
    assert told == []
    cut_off.cut()
    cut_off.cut()
    assert cut_off.is_cut
    assert told == ["a", "b"]


def test_whoever_comes_late_is_told_at_once() -> None:
    told: list[str] = []
    cut_off = CutOff()
    cut_off.cut()
    cut_off.watch(lambda: told.append("late"))
    assert told == ["late"]


def test_whoever_no_longer_watches_is_not_told() -> None:
    told: list[str] = []
    cut_off = CutOff()

    def tell() -> None:
        told.append("told")

    cut_off.unwatch(tell)
    cut_off.watch(tell)
    cut_off.unwatch(tell)
    cut_off.cut()
    cut_off.unwatch(tell)
    assert told == []


def test_a_bound_method_made_anew_is_the_same_watcher() -> None:
    class Spot:
        def __init__(self) -> None:
            self.told = 0

        def tell(self) -> None:
            self.told += 1

    spot, other = Spot(), Spot()
    cut_off = CutOff()
    cut_off.watch(spot.tell)
    cut_off.watch(other.tell)
    cut_off.unwatch(spot.tell)
    cut_off.cut()
    assert (spot.told, other.told) == (0, 1)


def test_a_parent_cuts_its_children_and_theirs_but_no_child_its_parent() -> None:
    told: list[str] = []
    parent = CutOff()
    child = CutOff(parent)
    grandchild, sibling = CutOff(child), CutOff(parent)
    sibling.watch(lambda: told.append("sibling"))
    grandchild.watch(lambda: told.append("grandchild"))
    sibling.cut()
    assert told == ["sibling"]
    assert not parent.is_cut
    assert not child.is_cut
    parent.cut()
    assert child.is_cut
    assert grandchild.is_cut
    assert told == ["sibling", "grandchild"]


def test_the_child_of_one_that_is_cut_is_cut_from_the_start() -> None:
    parent = CutOff()
    parent.cut()
    assert CutOff(parent).is_cut


def test_a_closed_child_is_cut_no_longer_and_costs_its_parent_nothing() -> None:
    class Spot:
        def tell(self) -> None:
            raise AssertionError("its call is over")

    parent = CutOff()
    child, spot = CutOff(parent), Spot()
    child.watch(spot.tell)
    child.close()
    child.close()
    gone = weakref.ref(spot)
    gc.disable()
    try:
        del child, spot
        assert gone() is None
    finally:
        gc.enable()
    parent.cut()
    CutOff().close()


def test_what_is_told_may_watch_and_cut_in_turn() -> None:
    told: list[str] = []
    cut_off = CutOff()

    def first() -> None:
        told.append("first")
        cut_off.cut()
        cut_off.unwatch(second)
        cut_off.watch(lambda: told.append("nested"))

    def second() -> None:
        told.append("second")

    cut_off.watch(first)
    cut_off.watch(second)
    cut_off.watch(lambda: told.append("third"))
    cut_off.cut()
    assert told == ["first", "nested", "third"]


def test_an_interrupt_while_it_tells_leaves_the_others_to_be_told_by_the_next_cut() -> None:
    told: list[str] = []
    cut_off = CutOff()

    def interrupted() -> None:
        raise KeyboardInterrupt

    cut_off.watch(interrupted)
    cut_off.watch(lambda: told.append("other"))
    with pytest.raises(KeyboardInterrupt):
        cut_off.cut()
    cut_off.cut()
    assert told == ["other"]


def test_a_watcher_that_raises_is_logged_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise OSError("an address that nobody may see")

    cut_off = CutOff()
    cut_off.watch(broken)
    cut_off.cut()
    assert "OSError" in caplog.text
    assert "address" not in caplog.text


def test_one_watcher_that_raises_does_not_rob_the_others() -> None:
    """Else a socket that is closed already would leave a thread at the door for ever."""
    told: list[str] = []
    cut_off = CutOff()

    def broken() -> None:
        raise OSError("closed already")

    cut_off.watch(broken)
    cut_off.watch(lambda: told.append("other"))
    try:
        cut_off.cut()
    except OSError:
        pass
    assert told == ["other"]


def _at_line(code: CodeType, line: int, act: Callable[[], object], run: Callable[[], object]) -> bool:
    """Runs `run`, and `act` in its midst: just before the `line`-th line of `code`. False where it has fewer."""
    left = [line]

    def in_function(frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                act()
        return in_function

    before = sys.gettrace()
    sys.settrace(lambda frame, event, arg: in_function if frame.f_code is code else None)
    try:
        run()
    finally:
        sys.settrace(before)
    return left[0] <= 0


@pytest.mark.parametrize("line", range(1, 7))
def test_a_cut_in_the_midst_of_watch_is_told(line: int) -> None:
    """As a finaliser or a signal's function does it, in the very same thread."""
    told: list[str] = []
    cut_off = CutOff()
    reached = _at_line(CutOff.watch.__code__, line, cut_off.cut, lambda: cut_off.watch(lambda: told.append("told")))
    if not reached:
        cut_off.cut()
    assert told == ["told"]


@pytest.mark.parametrize("line", range(1, 7))
def test_a_cut_in_the_midst_of_unwatch_does_no_harm(line: int) -> None:
    cut_off = CutOff()

    def tell() -> None:
        pass

    cut_off.watch(tell)
    _at_line(CutOff.unwatch.__code__, line, cut_off.cut, lambda: cut_off.unwatch(tell))
    cut_off.cut()
    assert cut_off.is_cut


@pytest.mark.parametrize("line", range(1, 8))
def test_a_cut_in_the_midst_of_a_cut_tells_each_once(line: int) -> None:
    told: list[str] = []
    cut_off = CutOff()
    cut_off.watch(lambda: told.append("told"))
    _at_line(CutOff.cut.__code__, line, cut_off.cut, cut_off.cut)
    assert told == ["told"]


@pytest.mark.real
def test_among_threads_each_watcher_is_told_exactly_once() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(30):
            told: list[int] = []
            cut_off = CutOff()
            start = threading.Barrier(5)

            def watch(first: int, cut_off: CutOff = cut_off, told: list[int] = told,
                      start: threading.Barrier = start) -> None:
                start.wait(5.0)
                for number in range(first, first + 20):
                    cut_off.watch(lambda number=number: told.append(number))  # type: ignore[misc]

            def cut(cut_off: CutOff = cut_off, start: threading.Barrier = start) -> None:
                start.wait(5.0)
                cut_off.cut()

            threads = [threading.Thread(target=watch, args=(20 * number,)) for number in range(4)]
            threads.append(threading.Thread(target=cut))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(5.0)
            assert sorted(told) == list(range(80))
    finally:
        sys.setswitchinterval(interval)
