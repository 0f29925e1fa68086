"""The whole command through a cold start, a rate limit, failures, an outage and a `kill -9`, at ten times the speed."""

from __future__ import annotations

import pytest
from command_line import storm

pytestmark = [pytest.mark.real, pytest.mark.figures]


def test_every_prompt_is_answered_once() -> None:
    run = storm(prompts=400, kills=1, workers=16, speed=10.0, plot=None)
    assert run.holds, run
    assert run.refused > 0
