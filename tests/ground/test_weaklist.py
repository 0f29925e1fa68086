"""A list that keeps nothing alive: who lives is in it, in order; what the dead leave behind is bounded."""

from __future__ import annotations

from typing import Any

from llm_guard.weaklist import SWEEP, WeakList


class Thing:
    """What can be held weakly."""


def test_who_lives_is_in_it_in_order() -> None:
    things, mine = [Thing() for _ in range(3)], WeakList[Thing]()
    for thing in things:
        mine.append(thing)
    assert list(mine) == things
    del things[1], thing
    assert list(mine) == things


def test_what_many_dead_leave_behind_is_bounded() -> None:
    keep, mine = [Thing() for _ in range(100)], WeakList[Thing]()
    for thing in keep:
        mine.append(thing)
    for _ in range(10_000):
        mine.append(Thing())
    assert list(mine) == keep
    assert len(mine._references) <= 2 * len(keep)


def test_those_who_live_are_never_swept_out() -> None:
    keep, mine = [], WeakList[Thing]()
    for _ in range(1000):
        keep.append(Thing())
        mine.append(keep[-1])
        mine.append(Thing())
    assert list(mine) == keep


def test_what_comes_while_it_is_looked_through_is_not_seen_and_not_lost() -> None:
    first, second, mine = Thing(), Thing(), WeakList[Thing]()
    mine.append(first)
    seen = []
    for thing in mine:
        seen.append(thing)
        mine.append(second)
    assert seen == [first]
    assert list(mine) == [first, second]


def test_who_comes_in_the_midst_of_a_sweep_does_not_wait_and_is_not_lost() -> None:
    late, mine = Thing(), WeakList[Thing]()

    class LooksDead:
        def __call__(self) -> None:
            mine.append(late)  # as another thread might, or a finaliser in this one

    references: list[Any] = mine._references
    references.append(LooksDead())
    for _ in range(SWEEP):
        mine.append(Thing())
    assert list(mine) == [late]


def test_after_a_fork_sweeping_goes_on() -> None:
    mine = WeakList[Thing]()
    mine._sweeping.acquire()  # by a thread that the child does not have
    mine.after_fork()
    for _ in range(1000):
        mine.append(Thing())
    assert len(mine._references) <= SWEEP
