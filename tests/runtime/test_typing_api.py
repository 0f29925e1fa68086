"""Type checkers see the signatures through the decorators."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.real
@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed")
def test_mypy_sees_what_the_api_promises() -> None:
    found = subprocess.run([sys.executable, "-m", "mypy", "--strict", "tests/typing/api.py"], cwd=ROOT, timeout=300,
                           capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
