"""The setting LLM_GUARD."""

from __future__ import annotations

from collections.abc import Mapping

from django.conf import settings as project

from llm_guard.errors import ConfigError
from llm_guard.web import settings
from llm_guard.web.settings import Settings

NAME = "LLM_GUARD"


def read() -> tuple[Settings, list[ConfigError]]:
    """The settings of the project, and what is wrong with them."""
    given = getattr(project, NAME, {})
    if not isinstance(given, Mapping):
        return Settings(), [ConfigError(NAME, given, "a dict of settings")]
    named = {name: value for name, value in given.items() if isinstance(name, str)}
    found, wrong = settings.read(named)
    wrong += [ConfigError(NAME, name, "a dict whose keys are names") for name in given if not isinstance(name, str)]
    return found, wrong


def chosen() -> Settings:
    """The settings; raises the first `ConfigError`."""
    found, wrong = read()
    if wrong:
        raise wrong[0]
    return found
