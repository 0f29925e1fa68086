"""Checks of the options of ready call functions. None shows what may be a secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from llm_guard.checks import number
from llm_guard.errors import ConfigError

Timeout = float | tuple[float, float] | None
#: The longest wait in seconds for a connection, and for each read.
TIMEOUT: Final = (10.0, 120.0)


def model_name(model: object, example: str) -> str:
    """The name of a model."""
    if not isinstance(model, str) or not model.strip("/ "):
        raise ConfigError("model", model, f"the name of a model, such as {example!r}")
    return model


def base(url: str | None, default: str) -> str:
    """The base of a server, without a slash at its end."""
    if url is None:
        return default
    allowed = "the base of a server, http(s)://host[:port][/path], without a user, a query or a fragment"
    if not isinstance(url, str):
        raise ConfigError("url", url, allowed)
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        raise ConfigError("url", "...", allowed) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or "?" in url or "#" in url:
        # A user or a query may hold a key.
        raise ConfigError("url", "..." if set(url) & set("@?#") else url, allowed)
    return url.rstrip("/")


def secret(parameter: str, value: str | None) -> str | None:
    """A key, or None; a header that cannot be sent would be echoed in full elsewhere."""
    if value is not None and not (isinstance(value, str) and value.isascii() and value.isprintable()
                                  and value and " " not in value):
        raise ConfigError(parameter, "...", "a word of printable ASCII characters")
    return value


def copied(parameters: Mapping[str, Any] | None, taken: tuple[str, ...] = ()) -> dict[str, Any]:
    """What goes along in the body, as it is now; `taken` are members that the call fills itself."""
    if parameters is None:
        return {}
    try:
        found: dict[str, Any] = json.loads(json.dumps(dict(parameters), allow_nan=False))
    except (TypeError, ValueError):
        raise ConfigError("parameters", type(parameters), "a mapping that can be sent as JSON") from None
    for name in taken:
        if name in found:
            raise ConfigError("parameters", f"a mapping with {name!r}", f"a mapping without {', '.join(taken)}: these "
                                                                        "are told by other options and the prompt")
    return found


def pair(timeout: Timeout) -> tuple[float, float]:
    """The longest waits for a connection and for each read."""
    if timeout is None:
        return TIMEOUT
    connect, read = timeout if isinstance(timeout, tuple) and len(timeout) == 2 else (timeout, timeout)
    return number("timeout", connect, above=0, unit="seconds"), number("timeout", read, above=0, unit="seconds")
