"""The types whose values a journal keeps though JSON alone would not give them back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Form(NamedTuple):
    """Such a type: how to make plain JSON of a value, and one of that."""

    type: type
    plain: Callable[[Any], Any]
    back: Callable[[Any], Any]


#: By their names in the journal.
_forms: dict[str, Form] = {}
_made_late: list[Callable[[], tuple[str, Form]]] = []


def know_form(make: Callable[[], tuple[str, Form]]) -> None:
    """Has the values of a type kept too: `make` gives its name in the journal, and the form, when it is first needed.
    Such types stand on other floors, and are handed down here."""
    _made_late.append(make)


def known_forms() -> dict[str, Form]:
    """All of them."""
    if len(_forms) < len(_made_late):
        _forms.update(make() for make in _made_late)
    return _forms
