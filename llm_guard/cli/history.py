"""The course of a run: samples of its progress, of bounded number however long it lasts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from llm_guard.mapping.progress import Progress
from llm_guard.outcome import Kind

#: Seconds between two samples at first; doubled whenever there are too many.
SPAN = 0.25
MOST = 600


@dataclass(frozen=True, slots=True)
class Sample:
    """The run `at` so many seconds after its beginning: counts until then, and `in_flight`, `waiting` and `rate` (items
    a second) as means since the sample before."""

    at: float
    succeeded: int
    failed: int
    recorded: int
    outcomes: Mapping[Kind, int]
    in_flight: float
    waiting: float
    rate: float
    state: str | None

    @property
    def done(self) -> int:
        """Items that came to an end."""
        return self.succeeded + self.failed


class History:
    """Called with each `Progress`, it keeps what is needed to draw the run."""

    def __init__(self, most: int = MOST, span: float = SPAN) -> None:
        self._most = most
        self._span = span
        self._samples: list[Sample] = []
        self._since: list[Progress] = []  # the last sample

    def __call__(self, progress: Progress) -> None:
        """Takes it in; progress comes in the order of time."""
        self._since.append(progress)
        if progress.over or not self._samples or progress.elapsed >= self._samples[-1].at + self._span:
            self._samples.append(_sample(self._since))
            self._since = []
            if len(self._samples) > self._most:
                self._halve()

    @property
    def samples(self) -> list[Sample]:
        """In the order of time."""
        return list(self._samples)

    def _halve(self) -> None:
        """Each two become one; the last stays as it is."""
        kept, last = self._samples[:-1], self._samples[-1]
        pairs = zip(kept[0::2], kept[1::2], strict=False)
        self._samples = [*map(_together, pairs), *(kept[-1:] if len(kept) % 2 else ()), last]
        self._span *= 2


def _sample(since: list[Progress]) -> Sample:
    last, count = since[-1], len(since)
    return Sample(last.elapsed, last.succeeded, last.failed, last.recorded, last.outcomes,
                  sum(each.in_flight for each in since) / count, sum(each.waiting or 0 for each in since) / count,
                  sum(each.rate for each in since) / count, last.state)


def _together(pair: tuple[Sample, Sample]) -> Sample:
    before, after = pair
    return replace(after, in_flight=(before.in_flight + after.in_flight) / 2,
                   waiting=(before.waiting + after.waiting) / 2, rate=(before.rate + after.rate) / 2)
