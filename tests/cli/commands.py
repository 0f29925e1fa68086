"""Runs the command line, in this process and in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from llm_guard.cli.command import group
from llm_guard.testing.cold_server import ColdServer

ROOT = Path(__file__).parent.parent.parent


def invoke(*arguments: object, environment: dict[str, str | None] | None = None) -> Result:
    """`llm-guard ...` in this process."""
    return CliRunner().invoke(group, [str(argument) for argument in arguments], env=environment)


def command(*arguments: object) -> list[str]:
    """`llm-guard ...` for a process of its own."""
    return [sys.executable, "-m", "llm_guard", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    """That of such a process."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": "80", **more}


def process(*arguments: object, stdin: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
    """`llm-guard ...` in a process of its own, to its end."""
    return subprocess.run(command(*arguments), input=stdin, capture_output=True, timeout=60, check=False,
                          env=environment(), **options)


def write_lines(path: Path, rows: Iterable[object]) -> Path:
    """JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The rows of JSONL."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def calls_of(server: ColdServer) -> int:
    """How many calls it saw."""
    calls = server.stats()["calls"]
    assert isinstance(calls, int)
    return calls
