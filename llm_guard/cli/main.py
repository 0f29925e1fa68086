"""The entry point of `llm-guard` and `python -m llm_guard`."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line, which needs the libraries of the extra "cli"."""
    try:
        from llm_guard.cli.command import group
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.exit(f"llm-guard needs {error.name}: pip install 'llm-guard-flow[cli]'")
    group(prog_name="llm-guard")
