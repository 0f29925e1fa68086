"""For objects that are to be found in a registry as long as they live, where the registry keeps what it is given."""

from __future__ import annotations

import itertools
from typing import Any


class Listed:
    """Is found in a registry under a name of its own, for as long as it lives.

    The registry is given a second face of the same state, equal to the first, which goes when the first does.
    """

    __slots__ = ("__dict__", "_registry")  # `__dict__` is what the two faces share

    _name: str | None
    _registry: dict[Any, Any]

    def _list_in(self, registry: dict[str, Any], name: str) -> None:
        """Takes `name`, or, where another has it, "name#2" and so on.

        `setdefault` is atomic, so no two take one name.
        """
        face = type(self).__new__(type(self))
        face.__dict__ = self.__dict__
        for number in itertools.count(1):
            own = self._name = name if number == 1 else f"{name}#{number}"
            if registry.setdefault(own, face) is face:
                self._registry = registry
                return

    def __del__(self) -> None:
        registry = getattr(self, "_registry", None)
        if registry is not None and registry.get(self._name) == self:
            registry.pop(self._name, None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Listed) and self.__dict__ is other.__dict__

    def __hash__(self) -> int:
        return id(self.__dict__)
