"""What an item is known by: its key, or its place in the input together with a digest of it."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from hashlib import blake2b
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from llm_guard.errors import ConfigError

Key = str | int | bytes | tuple["Key", ...]

_ALLOWED = "a function of the item that returns a str, an int, bytes, or a tuple of these"
#: Characters of a key's text by which the index is in order.
_BEGINNING: Final = 24
#: Their `str` tells each value of them from each other.
_BY_TEXT: Final = (date, datetime, time, timedelta, Decimal, Fraction, UUID, PurePath)


def digest(text: str) -> bytes:
    """16 bytes that stand for it."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def item_digest(item: object) -> bytes | None:
    """That of an item, the same in each process; None where it holds what JSON and this page do not know."""
    try:
        return digest(_canonical(item))
    except (TypeError, ValueError, RecursionError):
        return None


def _other(value: object) -> Any:
    """What JSON does not know, as what it does."""
    if isinstance(value, bytes | bytearray):
        return {"bytes": value.hex()}
    if isinstance(value, _BY_TEXT):
        return {type(value).__name__: str(value)}
    if isinstance(value, sqlite3.Row):
        return list(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    raise TypeError


_canonical: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_other).encode
_compact: Final = json.JSONEncoder(separators=(",", ":")).encode


def no_key_needed(item: object) -> bytes:
    """The digest of an item that has no key."""
    found = item_digest(item)
    if found is None:
        raise ConfigError("key", None, f"{_ALLOWED}, since items of type {type(item).__name__} cannot be told apart by "
                                       "what they hold")
    return found


def key_text(key: object) -> str:
    """A key as JSON, from which `key_of` makes it anew. ConfigError for one that is of no use; it does not show it."""
    return _compact(_plain(key))


def key_mark(text: str) -> bytes:
    """What stands for a key's text in the index: how it begins, and its digest. So keys that come in some order, as
    numbers do, lie side by side there, and a batch writes a few pages instead of one for each of its rows."""
    return text[:_BEGINNING].encode() + digest(text)


def _plain(key: object) -> Any:
    if isinstance(key, str):
        return str(key)
    if isinstance(key, int) and not isinstance(key, bool):
        return int(key)
    if isinstance(key, bytes):
        return {"bytes": key.hex()}
    if isinstance(key, tuple) and key:
        return [_plain(part) for part in key]
    raise ConfigError("key", f"<{type(key).__name__}>", _ALLOWED)


def key_of(text: str) -> Key:
    """The key of which `key_text` made it."""
    return _back(json.loads(text))


def _back(plain: Any) -> Key:
    if isinstance(plain, list):
        return tuple(_back(part) for part in plain)
    if isinstance(plain, dict):
        return bytes.fromhex(plain["bytes"])
    key: str | int = plain
    return key
