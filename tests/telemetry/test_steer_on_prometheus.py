"""`steer` by a real Prometheus that scrapes the real demo, as a user runs it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "steer" / "main.py"

pytestmark = [pytest.mark.real, pytest.mark.figures]


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus on the PATH; .ci/run installs it")
def test_the_ceiling_follows_the_mean_in_prometheus_and_holds_when_that_is_killed() -> None:
    pytest.importorskip("prometheus_client")
    ended = subprocess.run([sys.executable, str(DEMO), "--json"], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    weak, strong, gone = ([line for line in lines if line["phase"] == phase]
                          for phase in ("weak", "strong", "no metrics"))
    # Too slow: no ceiling at first, then one that goes down.
    assert weak[0]["ceiling"] is None
    assert max(line["measure"] or 0 for line in weak) > 0.5
    down = [line["ceiling"] for line in weak if line["ceiling"] is not None]
    lowest = min(down)
    assert lowest < 0.8 * down[0]
    # Quick again: up.
    assert strong[-1]["ceiling"] > 1.25 * lowest
    assert strong[-1]["measure"] < 0.35
    # Prometheus is killed: held, and the calls go on.
    assert len({line["ceiling"] for line in gone[1:]}) == 1  # a step may just have been on its way
    assert gone[-1]["state"] == "holding"
    assert all(line["answers"] > 0 for line in gone)
    assert ended.stderr.count("the measure is gone (no answer") == 1
