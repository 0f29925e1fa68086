"""Results are kept so that they come back as they were, or are refused."""

from __future__ import annotations

import enum
import json
import math
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_guard import ConfigError
from llm_guard.llm.text import Text
from llm_guard.llm.usage import Usage
from llm_guard.mapping.journal.codec import Json, Own, Unfit, kept_by

ANY_TEXT = st.text(st.characters(codec=None))  # halves of surrogate pairs too
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                    | ANY_TEXT, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner), max_leaves=6)


def same(one: Any, other: Any) -> bool:
    """Equal, in type and order too, all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)  # so that -0.0 is not 0.0


@settings(max_examples=100)
@given(JSON)
def test_what_is_json_comes_back_as_it_was(value: Any) -> None:
    assert same(Json().loads(*Json().dumps(value)), value)


class Colour(enum.IntEnum):
    RED = 1


class Pair(NamedTuple):
    left: int
    right: int


class Named(str):
    pass


UNFIT = {
    "a tuple": ((1, 2), "tuple"), "a tuple within": ([{"a": (1,)}], "tuple"), "a key that is no str": ({1: 2}, "int"),
    "no number": (math.nan, "no number"), "infinite": ([math.inf], "infinite"), "bytes": (b"secret", "bytes"),
    "an enum": (Colour.RED, "Colour"), "a named tuple": (Pair(1, 2), "Pair"), "a set": ({1}, "set"),
    "a str of a type": (Named("secret"), "Named"), "too many digits": (10 ** 5000, "ValueError"),
    "an object": (object(), "object"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_json_would_change_is_refused_by_its_type_and_without_the_value(name: str) -> None:
    value, told = UNFIT[name]
    with pytest.raises(Unfit, match=told) as refused:
        Json().dumps(value)
    assert "secret" not in str(refused.value)


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(Unfit):
        Json().dumps(value)


@pytest.mark.parametrize("usage", [None, Usage(input=3, output=4, total=7, load_seconds=0.5)], ids=["none", "usage"])
def test_a_text_comes_back_with_its_usage(usage: Usage | None) -> None:
    form, kept = Json().dumps(Text("hällo", usage=usage, finish_reason="stop"))
    back = Json().loads(form, kept)
    assert type(back) is Text
    assert (back, back.usage, back.finish_reason) == ("hällo", usage, "stop")


def test_a_text_within_is_kept_as_what_it_says() -> None:
    assert same(Json().loads(*Json().dumps({"a": [Text("hi", finish_reason="stop")]})), {"a": ["hi"]})


def test_a_codec_is_a_pair_or_has_dumps_and_loads() -> None:
    for codec in (json, (json.dumps, json.loads)):
        kept = kept_by(codec)
        assert kept.loads(*kept.dumps((1, 2))) == [1, 2]
        assert kept.name == "json.dumps"
    assert kept_by(None).name == "json"


@pytest.mark.parametrize("codec", [1, (json.dumps,), object(), (json.dumps, None)],
                         ids=["a number", "one function", "an object", "no loads"])
def test_what_is_no_codec_is_refused(codec: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        kept_by(codec)
    assert refused.value.parameter == "codec"


def test_a_codec_that_fails_or_makes_something_else_is_told_without_the_value() -> None:
    def fails(value: object) -> str:
        raise ValueError(f"cannot take {value!r}")

    with pytest.raises(Unfit, match="type str for which the codec raised ValueError") as refused:
        Own((fails, json.loads)).dumps("secret")
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None
    with pytest.raises(Unfit, match="made a list"):
        Own((list, json.loads)).dumps("secret")  # type: ignore[arg-type]
