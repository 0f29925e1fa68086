"""One line in the log for each change of state, none for a call: `Logging().watch()`.

    ask: breaker opened: of 20 calls 55% failed; no call for 5.3 s
    ask: breaker closed: its trials succeeded
    ask: calls are refused by bounded: no place came free in time
    ask: bounded refuses none for 10 s, after 38

The lines of `@ramp_up` are there without it. It has those of all other policies, to the logger `llm_guard`, and of one
function and policy no more than six a minute. `docs/runbook.md` says what to do about each.
"""

from __future__ import annotations

import logging
from _thread import allocate_lock
from typing import Any

from llm_guard import clock, events
from llm_guard.events import AttemptStarted, CallRejected, StateChanged, Takers
from llm_guard.fork import renew_after_fork
from llm_guard.state.alarm import alarm
from llm_guard.state.pace_words import seconds
from llm_guard.telemetry.exporter import Exporter
from llm_guard.telemetry.rarely import Rarely

#: Refusals are over when there was none for so many seconds.
QUIET = 10.0
OPENED, HALF_OPEN, CLOSED = "opened", "is half-open", "closed"
_STATES = {"open": (logging.WARNING, OPENED), "half_open": (logging.INFO, HALF_OPEN), "closed": (logging.INFO, CLOSED)}
REFUSES, AGAIN = "calls are refused by", "refuses none for"
#: Why a policy lets a call not start.
REASONS = {
    "bounded": "no place came free in time",
    "timeout": "too many functions that ran out of time still run",
    "ramp_up": "the server takes no more of them in time, or the account's quota is exhausted",
    "deadline": "their time had run out before they could start",
}
OTHER = "it let them not start"


class _Refusing:
    """Refusals of one function by one policy, since the last line about them."""

    __slots__ = ("count", "last")

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0


class Logging(Exporter):
    """Says in the log what changed."""

    name = "logging"

    def __init__(self) -> None:
        super().__init__()
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._lock = allocate_lock()
        self._lines: dict[tuple[str, str], Rarely] = {}
        self._refusing: dict[tuple[str, str], _Refusing] = {}

    def takers(self) -> Takers:
        started = self.unhurt(self._started)

        def attempt_started(*facts: Any) -> None:
            if self._refusing:
                started(*facts)

        return {AttemptStarted: attempt_started, CallRejected: self.unhurt(self._rejected),
                StateChanged: self.unhurt(self._changed)}

    def _changed(self, call: int, at: float, function: str, policy: str, before: str, after: str, why: str) -> None:
        if policy == "ramp_up":
            return
        level, what = _STATES.get(after, (logging.INFO, f"is {after}"))
        self._say(at, function, policy, level, f"{policy} {what}: {why}" if why else f"{policy} {what}")

    def _rejected(self, call: int, at: float, function: str, policy: str, retry_after: float | None,
                  waited: float) -> None:
        if policy == "breaker":  # which has said that it is open
            return
        with self._lock:
            refusing = self._refusing.get((function, policy))
            begins = refusing is None
            if refusing is None:
                refusing = self._refusing[function, policy] = _Refusing()
            refusing.count += 1
            refusing.last = at
        if begins:
            self._say(at, function, policy, logging.WARNING, f"{REFUSES} {policy}: {REASONS.get(policy, OTHER)}")

    def _started(self, call: int, at: float, function: str, attempt: int, waited: float) -> None:
        over = []
        with self._lock:
            for (name, policy), refusing in list(self._refusing.items()):
                if name == function and at >= refusing.last + QUIET:
                    del self._refusing[name, policy]
                    over.append((policy, refusing.count))
        for policy, count in over:
            self._say(at, function, policy, logging.INFO, f"{policy} {AGAIN} {seconds(QUIET)}, after {count}")

    def _say(self, now: float, function: str, policy: str, level: int, words: str) -> None:
        with self._lock:
            about = self._lines.setdefault((function, policy), Rarely())
            was_kept = about.due_at is not None
            line = about.say(now, level, words)
            due_at = about.due_at
        if line is not None:
            events.log(line[0], function, line[1])
        elif due_at is not None and not was_kept:
            alarm().at(due_at, lambda: self._say_rest(function, policy))

    def _say_rest(self, function: str, policy: str) -> None:
        with self._lock:
            line = self._lines[function, policy].rest(clock.current().now())
        if line is not None:
            events.log(line[0], function, line[1])
