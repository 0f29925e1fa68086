"""What items are known by."""

from __future__ import annotations

import datetime
import decimal
import os
import pathlib
import sqlite3
import subprocess
import sys
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_guard import ConfigError
from llm_guard.mapping.journal import occurrences
from llm_guard.mapping.journal.identity import item_digest, key_of, key_text, no_key_needed

KEYS = st.recursive(st.text() | st.integers() | st.binary(), lambda inner: st.lists(inner, min_size=1).map(tuple),
                    max_leaves=6)


@dataclass
class Prompt:
    text: str
    number: int


@settings(max_examples=100)
@given(KEYS)
def test_a_key_comes_back_from_its_text(key: Any) -> None:
    assert key_of(key_text(key)) == key


@settings(max_examples=100)
@given(KEYS, KEYS)
def test_two_keys_have_one_text_only_where_they_are_one(one: Any, other: Any) -> None:
    assert (key_text(one) == key_text(other)) == (one == other)


@pytest.mark.parametrize("key", [None, 1.5, True, ["secret"], {"secret"}, (), ("secret", None), ("a", 2.0)],
                         ids=["None", "float", "bool", "list", "set", "nothing", "None within", "float within"])
def test_a_key_of_another_type_is_refused_and_not_shown(key: Any) -> None:
    with pytest.raises(ConfigError, match="str, an int, bytes, or a tuple") as refused:
        key_text(key)
    assert refused.value.parameter == "key"
    assert "secret" not in str(refused.value)


#: Of each, two that differ.
ITEMS: dict[str, tuple[Any, Any]] = {
    "str": ("a", "b"), "half of a pair": ("\ud800", "\ud801"), "dict": ({"a": 1}, {"a": 2}), "bytes": (b"a", b"b"),
    "text and bytes": ("61", b"a"), "list": ([1], [1, 1]), "float": (0.1, 0.2), "None": (None, 0),
    "date": (datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)),
    "datetime": (datetime.datetime(2024, 1, 1, 1), datetime.datetime(2024, 1, 1, 2)),
    "decimal": (decimal.Decimal("1.0"), decimal.Decimal("1.1")), "uuid": (uuid.UUID(int=1), uuid.UUID(int=2)),
    "path": (pathlib.PurePosixPath("a"), pathlib.PurePosixPath("b")), "dataclass": (Prompt("a", 1), Prompt("a", 2)),
}


@pytest.mark.parametrize("name", ITEMS)
def test_items_are_told_apart_by_what_they_hold(name: str) -> None:
    one, other = ITEMS[name]
    assert item_digest(one) is not None
    assert item_digest(one) != item_digest(other)


def test_a_row_of_a_database_is_known_by_what_it_holds() -> None:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    one, again, other = (connection.execute("SELECT ? AS a", (value,)).fetchone() for value in (1, 1, 2))
    assert item_digest(one) == item_digest(again) != item_digest(other)
    connection.close()


def test_the_order_of_a_dict_does_not_matter() -> None:
    assert item_digest({"a": 1, "b": 2}) == item_digest({"b": 2, "a": 1})


@pytest.mark.parametrize("item", [object(), {1, 2}, {("a", 1): 2}, {1: 1, "a": 2}, [lambda: None]],
                         ids=["an object", "a set", "a tuple for a key", "mixed keys", "a function"])
def test_an_item_that_cannot_be_told_apart_takes_a_key(item: Any) -> None:
    assert item_digest(item) is None
    with pytest.raises(ConfigError, match="key=None") as refused:
        no_key_needed(item)
    assert type(item).__name__ in str(refused.value)


@pytest.mark.real
def test_a_digest_is_the_same_in_another_process() -> None:
    code = "from llm_guard.mapping.journal.identity import *; print(no_key_needed({'b': ['ä', 1], 'a': b'x'}).hex())"
    found = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60,
                            env={**os.environ, "PYTHONHASHSEED": seed}).stdout.strip() for seed in ("1", "2")}
    assert found == {no_key_needed({"a": b"x", "b": ["ä", 1]}).hex()}


@settings(max_examples=50)
@given(st.lists(st.integers(0, 12), max_size=60), st.integers(1, 6))
def test_occurrences_are_counted_in_memory_and_on_the_disk(keys: list[int], most: int) -> None:
    before, occurrences.MOST = occurrences.MOST, most
    counted = occurrences.Occurrences()
    try:
        found = [counted.next(bytes([key]) * 16) for key in keys]
    finally:
        occurrences.MOST = before
        counted.connection.close()
    assert found == [keys[:place].count(key) for place, key in enumerate(keys)]
