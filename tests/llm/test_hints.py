"""How long a server asks to wait, in each form in which it may say so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_guard.clock import SystemClock, use
from llm_guard.llm.hints import Left, hint_of, left_in, seconds_in, wait_until
from llm_guard.outcome import Kind

WALL = 1_700_000_000.0


@pytest.fixture(autouse=True)
def _fixed_wall() -> Iterator[None]:
    clock = SystemClock()
    clock.wall = lambda: WALL
    with use(clock):
        yield


@pytest.mark.parametrize(("value", "seconds"), [
    ("20", 20.0),
    ("0", 0.0),
    (" 1.5 ", 1.5),
    ("6m0s", 360.0),
    ("12ms", 0.012),
    ("2m59.56s", 179.56),
    ("1h1m1s", 3661.0),
    (formatdate(WALL + 30, usegmt=True), 30.0),
    (formatdate(WALL - 30, usegmt=True), 0.0),
    ("2023-11-14T22:13:50Z", 30.0),
    ("2023-11-14T22:13:50", 30.0),
    ("2023-11-15T00:13:50+02:00", 30.0),
    (str(WALL + 30), 30.0),
    (str(int(WALL + 30) * 1000), 30.0),
    (str(WALL - 30), 0.0),
])
def test_every_form_of_a_wait_is_read_in_seconds(value: Any, seconds: Any) -> None:
    assert wait_until(value) == pytest.approx(seconds)


def test_a_time_without_a_zone_is_utc_wherever_the_machine_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC-9")
        time.tzset()
        waits = [wait_until("2023-11-14T22:13:50"), wait_until("Tue, 14 Nov 2023 22:13:50")]
    time.tzset()
    assert waits == [30.0, 30.0]


@pytest.mark.parametrize("value", ["", "soon", "-1", "nan", "inf", "1e400", "5, 7", "12 parsecs", "5sx", "Mon, 99 Foo",
                                   "9" * 400 + "s"])
def test_what_makes_no_sense_is_no_hint(value: Any) -> None:
    assert wait_until(value) is None


@pytest.mark.fuzz
@given(st.text())
def test_no_header_value_raises(value: Any) -> None:
    found = wait_until(value)
    assert found is None or found >= 0


def test_milliseconds_come_before_retry_after() -> None:
    assert hint_of(Kind.LIMITED, {"retry-after-ms": "1500", "retry-after": "2"}, None) == 1.5


@pytest.mark.parametrize("nonsense", ["soon", "-5", "nan", "inf", ""])
def test_milliseconds_without_sense_leave_the_word_to_retry_after(nonsense: str) -> None:
    assert hint_of(Kind.LIMITED, {"retry-after-ms": nonsense, "retry-after": "2"}, None) == 2.0


@pytest.mark.parametrize("kind", [Kind.LOADING, Kind.LIMITED, Kind.OVERLOAD, Kind.GROWTH_LIMITED, Kind.FAILURE,
                                  Kind.TIMEOUT, Kind.QUOTA])
def test_retry_after_counts_for_whatever_may_be_tried_again(kind: Kind) -> None:
    assert hint_of(kind, {"retry-after": "7"}, None) == 7.0


def test_a_wrong_request_has_nothing_to_wait_for() -> None:
    assert hint_of(Kind.INVALID, {"retry-after": "7"}, None) is None


def test_the_estimate_of_a_cold_model_is_its_hint() -> None:
    assert hint_of(Kind.LOADING, {}, {"error": "loading", "estimated_time": 20.5}) == 20.5


def test_retry_after_beats_the_estimate() -> None:
    assert hint_of(Kind.LOADING, {"retry-after": "3"}, {"estimated_time": 20.0}) == 3.0


def test_an_estimate_says_nothing_of_a_quota() -> None:
    assert hint_of(Kind.QUOTA, {}, {"estimated_time": 20.0}) is None


@pytest.mark.parametrize("value", [True, "20", None, -1, float("nan"), float("inf"), [20]])
def test_an_estimate_that_is_no_duration_is_no_hint(value: Any) -> None:
    assert seconds_in({"estimated_time": value}, "estimated_time") is None


@pytest.mark.parametrize(("headers", "seconds"), [
    ({"ratelimit": '"api";r=0;t=55', "ratelimit-policy": '"fixed window";"api";q=500;w=300'}, 55.0),
    ({"ratelimit": '"api";r=12;t=55'}, None),
    ({"ratelimit": '"a";r=0;t=5, "b";r=0;t=9, "c";r=1;t=99'}, 9.0),
    ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
    ({"x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s"}, None),
    ({"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2023-11-14T22:14:20Z"}, 60.0),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-limit": "0", "x-ratelimit-reset": "60"}, None),
    ({"x-ratelimit-remaining": "0"}, None),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "60", "retry-after": "2"}, 2.0),
])
def test_a_reset_counts_where_nothing_is_left(headers: dict[str, str], seconds: Any) -> None:
    assert hint_of(Kind.LIMITED, headers, None) == seconds


def test_a_used_up_rate_says_nothing_of_a_cold_start() -> None:
    assert hint_of(Kind.LOADING, {"ratelimit": '"api";r=0;t=55'}, None) is None


OPENAI = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59",
          "x-ratelimit-reset-requests": "1s"}
ANTHROPIC = {"anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-remaining": "49",
             "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:21Z"}
GITHUB = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "4987", "x-ratelimit-reset": str(int(WALL) + 600)}


@pytest.mark.parametrize(("headers", "left"), [
    (OPENAI, Left(59, 1)),
    (OPENAI | {"x-ratelimit-reset-requests": "2m59.56s"}, Left(59, 179.56)),
    (OPENAI | {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, Left(59, 1)),
    (ANTHROPIC, Left(49, 1)),
    (ANTHROPIC | {"anthropic-ratelimit-tokens-remaining": "0",
                  "anthropic-ratelimit-tokens-reset": "2023-11-14T23:13:21Z"}, Left(49, 1)),
    (GITHUB, Left(4987, 600)),
    ({"ratelimit-remaining": "7", "ratelimit-reset": "30"}, Left(7, 30)),
    ({"ratelimit": '"api";r=489;t=189', "ratelimit-policy": '"fixed window";"api";q=500;w=300'}, Left(489, 189)),
    ({"ratelimit": "r=3;t=4"}, Left(3, 4)),
    ({"ratelimit": ' "tokens per minute";r=1;t=50 , "requests" ; r=8 ; t=4'}, Left(8, 4)),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}, Left(0, 30)),
])
def test_what_is_left_is_read_in_each_form(headers: dict[str, str], left: Left) -> None:
    assert left_in(headers) == left


@pytest.mark.parametrize(("headers", "left"), [
    ({"ratelimit": '"second";r=5;t=1, "day";r=900;t=9000'}, Left(900, 9000)),
    ({"ratelimit": '"second";r=1;t=1, "day";r=9000;t=900'}, Left(1, 1)),
    (OPENAI | {"ratelimit": '"api";r=1;t=10'}, Left(1, 10)),
    ({"ratelimit": '"a";r=0;t=5, "b";r=0;t=9, "c";r=1;t=99'}, Left(0, 9)),
    ({"ratelimit": '"over";r=0;t=0, "b";r=50;t=60'}, Left(50, 60)),
    ({"x-ratelimit-remaining": "1"} | OPENAI, Left(59, 1)),
])
def test_of_several_limits_the_one_that_binds_soonest_counts(headers: dict[str, str], left: Left) -> None:
    assert left_in(headers) == left


def test_a_number_left_without_a_reset_is_told_alone() -> None:
    assert left_in({"x-ratelimit-remaining": "12"}) == Left(12, None)
    assert left_in({"x-ratelimit-remaining": "12", "x-ratelimit-reset": "soon"}) == Left(12, None)


@pytest.mark.parametrize("headers", [
    {}, {"content-type": "application/json"}, {"retry-after": "5"},
    {"x-ratelimit-remaining-tokens": "10", "x-ratelimit-reset-tokens": "6m0s"},
    {"x-ratelimit-reset-requests": "5s"}, {"x-ratelimit-remaining": "many", "x-ratelimit-reset": "5"},
    {"x-ratelimit-remaining": "-1", "x-ratelimit-reset": "5"}, {"x-ratelimit-remaining": "nan"},
    {"x-ratelimit-remaining-requests": "0", "x-ratelimit-limit-requests": "0", "x-ratelimit-reset-requests": "9s"},
    {"x-ratelimit-remaining-requests": "5", "x-ratelimit-limit-requests": "-1"},
    {"ratelimit": ""}, {"ratelimit": ";;,=,r=;t=5"}, {"ratelimit-policy": '"api";q=500;w=300'},
])
def test_where_nothing_of_requests_is_told_nothing_is_read(headers: dict[str, str]) -> None:
    assert left_in(headers) == Left(None, None)


@pytest.mark.fuzz
@given(st.dictionaries(st.sampled_from(["ratelimit", *OPENAI, *ANTHROPIC, *GITHUB]),
                       st.text() | st.sampled_from(["0", "5", "1s", "1e400", '"a";r=1;t=2']), max_size=5))
def test_any_headers_leave_sound_numbers_or_none(headers: dict[str, str]) -> None:
    left = left_in(headers)
    assert left.remaining is None or 0 <= left.remaining < float("inf")
    assert left.reset is None or (left.remaining is not None and 0 <= left.reset < float("inf"))
