"""`partition_by`: items of one key one after another, different keys side by side."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_guard import ConfigError, clock, map_with_backpressure
from llm_guard.clock.virtual import VirtualClock

both_orders = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "as they end"])


@settings(max_examples=100, deadline=None)
@given(items=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([0.0, 1.0, 1.0, 5.0])), max_size=30),
       workers=st.integers(1, 5), ordered=st.booleans(), seed=st.integers(0, 5))
def test_each_key_is_called_in_order_and_no_worker_waits_for_a_turn(items: list[tuple[str, float]], workers: int,
                                                                   ordered: bool, seed: int) -> None:
    busy: set[str] = set()
    called: dict[str, list[int]] = defaultdict(list)

    def function(place: int) -> int:
        key, seconds = items[place]
        assert key not in busy
        busy.add(key)
        called[key].append(place)
        clock.current().sleep(seconds)
        left = {items[other][0] for other in range(len(items)) if other not in itertools.chain(*called.values())}
        running.append((len(busy), len(left | busy)))
        busy.discard(key)
        return place

    running: list[tuple[int, int]] = []
    with VirtualClock(seed, shuffle=True):
        mapping = map_with_backpressure(function, range(len(items)), workers=workers, ordered=ordered, buffer=99,
                                        partition_by=lambda place: items[place][0])
        results = list(mapping)
        assert mapping._lanes is not None
        assert not mapping._lanes._lanes
    assert (results if ordered else sorted(results)) == list(range(len(items)))
    for key, places in called.items():
        assert places == [place for place in range(len(items)) if items[place][0] == key]
    assert all(busy_then <= min(workers, possible) for busy_then, possible in running)


@pytest.mark.parametrize(("workers", "seconds"), [(1, 40.0), (2, 20.0), (4, 10.0), (9, 10.0)])
def test_it_takes_no_longer_than_keys_and_workers_make_it(workers: int, seconds: float) -> None:
    with VirtualClock() as time:
        list(map_with_backpressure(lambda item: time.sleep(1), range(40), workers=workers, buffer=40,
                                   partition_by=lambda item: item % 4))
        assert time.now() == seconds


def test_only_keys_in_use_are_kept() -> None:
    with VirtualClock():
        mapping = map_with_backpressure(lambda item: item, range(1000), workers=4, buffer=2, partition_by=str)
        for _ in mapping:
            assert mapping._lanes is not None
            assert len(mapping._lanes._lanes) <= 6


def test_a_call_that_fails_lets_the_next_of_its_key_begin() -> None:
    with VirtualClock():
        ends = list(map_with_backpressure(lambda item: 1 // item, [0, 0, 1], workers=2, on_error="return",
                                          partition_by=lambda item: "all"))
    assert [type(end) for end in ends] == [ZeroDivisionError, ZeroDivisionError, int]


class Unequal:
    """A key that cannot be compared."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise LookupError("no comparison")


def _key(kind: str, item: int) -> Any:
    if item < 3:
        return item
    if kind == "raises":
        raise LookupError("no key")
    if kind == "ends":
        raise StopIteration
    return [item]


@both_orders
@pytest.mark.parametrize(("kind", "error"), [("raises", LookupError), ("ends", RuntimeError), ("has no hash",
                                                                                              TypeError)])
def test_a_key_that_cannot_be_told_is_an_error_of_the_input_at_its_place(kind: str, error: type[Exception],
                                                                        ordered: bool) -> None:
    taken: list[int] = []
    with VirtualClock() as time:
        mapping = map_with_backpressure(lambda item: time.sleep(1) or item, range(9), workers=2, ordered=ordered,
                                        partition_by=lambda item: _key(kind, item))
        with pytest.raises(error) as raised:
            taken.extend(mapping)
    assert sorted(taken) == [0, 1, 2]
    shown = raised.value if kind != "ends" else raised.value.__cause__
    assert any("partition_by" in note and "index 3" in note for note in shown.__notes__)  # type: ignore[union-attr]
    assert list(mapping) == []


@pytest.mark.real
def test_keys_that_cannot_be_compared_end_it_and_nothing_hangs() -> None:
    with pytest.raises(LookupError, match="no comparison"):
        list(map_with_backpressure(str, range(9), workers=2, partition_by=lambda item: Unequal()))


def test_closed_it_calls_none_of_those_that_wait_for_their_turn() -> None:
    called: list[int] = []
    with VirtualClock() as time:
        mapping = map_with_backpressure(lambda item: (called.append(item), time.sleep(1)), range(50), workers=4,
                                        partition_by=lambda item: item % 2)
        next(mapping)
        mapping.close()
        time.sleep(100)
    assert sorted(called) in ([0, 1, 2], [0, 1, 2, 3])


def test_a_partition_by_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        map_with_backpressure(str, [], partition_by="key")  # type: ignore[call-overload]
    assert refused.value.parameter == "partition_by"
