"""The entry point of `llm-guard` and `python -m llm_guard`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs


def main() -> None:
    """Runs the command line, which needs the libraries of the extra "cli"."""
    sys.unraisablehook = _tell_unraisable
    try:
        from llm_guard.cli.command import group
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.exit(f"llm-guard needs {error.name}: pip install 'llm-guard-flow[cli]'")
    group(prog_name="llm-guard")


def _tell_unraisable(lost: UnraisableHookArgs) -> None:
    """An interrupt that falls into a finaliser is lost, and no news to who pressed Ctrl-C once more."""
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
