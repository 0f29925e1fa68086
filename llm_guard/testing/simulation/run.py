"""What became of a run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from llm_guard.testing.server import Scenario
from llm_guard.testing.server.stats import Snapshot
from llm_guard.testing.simulation.story import Line


class NoAnswer(Exception):
    """What a client returned is no answer of the server's: the word of a fallback, or a forgotten `return`."""


@dataclass(slots=True)
class Item:
    """One item's way. Instants are seconds from the beginning of the run; NaN: it did not come so far.

    `offered`: it arrived, or a thread of the batch took it. `called`: its last call reached the server. `ended`: its
    client had an answer or an error. `answer` is None and `error` a class where there was no answer.
    """

    client: int
    offered: float = math.nan
    called: float = math.nan
    ended: float = math.nan
    calls: int = 0
    answer: str | None = None
    error: type[BaseException] | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """The paces at one instant: calls in flight that they allow, calls a second (None: unbounded), gate shut or not.

    Of several clients: the sum of the windows and rates, and shut where all are shut.
    """

    at: float
    window: float
    rate: float | None
    shut: bool


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one workload against one server. Times in seconds.

    `best`: what a sender would reach that knows the server's state at every instant: the seconds of a batch, the
    requests answered in time of online traffic. `deadline`: seconds in which an answer was of use, None in a batch.
    `called_at`: when each call reached the server. `story`: what the policies said of themselves, as in the log.
    """

    scenario: Scenario
    workload: str
    seed: int
    deadline: float | None
    best: float
    seconds: float
    items: tuple[Item, ...]
    called_at: tuple[float, ...]
    server: Snapshot
    samples: tuple[Sample, ...]
    story: tuple[Line, ...] = ()

    @property
    def answered(self) -> int:
        """Items with an answer, within their deadline."""
        return sum(map(self._in_time, self.items))

    @property
    def success(self) -> float:
        """Share of the items that were answered."""
        return self.answered / max(1, len(self.items))

    @property
    def unanswered(self) -> dict[str, int]:
        """Why the others were not: how many items by the class of their error, and "late" for an answer after the
        deadline; the most frequent first."""
        return dict(Counter("late" if item.error is None else item.error.__name__
                            for item in self.items if not self._in_time(item)).most_common())

    @property
    def calls_per_answer(self) -> float:
        """Calls that reached the server, over items answered."""
        return len(self.called_at) / self.answered if self.answered else math.inf

    @property
    def refused(self) -> int:
        """Calls that the server refused."""
        return sum(self.server.refusals.values())

    @property
    def against_best(self) -> float:
        """Of a batch: its time over the best one. Of online traffic: its answers over the best number of them."""
        if self.workload == "batch":
            return self.seconds / self.best if self.best else 1.0
        return self.answered / self.best if self.best else 1.0

    def wait(self, share: float = 0.99) -> float:
        """Seconds that this share of the answered items waited at most before their last call went out."""
        waits = sorted(item.called - item.offered for item in self.items if self._in_time(item))
        return waits[max(0, math.ceil(share * len(waits) - 1e-9) - 1)] if waits else math.nan

    def fairness(self) -> float:
        """Jain's index of the clients' answers while all of them had work: from the last one's first item to the
        first one's last. Where there was no such time: of their answers a second."""
        clients = sorted({item.client for item in self.items})
        own = [[item for item in self.items if item.client == client] for client in clients]
        joined = [min(item.offered for item in items) for items in own]
        left = [max(item.ended for item in items) for items in own]
        begin, end = max(joined), min(left)
        if end > begin:
            return jain([sum(begin < item.ended <= end and item.answer is not None for item in items) for items in own])
        return jain([sum(map(self._in_time, items)) / max(1e-9, until - since)
                     for items, since, until in zip(own, joined, left, strict=True)])

    def _in_time(self, item: Item) -> bool:
        return item.answer is not None and (self.deadline is None or item.ended - item.offered <= self.deadline + 1e-9)


def jain(shares: Sequence[float]) -> float:
    """Jain's fairness index: 1 where all shares are equal, 1/n where one has all (Jain, Chiu and Hawe, 1984)."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0
