"""What headers tell of an account's limits, in each provider's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_guard.clock import SystemClock, use
from llm_guard.llm.limits import Left, both_in, reset_of

WALL = 1_700_000_000.0


@pytest.fixture(autouse=True)
def _fixed_wall() -> Iterator[None]:
    clock = SystemClock()
    clock.wall = lambda: WALL
    with use(clock):
        yield


OPENAI = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59",
          "x-ratelimit-reset-requests": "1s"}
OPENAI_TOKENS = {"x-ratelimit-limit-tokens": "150000", "x-ratelimit-remaining-tokens": "149984",
                 "x-ratelimit-reset-tokens": "6m0s"}
ANTHROPIC = {"anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-remaining": "49",
             "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:21Z"}
ANTHROPIC_TOKENS = {f"anthropic-ratelimit-{kind}tokens-{what}": value
                    for kind, values in (("", ("80000", "72000", "2023-11-14T22:13:32Z")),
                                         ("input-", ("40000", "30000", "2023-11-14T22:13:30Z")),
                                         ("output-", ("8000", "100", "2023-11-14T22:14:00Z")))
                    for what, value in zip(("limit", "remaining", "reset"), values, strict=True)}
GITHUB = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "4987", "x-ratelimit-reset": str(int(WALL) + 600)}
TOGETHER = {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "59", "x-ratelimit-reset": "2",
            "x-tokenlimit-limit": "3000", "x-tokenlimit-remaining": "2980"}
CEREBRAS = {"x-ratelimit-limit-requests-day": "1000000000", "x-ratelimit-remaining-requests-day": "999997000",
            "x-ratelimit-reset-requests-day": "33011.382867", "x-ratelimit-limit-tokens-minute": "1000000000",
            "x-ratelimit-remaining-tokens-minute": "999998455", "x-ratelimit-reset-tokens-minute": "11.382867"}
MISTRAL = {"x-ratelimit-limit-tokens-minute": "5000000", "x-ratelimit-remaining-tokens-minute": "4999911",
           "x-ratelimit-tokens-query-cost": "52", "x-ratelimit-limit-req-minute": "720",
           "x-ratelimit-remaining-req-minute": "717"}
AZURE_NOISE = {"x-ratelimit-limit-tokens": "-1", "x-ratelimit-remaining-tokens": "-1", "x-ratelimit-reset-tokens": "0",
               "x-ratelimit-limit-requests": "0", "x-ratelimit-remaining-requests": "0",
               "x-ratelimit-reset-requests": "9"}
ALL = OPENAI | OPENAI_TOKENS | ANTHROPIC | ANTHROPIC_TOKENS | GITHUB | TOGETHER | MISTRAL


@pytest.mark.parametrize(("headers", "left"), [
    (OPENAI, Left(59, 1)),
    (OPENAI | {"x-ratelimit-reset-requests": "2m59.56s"}, Left(59, 179.56)),
    (OPENAI | {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, Left(59, 1)),
    (ANTHROPIC, Left(49, 1)),
    (ANTHROPIC | {"anthropic-ratelimit-tokens-remaining": "0",
                  "anthropic-ratelimit-tokens-reset": "2023-11-14T23:13:21Z"}, Left(49, 1)),
    (GITHUB, Left(4987, 600)),
    (TOGETHER, Left(59, 2)),
    (CEREBRAS, Left(999_997_000, 33_011.382867)),
    (MISTRAL, Left(717, None)),
    ({"ratelimit-remaining": "7", "ratelimit-reset": "30"}, Left(7, 30)),
    ({"x-rate-limit-remaining": "7", "x-rate-limit-reset": "30"}, Left(7, 30)),
    ({"x-ratelimit-remaining-minute": "7"}, Left(7, None)),
    ({"ratelimit": '"api";r=489;t=189', "ratelimit-policy": '"fixed window";"api";q=500;w=300'}, Left(489, 189)),
    ({"ratelimit": "r=3;t=4"}, Left(3, 4)),
    ({"ratelimit": "limit=100, remaining=50, reset=30"}, Left(50, 30)),
    ({"ratelimit": ' "tokens per minute";r=1;t=50 , "requests" ; r=8 ; t=4'}, Left(8, 4)),
    ({"ratelimit": '"a";r=5;t=50, "b";r=8;t=4', "ratelimit-policy": '"a";q=9;qu="content-bytes", "b";q=9'}, Left(8, 4)),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}, Left(0, 30)),
])
def test_what_is_left_of_the_requests_is_read_in_each_form(headers: dict[str, str], left: Left) -> None:
    assert both_in(headers)[:2] == left


@pytest.mark.parametrize(("headers", "left"), [
    (OPENAI_TOKENS, Left(149_984, 360)),
    (OPENAI | OPENAI_TOKENS, Left(149_984, 360)),
    (OPENAI_TOKENS | {"x-ratelimit-remaining-tokens_usage_based": "7", "x-ratelimit-reset-tokens_usage_based": "1m"},
     Left(7, 60)),
    (ANTHROPIC | ANTHROPIC_TOKENS, Left(100, 40)),
    (TOGETHER, Left(2980, 2)),
    (CEREBRAS, Left(999_998_455, 11.382867)),
    (MISTRAL, Left(4_999_911, None)),
    ({"ratelimitbysize-remaining": "499", "ratelimitbysize-reset": "13"}, Left(499, 13)),
    ({"x-ratelimit-limit-tokens-prompt": "60000", "x-ratelimit-remaining-tokens-prompt": "59000"}, Left(59_000, None)),
    ({"ratelimit": '"tokens";r=1;t=50, "requests";r=8;t=4'}, Left(1, 50)),
    ({"ratelimit": '"a";r=5;t=50', "ratelimit-policy": '"a";q=9;w=60;qu="tokens"'}, Left(5, 50)),
    (AZURE_NOISE, Left()), (OPENAI, Left()), (GITHUB, Left()), ({}, Left()),
])
def test_what_is_left_of_the_tokens_is_read_in_each_form(headers: dict[str, str], left: Left) -> None:
    assert both_in(headers)[2:] == left


@pytest.mark.parametrize(("headers", "left"), [
    ({"ratelimit": '"second";r=5;t=1, "day";r=900;t=9000'}, Left(900, 9000)),
    ({"ratelimit": '"second";r=1;t=1, "day";r=9000;t=900'}, Left(1, 1)),
    (OPENAI | {"ratelimit": '"api";r=1;t=10'}, Left(1, 10)),
    ({"ratelimit": '"a";r=0;t=5, "b";r=0;t=9, "c";r=1;t=99'}, Left(0, 9)),
    ({"ratelimit": '"over";r=0;t=0, "b";r=50;t=60'}, Left(50, 60)),
    ({"x-ratelimit-remaining": "1"} | OPENAI, Left(59, 1)),
])
def test_of_several_limits_the_one_that_binds_soonest_counts(headers: dict[str, str], left: Left) -> None:
    assert both_in(headers)[:2] == left


def test_a_number_left_without_a_reset_is_told_alone() -> None:
    assert both_in({"x-ratelimit-remaining": "12"})[:2] == Left(12, None)
    assert both_in({"x-ratelimit-remaining": "12", "x-ratelimit-reset": "soon"})[:2] == Left(12, None)


@pytest.mark.parametrize("headers", [
    {}, {"content-type": "application/json"}, {"retry-after": "5"}, OPENAI_TOKENS, AZURE_NOISE,
    {"x-ratelimit-reset-requests": "5s"}, {"x-ratelimit-remaining": "many", "x-ratelimit-reset": "5"},
    {"x-ratelimit-remaining": "-1", "x-ratelimit-reset": "5"}, {"x-ratelimit-remaining": "nan"},
    {"x-ratelimit-remaining-requests": "5", "x-ratelimit-limit-requests": "-1"},
    {"x-ratelimit-remaining-images": "5", "x-ratelimit-reset-images": "9"}, {"remaining": "5", "reset": "3"},
    {"ratelimit": ""}, {"ratelimit": ";;,=,r=;t=5"}, {"ratelimit-policy": '"api";q=500;w=300'},
])
def test_where_nothing_of_requests_is_told_nothing_is_read(headers: dict[str, str]) -> None:
    assert both_in(headers)[:2] == Left(None, None)


@pytest.mark.parametrize(("headers", "seconds"), [
    ({"ratelimit": '"api";r=0;t=55', "ratelimit-policy": '"fixed window";"api";q=500;w=300'}, 55.0),
    ({"ratelimit": '"api";r=12;t=55'}, None),
    ({"ratelimit": "limit=100, remaining=0, reset=30"}, 30.0),
    ({"ratelimit": "limit=100, remaining=1, reset=30"}, None),
    ({"ratelimit": '"a";r=0;t=5, "b";r=0;t=9, "c";r=1;t=99'}, 9.0),
    ({"ratelimit-remaining": "0", "ratelimit-reset": "40"}, 40.0),
    ({"ratelimit-remaining": "3", "ratelimit-reset": "40"}, None),
    ({"ratelimit-reset": "40"}, None),
    ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
    ({"x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s"}, None),
    ({"x-ratelimit-remaining-images": "0", "x-ratelimit-reset-images": "9s"}, 9.0),
    ({"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2023-11-14T22:14:20Z"}, 60.0),
    ({"x-ratelimit-remaining": "0"}, None),
    ({"x-ratelimit-reset": str(int(WALL) + 30)}, 30.0),
    ({"x-ratelimit-reset": "2"}, 2.0),
    ({"x-ratelimit-reset": "2", "x-tokenlimit-remaining": "2980"}, 2.0),
    ({"x-ratelimit-reset": "2", "x-ratelimit-remaining": "5"}, None),
    ({"x-ratelimit-reset": "60", "x-ratelimit-remaining": "0", "x-ratelimit-limit": "0"}, None),
    ({"x-ratelimit-reset": "60", "x-ratelimit-remaining": "-1", "x-ratelimit-limit": "-1"}, None),
    ({}, None), (AZURE_NOISE, None),
])
def test_the_reset_that_a_refusal_waits_for(headers: dict[str, str], seconds: Any) -> None:
    assert reset_of(headers) == seconds


@pytest.mark.fuzz
@given(st.dictionaries(st.sampled_from(["ratelimit", "ratelimit-policy", *ALL]) | st.text(max_size=5).map(
    lambda name: f"x-ratelimit-remaining-{name}".lower()),
                       st.text(max_size=20) | st.sampled_from(["0", "5", "-1", "1s", "1e400", '"a";r=1;t=2',
                                                               "remaining=3, reset=4", '"a";qu="tokens"']), max_size=6))
def test_any_headers_leave_sound_numbers_or_none(headers: dict[str, str]) -> None:
    requests, its_reset, tokens, their_reset = both_in(headers)
    for remaining, resets in ((requests, its_reset), (tokens, their_reset)):
        assert remaining is None or 0 <= remaining < float("inf")
        assert resets is None or (remaining is not None and 0 <= resets < float("inf"))
    reset = reset_of(headers)
    assert reset is None or 0 <= reset < float("inf")
