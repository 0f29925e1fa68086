"""A wait in each form in which it may be written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_guard.clock import SystemClock, use
from llm_guard.llm.waits import wait_in_words, wait_of, wait_until

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
    ("34.074824224s", 34.074824224),
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
    assert wait_of(value) == pytest.approx(seconds)


def test_a_time_without_a_zone_is_utc_wherever_the_machine_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC-9")
        time.tzset()
        waits = [wait_until("2023-11-14T22:13:50"), wait_until("Tue, 14 Nov 2023 22:13:50")]
    time.tzset()
    assert waits == [30.0, 30.0]


@pytest.mark.parametrize("value", ["", "soon", "-1", "nan", "inf", "1e400", "5, 7", "12 parsecs", "5sx", "Mon, 99 Foo",
                                   "9" * 400 + "s", "1" * 101])
def test_what_makes_no_sense_is_no_wait(value: Any) -> None:
    assert wait_until(value) is None


@pytest.mark.parametrize(("value", "seconds"), [(20, 20.0), (0.5, 0.5), (945.0, 945.0), (0, 0.0)])
def test_a_number_in_a_body_is_in_seconds(value: Any, seconds: float) -> None:
    assert wait_of(value) == seconds


@pytest.mark.parametrize("value", [True, "soon", None, -1, float("nan"), float("inf"), [20], {"seconds": 3}, 10 ** 400])
def test_what_is_no_duration_in_a_body_is_no_wait(value: Any) -> None:
    assert wait_of(value) is None


@pytest.mark.parametrize(("text", "seconds"), [
    ("... s0 pricing tier. please retry after 6 seconds. please go here: ...", 6.0),
    ("please retry after 86400 seconds.", 86_400.0),
    ("rate limit is exceeded. try again in 2 seconds.", 2.0),
    ("please wait 52 seconds before retrying.", 52.0),
    ("limit 10000 / min, used 9500. please try again in 20s. visit ...", 20.0),
    ("please try again in 6ms.", 0.006),
    ("please try again in 7m12s.", 432.0),
    ("please try again in 2m59.56s.", 179.56),
    ("please try again in 1h3m2.5s.", 3782.5),
    ("please retry in 34.074824224s.", 34.074824224),
    ("your rate limit resets in ~30s.", 30.0),
    ("reset in about 5 minutes", 300.0),
    ("expected available in 7 seconds.", 7.0),
    ("retry after: 21 seconds.", 21.0),
    ("try again in 1 minute and 5 seconds", 65.0),
    ("try again in 1 hour, 2 mins", 3720.0),
    ("try again in 250 milliseconds", 0.25),
    ("come back in 2 days, or retry after 24 hours", 86_400.0),
])
def test_a_sentence_that_names_a_wait_is_read(text: str, seconds: float) -> None:
    assert wait_in_words(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", [
    "", "please try again later", "limit 20 / min", "retry after 3 attempts", "please wait before trying again",
    "retry after 6", "unable to get response in less than 60 second(s)", "wait 5 more seconds", "available in 1 month",
    "the model has 7 seconds of audio", "retry after -5 seconds", "retry after 12345678901 seconds"])
def test_a_sentence_without_one_is_not(text: str) -> None:
    assert wait_in_words(text) is None


@pytest.mark.fuzz
@given(st.text(max_size=20) | st.integers() | st.floats() | st.none() | st.lists(st.sampled_from(
    ["9", ".", "1e", "-", "s", "ms", "h", ":", "T", "Z", "2023", "Mon, ", " Nov ", "GMT"]), max_size=12).map("".join))
def test_no_value_of_a_header_or_a_member_raises(value: Any) -> None:
    for found in (wait_of(value), wait_until(str(value))):
        assert found is None or 0 <= found < float("inf")


@pytest.mark.fuzz
@given(st.lists(st.sampled_from(["retry", " after", " in", " ", "9", "1.5", "s", "m", " hours", "ms", "~", ", ",
                                 " and ", "resets", ":", "99999999999", "x"]),
                max_size=14).map("".join) | st.text(max_size=20))
def test_no_sentence_raises(text: str) -> None:
    found = wait_in_words(text)
    assert found is None or 0 <= found < float("inf")
