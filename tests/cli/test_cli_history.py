"""The samples of a run: few, whole, and in the end exact."""

from __future__ import annotations

from itertools import pairwise

import pytest
from played_runs import progress, run

from llm_guard.cli.history import MOST, History


@pytest.mark.parametrize("seconds", [30, 200, 5000])
def test_samples_are_few_however_long_the_run_and_end_with_its_end(seconds: int) -> None:
    history, last = run(seconds)
    samples = history.samples
    assert min(100, seconds) <= len(samples) <= MOST
    assert (samples[-1].at, samples[-1].done, samples[-1].outcomes) == (last.elapsed, last.done, last.outcomes)
    assert all(earlier.at < later.at for earlier, later in pairwise(samples))
    assert all(earlier.done <= later.done for earlier, later in pairwise(samples))
    gaps = [later.at - earlier.at for earlier, later in pairwise(samples)]
    assert max(gaps) < 6 * seconds / MOST + 0.3


def test_what_was_in_flight_is_a_mean_over_the_time_between() -> None:
    history = History(most=8, span=1.0)
    for tick in range(320):
        history(progress(tick / 10, in_flight=10 * (tick % 2)))
    assert all(sample.in_flight == pytest.approx(5, abs=0.6) for sample in history.samples[2:])


def test_a_run_that_is_over_at_once_has_a_sample() -> None:
    history = History()
    history(progress(0.0, over=True))
    assert len(history.samples) == 1
