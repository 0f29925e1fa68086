"""How long a server asks to wait: which of the places where it may say so counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_guard.clock import SystemClock, use
from llm_guard.llm.hints import hint_of
from llm_guard.llm.signal_table import CODE, IN_WORDS, Signal
from llm_guard.outcome import Kind

WALL = 1_700_000_000.0
KINDS = [Kind.LOADING, Kind.LIMITED, Kind.OVERLOAD, Kind.GROWTH_LIMITED, Kind.FAILURE, Kind.TIMEOUT, Kind.QUOTA]


@pytest.fixture(autouse=True)
def _fixed_wall() -> Iterator[None]:
    clock = SystemClock()
    clock.wall = lambda: WALL
    with use(clock):
        yield


def signal(*waits: str | float, kind: Kind = Kind.LIMITED) -> Signal:
    return Signal("X", (), CODE, "x", kind, waits)


@pytest.mark.parametrize("name", ["retry-after-ms", "x-ms-retry-after-ms", "x-amz-retry-after"])
def test_milliseconds_come_before_retry_after(name: str) -> None:
    assert hint_of(Kind.LIMITED, {name: "1500", "retry-after": "2"}) == 1.5


@pytest.mark.parametrize("nonsense", ["soon", "-5", "nan", "inf", ""])
def test_milliseconds_without_sense_leave_the_word_to_retry_after(nonsense: str) -> None:
    assert hint_of(Kind.LIMITED, {"retry-after-ms": nonsense, "retry-after": "2"}) == 2.0


@pytest.mark.parametrize("kind", KINDS)
def test_retry_after_counts_for_whatever_may_be_tried_again(kind: Kind) -> None:
    assert hint_of(kind, {"retry-after": "7"}) == 7.0


def test_a_wrong_request_has_nothing_to_wait_for() -> None:
    assert hint_of(Kind.INVALID, {"retry-after": "7"}, signal(5.0)) is None


@pytest.mark.parametrize("value", ["7", "7.0", "Tue, 14 Nov 2023 22:13:27 GMT"])
def test_retry_after_wins_over_the_body_a_sentence_and_a_reset(value: str) -> None:
    headers = {"retry-after": value, "x-ratelimit-remaining": "0", "x-ratelimit-reset": "60"}
    asked = hint_of(Kind.LIMITED, headers, signal("retryDelay", IN_WORDS, 30.0), ({"retryDelay": "5s"},),
                    "try again in 6s")
    assert asked == 7.0


def test_retry_after_without_sense_leaves_the_word_to_the_others() -> None:
    assert hint_of(Kind.LIMITED, {"retry-after": "soon"}, signal("retryDelay"), ({"retryDelay": "5s"},)) == 5.0


@pytest.mark.parametrize(("parts", "text", "seconds"), [
    (({}, {"wait": 3}), "", 3.0),
    (({"wait": 3}, {"wait": 4}), "", 3.0),
    (({"wait": "soon"}, {"wait": "4s"}), "", 4.0),
    (({"wait": "soon"},), "try again in 9s", 9.0),
    ((), "try again later", 30.0),
])
def test_the_places_of_a_signal_are_tried_in_turn(parts: Any, text: str, seconds: float) -> None:
    assert hint_of(Kind.LIMITED, {}, signal("wait", IN_WORDS, 30.0), parts, text) == seconds


def test_a_sentence_counts_only_where_the_api_tells_its_wait_so() -> None:
    assert hint_of(Kind.LIMITED, {}, signal("wait"), ({"message": "try again in 9s"},), "try again in 9s") is None


def test_a_place_may_be_a_header() -> None:
    headers = {"x-ratelimit-remaining": "57", "x-ratelimit-reset": "4"}
    assert hint_of(Kind.GROWTH_LIMITED, headers, signal("x-ratelimit-reset")) == 4.0
    assert hint_of(Kind.GROWTH_LIMITED, headers, signal()) is None


def test_a_signal_s_own_wait_beats_the_reset_of_a_limit() -> None:
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "60"}
    assert hint_of(Kind.LIMITED, headers, signal("wait"), ({"wait": 3},)) == 3.0
    assert hint_of(Kind.LIMITED, headers, signal("wait"), ({},)) == 60.0


@pytest.mark.parametrize("waits", [("wait",), (IN_WORDS,), (30.0,)])
def test_a_quota_takes_no_wait_but_a_header_s(waits: Any) -> None:
    told: Any = signal(*waits, kind=Kind.QUOTA), ({"wait": 20.0},), "try again in 9s"
    assert hint_of(Kind.QUOTA, {}, *told) is None
    assert hint_of(Kind.QUOTA, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "60"}, *told) is None
    assert hint_of(Kind.QUOTA, {"retry-after": "3600"}, *told) == 3600.0


@pytest.mark.parametrize("kind", [Kind.LIMITED, Kind.GROWTH_LIMITED, Kind.OVERLOAD])
def test_the_reset_of_a_limit_of_which_nothing_is_left_is_waited_for(kind: Kind) -> None:
    assert hint_of(kind, {"ratelimit": '"api";r=0;t=55'}) == 55.0
    assert hint_of(kind, {"ratelimit": '"api";r=1;t=55'}) is None


@pytest.mark.parametrize("kind", [Kind.LOADING, Kind.FAILURE, Kind.TIMEOUT])
def test_a_used_up_rate_says_nothing_of_a_cold_start_or_a_failure(kind: Kind) -> None:
    assert hint_of(kind, {"ratelimit": '"api";r=0;t=55'}) is None


@pytest.mark.fuzz
@given(st.sampled_from(list(Kind)),
       st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "x-amz-retry-after", "ratelimit",
                                        "x-ratelimit-reset", "x-ratelimit-remaining"]),
                       st.text(max_size=5) | st.sampled_from(["0", "9", "1e400", '"a";r=0;t=2', "-1"]), max_size=3),
       st.sampled_from(["wait", IN_WORDS, "x-ratelimit-reset", 30.0]),
       st.integers() | st.floats() | st.text(max_size=8))
def test_whatever_is_told_the_hint_is_a_sound_number_or_none(
        kind: Kind, headers: dict[str, str], place: Any, value: Any) -> None:
    found = hint_of(kind, headers, signal(place), ({"wait": value},), f"try again in {value} s")
    assert found is None or 0 <= found < float("inf")
