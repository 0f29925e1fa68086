"""What can be set for an app, in Flask's config or Django's settings: one table for both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from llm_guard import checks
from llm_guard.errors import ConfigError

#: Seconds that a request has. Less than the 30 after which gunicorn kills a worker that it takes to hang.
DEADLINE = 25.0
#: Seconds after which a refused client may come again, where nobody knows.
RETRY_AFTER = 5.0


@dataclass(frozen=True, slots=True)
class Settings:
    """`deadline`: the seconds that a request has, unless its view has others. `retry_after`: what a refused client is
    told where the refusal itself does not say. `key_status`: the status where it was the limit of the caller's own key,
    503 or 429. `upstream_errors`: classes of errors of what is called; those that llm_guard reads as a refusal, a
    timeout or a failure of the server are answered 503, 504 or 502.
    """

    deadline: float = DEADLINE
    retry_after: float = RETRY_AFTER
    key_status: int = 503
    upstream_errors: tuple[type[Exception], ...] = ()


def _status(name: str, value: object) -> int:
    if isinstance(value, bool) or value not in (429, 503):
        raise ConfigError(name, value, "429 or 503")
    return 429 if value == 429 else 503


def _classes(name: str, value: object) -> tuple[type[Exception], ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(name, value, "a list of classes of errors, or of their dotted names")
    return tuple(_class(name, each) for each in value)


def _class(name: str, value: object) -> type[Exception]:
    found = value
    if isinstance(value, str):
        module, _, attribute = value.rpartition(".")
        try:
            found = getattr(import_module(module), attribute)
        except (ImportError, AttributeError, ValueError):
            raise ConfigError(name, value, "the dotted name of a class that can be imported") from None
    if not isinstance(found, type) or not issubclass(found, Exception):
        raise ConfigError(name, value, "a class of errors, or its dotted name")
    return found


def _seconds(name: str, value: object) -> float:
    return checks.number(name, value, above=0, unit="seconds")


_CHECKS: dict[str, Callable[[str, object], Any]] = {
    "DEADLINE": _seconds, "RETRY_AFTER": _seconds, "KEY_STATUS": _status, "UPSTREAM_ERRORS": _classes}


def read(given: Mapping[str, object], prefix: str = "") -> tuple[Settings, list[ConfigError]]:
    """The settings, and what is wrong with those given; what is wrong is left at its default.

    `given` has them by their names in capitals, without `prefix`, by which the errors name them.
    """
    found: dict[str, Any] = {}
    wrong: list[ConfigError] = []
    for name, value in given.items():
        check = _CHECKS.get(name)
        try:
            if check is None:
                raise ConfigError(f"{prefix}{name}", value, f"no setting; there are {_names(prefix)}")
            found[name.lower()] = check(f"{prefix}{name}", value)
        except ConfigError as error:
            wrong.append(error)
    return Settings(**found), wrong


def _names(prefix: str) -> str:
    return ", ".join(prefix + name for name in _CHECKS)
