"""Objects that look as if they came from a library."""

from __future__ import annotations

from typing import Any


def look_alike(module: str, name: str = "Response", base: type = object, **members: Any) -> Any:
    """A class called `name` of `module`."""
    return type(name, (base,), {"__module__": module, **members})
