"""A mapping whose process is killed, over real HTTP, until its output is whole: a short run of benchmarks/kill.py."""

from __future__ import annotations

import pytest
from kill import torture


@pytest.mark.real
@pytest.mark.once
def test_killed_again_and_again_nothing_is_lost_and_hardly_anything_called_twice() -> None:
    run = torture(300, 4, workers=8, batch=4, scenario="E", speed=20, seed=1)
    assert (run.missing, run.wrong, run.twice, run.unrecorded) == (0, 0, 0, 0)
    assert run.yielded == run.items == 300
    assert 300 <= run.made <= 300 + run.kills * (8 + 4)
    assert run.kills >= 3  # the last of them may come too late
    assert run.checked == run.kills + 1  # found whole each time, and at the end
    assert run.holds
