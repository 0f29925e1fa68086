"""That steering keeps the mean at its target, on a smaller server than those of the benchmark."""

from __future__ import annotations

import pytest
import steered


@pytest.mark.figures
def test_the_mean_response_time_stays_at_its_target_where_it_does_not_by_itself() -> None:
    case = steered.Case("small", lambda seed: steered.Sharing(2.0, 4, seed), target=6.0, lasts=2400.0)
    free, told = steered.run(case, steers=False), steered.run(case)
    assert free.share(case.target, 900) > 1.3
    assert abs(told.share(case.target, 900) - 1) < 0.1
    minutes = sorted(told.minutes(case.target, 900))
    assert minutes[0] > 0.6
    assert minutes[-1] < 1.4
    assert told.rate(900) > 0.7 * free.rate(900)  # not by calling nobody
