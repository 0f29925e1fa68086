"""What can be set for an app, in Flask's config or Django's settings: one table for both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from llm_guard import checks
from llm_guard.errors import ConfigError
from llm_guard.web.status.access import checked_token

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

    `status_token` and `status_allowed` open the status page, which without both is not there, to who has the token, and
    to those for whom the function of a request (or its dotted name) returns True; `status_actions`: whether its pause
    and resume are there.
    """

    deadline: float = DEADLINE
    retry_after: float = RETRY_AFTER
    key_status: int = 503
    upstream_errors: tuple[type[Exception], ...] = ()
    status_token: str | None = field(default=None, repr=False)
    status_allowed: Callable[[Any], object] | None = None
    status_actions: bool = True

    @property
    def has_status(self) -> bool:
        """Whether there is somebody who may see the status page."""
        return self.status_token is not None or self.status_allowed is not None


def _status(name: str, value: object) -> int:
    if isinstance(value, bool) or value not in (429, 503):
        raise ConfigError(name, value, "429 or 503")
    return 429 if value == 429 else 503


def _classes(name: str, value: object) -> tuple[type[Exception], ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(name, value, "a list of classes of errors, or of their dotted names")
    return tuple(_class(name, each) for each in value)


def _class(name: str, value: object) -> type[Exception]:
    found = _imported(name, value, "class") if isinstance(value, str) else value
    if not isinstance(found, type) or not issubclass(found, Exception):
        raise ConfigError(name, value, "a class of errors, or its dotted name")
    return found


def _function(name: str, value: object) -> Callable[[Any], object] | None:
    if value is None:
        return None
    found: Any = _imported(name, value, "function") if isinstance(value, str) else value
    checks.function(name, found, "a function from a request to whether its user may look, or its dotted name")
    return found  # type: ignore[no-any-return]  # it was looked at


def _imported(name: str, path: str, what: str) -> object:
    module, _, attribute = path.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        raise ConfigError(name, path, f"the dotted name of a {what} that can be imported") from None


def _switch(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(name, value, "True or False")
    return value


def _seconds(name: str, value: object) -> float:
    return checks.number(name, value, above=0, unit="seconds")


_CHECKS: dict[str, Callable[[str, object], Any]] = {
    "DEADLINE": _seconds, "RETRY_AFTER": _seconds, "KEY_STATUS": _status, "UPSTREAM_ERRORS": _classes,
    "STATUS_TOKEN": checked_token, "STATUS_ALLOWED": _function, "STATUS_ACTIONS": _switch}


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
                shown = type(value).__name__ if isinstance(value, str | bytes) else value  # a token, misspelt
                raise ConfigError(f"{prefix}{name}", shown, f"no setting; there are {_names(prefix)}")
            found[name.lower()] = check(f"{prefix}{name}", value)
        except ConfigError as error:
            wrong.append(error)
    return Settings(**found), wrong


def _names(prefix: str) -> str:
    return ", ".join(prefix + name for name in _CHECKS)
