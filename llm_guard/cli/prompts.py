"""From the fields of a row to what is asked: one field as it is, or a template that is filled with several."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from llm_guard.cli.inputs import a_kind
from llm_guard.llm.ready import Prompt

_PARTS: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_MOST_NAMES: Final = 20  # of fields, in a message


class Unusable(ValueError):
    """A row from which nothing can be asked; it says why, without what stands in it."""


class TemplateError(ValueError):
    """A text that is no template."""


class Maker(Protocol):
    """Makes a prompt of the fields of a row; `Unusable` where it cannot."""

    def __call__(self, fields: Mapping[str, Any]) -> Prompt: ...


class Field:
    """The prompt is the field of that name: a text, or a list of messages."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, fields: Mapping[str, Any]) -> Prompt:
        value = needed(fields, self.name)
        if isinstance(value, str):
            return value
        if (isinstance(value, list) and value
                and all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in value)):
            return value
        raise Unusable(f"field {self.name!r} is {a_kind(value)}, where a text or a list of messages belongs")


class Template:
    """Text with names of fields in braces; doubled braces stand for themselves. A name is a name: no attribute, no
    index and no format can be asked for, whatever stands between the braces.

    A field that is no text goes in as JSON; null is `Unusable`. `TemplateError` for a brace without its partner,
    and for a text that takes no field.
    """

    def __init__(self, text: str) -> None:
        self._parts: list[tuple[str, str | None]] = []  # literal text, and the field that follows
        literal, at = "", 0
        for found in _PARTS.finditer(text):
            literal += text[at:found.start()]
            at = found.end()
            whole, name = found.group(), found.group(1)
            if whole in ("{{", "}}"):
                literal += whole[0]
            elif name is None or not name.strip():
                raise TemplateError(f"a {whole[0]!r} at character {found.start() + 1} that encloses no name of a field:"
                                    f" write {whole[0] * 2!r} for the brace itself")
            else:
                self._parts.append((literal, name.strip()))
                literal = ""
        if not self._parts:
            raise TemplateError("no name of a field in braces: each row would ask the same")
        self._parts.append((literal + text[at:], None))

    def __call__(self, fields: Mapping[str, Any]) -> str:
        return "".join([literal if name is None else literal + _shown(fields, name) for literal, name in self._parts])


class WithSystem:
    """Puts a message of the system before what another one makes."""

    def __init__(self, system: str, maker: Maker) -> None:
        self._system, self._maker = {"role": "system", "content": system}, maker

    def __call__(self, fields: Mapping[str, Any]) -> Prompt:
        asked = self._maker(fields)
        return [self._system, *([{"role": "user", "content": asked}] if isinstance(asked, str) else asked)]


def needed(fields: Mapping[str, Any], name: str) -> Any:
    """The value of a field that must be there."""
    try:
        return fields[name]
    except KeyError:
        raise Unusable(f"no field {name!r}; its fields are: {names_of(fields)}") from None


def names_of(names: Iterable[str]) -> str:
    """Names of fields for a message."""
    found = [name if len(name) <= 40 else f"{name[:37]}..." for name in names]
    more = len(found) - _MOST_NAMES
    return ", ".join(map(repr, found[:_MOST_NAMES])) + (f" and {more} more" if more > 0 else "") or "none"


def _shown(fields: Mapping[str, Any], name: str) -> str:
    value = needed(fields, name)
    if isinstance(value, str):
        return value
    if value is None:
        raise Unusable(f"field {name!r} is null, where a text belongs")
    return json.dumps(value, ensure_ascii=False)
