"""The attempts of one call: what to do after each, as pure state.

Failures are counted and spaced by the schedule. Refusals are not counted but waited out, as long as the patience lasts;
so is a failed probe, which only asked on behalf of all whether the server is back.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from llm_guard.fork import renew_after_fork
from llm_guard.outcome import FAILURES, REFUSALS, Kind, Outcome
from llm_guard.state.schedule import Schedule, Waits


class Budget:
    """Retries as a share of the traffic: each first attempt earns `share`, each retry costs one, at most `most` saved.

    The idea is gRPC's retry throttling; a retry pays when it is decided on, so those asleep are counted.
    """

    __slots__ = ("__weakref__", "most", "saved", "share")

    def __init__(self, share: float, most: float = 10.0) -> None:
        self.share = share
        self.most = most
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self.saved = self.most

    def earn(self) -> None:
        self.saved = min(self.most, self.saved + self.share)

    def pay(self) -> bool:
        if self.saved < 1:
            return False
        self.saved -= 1
        return True


class Rule(NamedTuple):
    """`attempts` counts the first one. `worth` says of an error, or of None for a returned refusal, whether to try
    again. `max_refusal_wait`: seconds that a call spends on refusals at most."""

    attempts: int
    schedule: Schedule
    max_refusal_wait: float
    worth: Callable[[BaseException | None], bool]
    budget: Budget | None = None


class Tries:
    """Those of one call. `paced`: a pace says when refused calls may come again."""

    __slots__ = ("_failure_waits", "_paced", "_random", "_refusal_waits", "_refused_at", "_refused_for", "_rule",
                 "counted", "refused")

    def __init__(self, rule: Rule, random: Random, *, paced: bool) -> None:
        self._rule = rule
        self._random = random
        self._paced = paced
        self._failure_waits: Waits | None = None
        self._refusal_waits: Waits | None = None
        self._refused_at: float | None = None  # when the last attempt was refused; None where it was not
        self._refused_for = 0.0
        self.counted = 0
        self.refused = 0
        if rule.budget is not None:
            rule.budget.earn()

    def patience(self) -> float:
        """Seconds that this call may yet spend on refusals."""
        return self._rule.max_refusal_wait - self._refused_for

    @property
    def was_refused(self) -> bool:
        """Whether the attempt before was refused, so that the wait for the next is on account of that."""
        return self._refused_at is not None

    def wait_after(self, outcome: Outcome, error: BaseException | None, now: float, *, probe: bool) -> float | None:
        """Seconds until it goes back to the door; None: no further attempt."""
        failed = outcome.kind in FAILURES and self._rule.worth(error)
        if outcome.kind in REFUSALS or (failed and probe):
            return self._after_refusal(outcome, now)
        if not failed:
            return None
        self.counted += 1
        self._refused_at = None
        if self.counted >= self._rule.attempts or (self._rule.budget is not None and not self._rule.budget.pay()):
            return None
        if self._failure_waits is None:
            self._failure_waits = self._rule.schedule.waits(self._random)
        return self._with_hint(self._failure_waits.after(error), outcome.hint)

    def _after_refusal(self, outcome: Outcome, now: float) -> float | None:
        self.refused += 1
        if self._refused_at is not None:
            self._refused_for += now - self._refused_at
        self._refused_at = now
        left = self.patience()
        if left <= 0 or (outcome.hint or 0) > left:
            return None
        if not self._paced:
            if self._refusal_waits is None:
                self._refusal_waits = self._rule.schedule.refusal_waits(self._random)
            return self._with_hint(next(self._refusal_waits), outcome.hint)
        # The pace holds all back as the server asked; only a limit's hint is this one call's own.
        own = outcome.hint if outcome.kind in (Kind.LIMITED, Kind.GROWTH_LIMITED) else None
        return self._with_hint(0.0, own)

    def _with_hint(self, wait: float, hint: float | None) -> float:
        return self._rule.schedule.with_hint(wait, hint, self._random)
