"""The benchmark of views, short: a model that loads for a second, and clients who pause."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2] / "benchmarks"

pytestmark = [pytest.mark.real, pytest.mark.figures]


@pytest.mark.parametrize("framework", ["flask", "django"])
def test_guarded_views_give_more_answers_and_no_error(framework: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    run = subprocess.run([sys.executable, str(HERE / "web.py"), "--frameworks", framework, "--scenario", "A5",
                          "--speed", "3", "--clients", "12", "--seconds", "6", "--pause", "3", "--json", str(file)],
                         capture_output=True, text=True, timeout=110)
    assert run.returncode == 0, run.stderr
    guarded, unguarded = json.loads(file.read_text(encoding="utf-8"))["runs"]
    assert (guarded["way"], unguarded["way"]) == ("guarded", "unguarded")
    assert set(guarded["statuses"]) <= {"200", "503"}
    assert guarded["silent_refusals"] == 0
    assert "500" in unguarded["statuses"]
    assert guarded["statuses"]["200"] > unguarded["statuses"].get("200", 0)
    assert len([line for line in run.stdout.splitlines() if line.startswith(f"| {framework}, ")]) == 2
