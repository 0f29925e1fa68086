"""Libraries that come with an extra."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def bring(module: str, extra: str) -> Any:
    """The module; an ImportError that names what to install, where it is not there."""
    try:
        return import_module(module)
    except ImportError as missing:
        raise ImportError(f"{module.split('.')[0]} is not installed: pip install 'llm-guard-flow[{extra}]'",
                          name=module) from missing
