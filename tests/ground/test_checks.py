"""The checks of options: what passes, and what the error says of what does not."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from llm_guard import checks
from llm_guard.errors import ConfigError


@pytest.mark.parametrize(("value", "found"), [(3, 3.0), (0.5, 0.5), (Fraction(1, 4), 0.25), (-2, -2.0)])
def test_a_number_comes_back_as_a_float(value: object, found: float) -> None:
    back = checks.number("rate", value)
    assert type(back) is float
    assert back == found


@pytest.mark.parametrize("value", [None, "3", True, False, math.nan, math.inf, -math.inf, 1j, Decimal(3), [1]])
def test_what_is_no_finite_number_is_refused(value: object) -> None:
    with pytest.raises(ConfigError) as refused:
        checks.number("rate", value, unit="calls a second")
    assert refused.value.parameter == "rate"
    assert refused.value.value is value
    assert refused.value.allowed == "a finite number of calls a second"


def test_a_number_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(ConfigError, match="rate"):
        checks.number("rate", 10**400)


@pytest.mark.parametrize(("bounds", "inside", "outside", "words"), [
    ({"above": 0}, 1e-300, 0, "above 0"),
    ({"least": 0}, 0, -1e-300, "at least 0"),
    ({"most": 1}, 1, 1.0000001, "at most 1"),
    ({"below": 1}, 0.9999999, 1, "below 1"),
])
def test_bounds_hold_at_their_very_edge(bounds: dict[str, float], inside: float, outside: float, words: str) -> None:
    assert checks.number("share", inside, **bounds) == inside
    with pytest.raises(ConfigError) as refused:
        checks.number("share", outside, **bounds)
    assert words in refused.value.allowed
    assert words in str(refused.value)


def test_both_bounds_and_the_unit_are_named() -> None:
    with pytest.raises(ConfigError) as refused:
        checks.number("seconds", 11, above=0, most=10, unit="seconds")
    assert refused.value.allowed == "a finite number of seconds above 0 and at most 10"


def test_a_number_without_end_passes_where_it_is_allowed() -> None:
    assert checks.number("end", math.inf, above=0, endless=True) == math.inf
    for value in (math.nan, -math.inf, 0, "x"):
        with pytest.raises(ConfigError) as refused:
            checks.number("end", value, above=0, unit="seconds", endless=True)
        assert refused.value.allowed == "a number, or infinity, of seconds above 0"


def test_an_optional_number_may_be_none_and_is_checked_where_it_is_not() -> None:
    assert checks.optional_number("max_wait", None, above=0) is None
    assert checks.optional_number("max_wait", 2, above=0) == 2.0
    for bounds, value in (({"above": 0.0}, 0), ({"least": 1.0}, 0), ({"most": 1.0}, 2)):
        with pytest.raises(ConfigError, match="max_wait"):
            checks.optional_number("max_wait", value, **bounds)


def test_a_whole_number_is_an_int_within_its_bounds() -> None:
    assert checks.whole("n", 1, least=1) == 1
    assert checks.whole("n", 8, least=1, most=8) == 8


@pytest.mark.parametrize("value", [0, 9, -1, 1.0, True, "1", None])
def test_what_is_no_whole_number_in_bounds_is_refused(value: object) -> None:
    with pytest.raises(ConfigError) as refused:
        checks.whole("n", value, least=1, most=8)
    assert refused.value.value is value
    assert refused.value.allowed == "a whole number of at least 1 and at most 8"


@pytest.mark.parametrize("value", ["calls", "", None, 1, ["call"]])
def test_a_word_must_be_one_of_those_allowed(value: object) -> None:
    assert checks.one_of("holds", "call", ("call", "attempt")) == "call"
    with pytest.raises(ConfigError) as refused:
        checks.one_of("holds", value, ("call", "attempt"))
    assert (refused.value.parameter, refused.value.value) == ("holds", value)
    assert refused.value.allowed == "one of 'call', 'attempt'"


@pytest.mark.parametrize("value", [print, int, lambda: None])
def test_what_can_be_called_passes_as_a_function(value: Callable[..., Any]) -> None:
    checks.function("classify", value)


@pytest.mark.parametrize("value", [None, 3, "print"])
def test_what_cannot_be_called_is_refused_as_a_function(value: object) -> None:
    with pytest.raises(ConfigError) as refused:
        checks.function("classify", value, "a function of an exception")
    assert (refused.value.parameter, refused.value.value) == ("classify", value)
    assert refused.value.allowed == "a function of an exception"
