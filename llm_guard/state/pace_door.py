"""The pace as a gate at the door: who may wait for it, and how long."""

from __future__ import annotations

from llm_guard.errors import QuotaExhausted, Saturated
from llm_guard.fork import renew_after_fork
from llm_guard.state.gate import Ending, Request
from llm_guard.state.pace import Pace, Start


class PaceGate:
    """The pace as a gate at the door."""

    outlives = False

    def __init__(self, pace: Pace, name: str) -> None:
        self.name = name
        self.pace = pace
        self.told = "cold"  # the state that listeners were told last
        renew_after_fork(self)

    def after_fork(self) -> None:
        self.pace.reset()
        self.told = "cold"

    @property
    def in_flight(self) -> int:
        return self.pace.in_flight

    def ready_at(self, now: float, request: Request) -> float | QuotaExhausted | Saturated:
        exhausted = self.pace.exhausted_for(now)
        if exhausted is not None:
            return QuotaExhausted("the account's quota is exhausted", policy=self.name, retry_after=exhausted)
        # Only who has waited: else one slow answer would refuse all whose whole time is short.
        if now > (request.since + request.deadline) / 2 and self.pace.hopeless(now, request.deadline):
            return Saturated("the call could not end within its deadline", policy=self.name)
        at = self.pace.ready_at(now)
        if at > now and request.patience is not None and (shut_since := self.pace.shut_since) is not None:
            gives_up = shut_since + request.patience
            if now >= gives_up:
                return Saturated("the server has been refusing calls for too long", policy=self.name,
                                 retry_after=max(0.0, at - now) if at < float("inf") else None)
            at = min(at, gives_up)
        return at

    def start(self, now: float, request: Request) -> Start:
        return self.pace.start(now, request.since)

    def end(self, now: float, permit: Start, ending: Ending) -> None:
        self.pace.end(permit, now, ending.outcome, ending.seconds, ending.timeout, ending.first_item)

    def is_probe(self, permit: Start) -> bool:
        return permit.probing
