"""What a guarded function weighs, and a caller that waits at its door: bounds that only a gross change breaks. What is
measured is in docs/speed.md."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from speed_rows import memory
from speed_rows.row import FEW

pytestmark = pytest.mark.real

STATE, WAITING = "bytes of its state", "bytes of a waiting caller beyond its thread"
#: So little would mean that nothing was weighed.
LEAST = {STATE: 500, WAITING: 300}
#: The most bytes, by part and figure.
MOST = {("all five on a function", STATE): 7168, ("@breaker", STATE): 3072, ("@ramp_up", STATE): 4096,
        ("@retry", STATE): 2048, ("@bounded", STATE): 2048, ("@timeout", STATE): 2048,
        ("LeakyBucket", WAITING): 1024, ("@bounded", WAITING): 1280, ("all five", WAITING): 1280}


def test_functions_and_callers_that_wait_are_light() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:  # where no dict of others' grows meanwhile
        rows = alone.submit(memory.rows, FEW).result()
    found = {(row.part, row.figure.partition(",")[0]): row.value for row in rows}
    assert found.keys() == MOST.keys()
    assert {name: weight for name, weight in found.items() if not LEAST[name[1]] < weight < MOST[name]} == {}
