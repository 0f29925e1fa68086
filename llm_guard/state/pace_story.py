"""The story of a pace: in which state it is, since when and why, and the one line that a change is worth.

It watches the gate and the load, and changes nothing. A call that leaves the state as it was costs a comparison; words
are made where it changed, and lines where somebody asks. Pure: no lock, no clock.
"""

from __future__ import annotations

import logging
import math

from llm_guard.outcome import Kind
from llm_guard.state import pace_words as words
from llm_guard.state.pace_allowance import Allowance
from llm_guard.state.pace_gate import ServerGate
from llm_guard.state.pace_load import Load

COLD, RAMPING, STEADY, HOLDING, PAUSED, EXHAUSTED = "cold", "ramping", "steady", "holding", "paused", "exhausted"
#: A part of "cold": the server says that the model loads. A part of "holding": it has not refused, but the account has
#: no calls left for now.
LOADING, RATIONED = "loading", "rationed"
_STATES = {LOADING: COLD, RATIONED: HOLDING}
OPEN = (RAMPING, STEADY)
#: A turn between ramping and steady is told when it has lasted for so many seconds; a shut gate as soon as it is known
#: that it stays so for so many.
SETTLED, BRIEF = 10.0, 2.0
#: Slow start that has kept nobody waiting for so many seconds has found what is asked of it.
ENOUGH = 30.0


class Story:
    """The state of the pace in one word, and what is to be told of it.

    `why` is the reason of the last change; `tell_at` the instant from which on `news` may have a line (inf: it has
    none), to be compared without a lock. Instants and durations in seconds.
    """

    __slots__ = ("_allowance", "_answered", "_down_since", "_enough", "_gate", "_idle_since", "_level", "_load",
                 "_phase", "_shut_by", "_since", "_told", "_well", "tell_at", "why")

    def __init__(self, gate: ServerGate, load: Load, allowance: Allowance) -> None:
        self._allowance = allowance
        self._gate = gate
        self._load = load
        self._phase = self._told = COLD  # a state, or a part of one
        self._since = math.inf  # since when it is in this state; inf: there was no call yet
        self.why = words.NOT_YET
        self.tell_at = math.inf
        self._level = logging.INFO
        self._shut_by: Kind | None = None  # the end that shut the gate, or kept it shut, last
        self._down_since = math.inf  # since when callers wait in vain; inf: they do not
        self._idle_since = math.inf  # the last call before it was taken to be cold for idleness; inf: it was not
        self._answered = False  # once
        self._enough = False  # it was steady although slow start went on, as nobody waited
        self._well = False  # it was open since the last warning

    @property
    def state(self) -> str:
        """Exactly one of cold, ramping, steady, holding, paused, exhausted."""
        return _STATES.get(self._phase, self._phase)

    def since(self, now: float) -> float:
        """The seconds that it has been in this state."""
        return max(0.0, now - self._since)

    def next_probe_in(self, now: float) -> float | None:
        """Seconds until a probe may start, 0 where one may now or is under way. None: none is needed."""
        if self._gate.probing:
            return max(0.0, self._gate.opens_at - now)
        return max(0.0, self._allowance.until - now) if self._phase is RATIONED else None

    # What happens.

    def begin(self, now: float) -> None:
        """A call starts while the server is cold."""
        self._since = min(self._since, now)
        if self._down_since == math.inf:
            self._down_since = now

    def idle(self, now: float, since: float) -> None:
        """Now the server is taken to be cold, as the last call was at `since`. That alone is worth no line."""
        if self._phase in OPEN:
            self._phase = self._told = COLD
            self._since, self._idle_since = now, since
            self.why, self.tell_at = words.idle_for(now - since), math.inf

    def note(self, now: float, cold: bool, kind: Kind | None = None, votes: bool = False, *,
             by_hand: bool = False) -> None:
        """Something happened: a call ended as `kind`, somebody paused or resumed the pace, or time went by.

        `votes`: the end of the call counted for the gate.
        """
        if votes and self._gate.shut_since is not None and not self._gate.foreseen:
            self._shut_by = kind
            self._down_since = min(self._down_since, now)
            if self._phase is HOLDING and self.tell_at < math.inf:
                self.tell_at = min(self.tell_at, self._tells_holding_at(now))
        phase = self._phase_at(now, cold)
        if phase is not self._phase or (by_hand and phase is PAUSED):
            self._change(now, phase, kind, by_hand)

    def _phase_at(self, now: float, cold: bool) -> str:
        gate = self._gate
        if gate.shut_since is None:
            if now < gate.paused_until:
                return PAUSED
            if cold:
                return COLD
            if now < self._allowance.until and self._allowance.ready_at(now) > now:
                return RATIONED
            return RAMPING if self._ramps(now) else STEADY
        if now < gate.exhausted_until:
            return EXHAUSTED
        if now < gate.paused_until:
            return PAUSED
        if gate.foreseen:
            return RATIONED
        if self._shut_by is Kind.QUOTA:  # until a probe shows that it is back
            return EXHAUSTED
        return LOADING if gate.cold else HOLDING

    def _ramps(self, now: float) -> bool:
        """Slow start goes on, and somebody still waits for what it raises."""
        if not self._load.ramping:
            return False
        if self._phase is RAMPING and now - self._since < ENOUGH:
            return True
        wanted = now - self._load.wanted_at < ENOUGH
        if self._phase is RAMPING:
            return wanted
        return wanted or not (self._phase is STEADY and self._enough)

    def _change(self, now: float, phase: str, kind: Kind | None, by_hand: bool) -> None:
        before, state = self._phase, self.state
        self._phase = phase
        at = now if by_hand else self._lapsed(now, before)
        self.why = self._reason(at, before, kind, by_hand)
        self._enough = phase is STEADY and self._load.ramping
        if self.state is not state:
            self._since = at
        if phase is self._told:
            self.tell_at = math.inf
        elif phase in (HOLDING, RATIONED):
            self.tell_at = self._tells_holding_at(now)
        else:  # the last calls of an account may come back one by one
            self.tell_at = now + SETTLED if self._told in (*OPEN, RATIONED) and phase in OPEN else now
        warns = phase is EXHAUSTED or (phase is HOLDING and self._well)
        self._level = logging.WARNING if warns else logging.INFO
        if phase in OPEN:
            self._answered = self._well = True
            self._down_since = self._idle_since = math.inf
        elif phase not in (PAUSED, RATIONED):
            self._well = False

    def _tells_holding_at(self, now: float) -> float:
        """At once where nothing can end it soon."""
        brief = SETTLED if self._phase is RATIONED else BRIEF
        return now if (self.next_probe_in(now) or 0.0) >= brief else now + brief

    def _lapsed(self, now: float, before: str) -> float:
        """When the state before ended: time alone may have ended it."""
        if before is PAUSED:
            return min(now, max(self._since, self._gate.paused_until))
        until = self._allowance.until
        return min(now, until) if before is RATIONED and until > self._since else now

    def _reason(self, now: float, before: str, kind: Kind | None, by_hand: bool) -> str:
        if self._phase is PAUSED:
            return words.paused_for(self._gate.paused_until - now)
        if self._phase not in OPEN and self._phase is not COLD:
            return words.shut(self._phase, self._shut_by)
        if by_hand:
            return words.RESUMED
        if before is PAUSED:
            return words.PAUSE_OVER
        if before in OPEN:
            if self._phase is not RAMPING:
                return words.settled(kind, self._load)
            return words.MORE if self._enough else words.FORGOTTEN
        if before is RATIONED:
            return words.LEFT_AGAIN
        if before is COLD and self._idle_since < math.inf:
            return f"answered again after {words.seconds(self._down_since - self._idle_since)} without a call"
        return f"{'answered again' if self._answered else 'first answer'} after {words.seconds(now - self._down_since)}"

    # What is told.

    def news(self, now: float) -> tuple[int, str] | None:
        """The line that is due, and its level: once for each change. None: there is none."""
        if now < self.tell_at:
            return None
        told, self._told, self.tell_at = self._told, self._phase, math.inf
        return None if self._told is told else (self._level, self._line(now, told))

    def _line(self, now: float, told: str) -> str:
        probe = words.coming(self.next_probe_in(now) or 0.0)
        match self._phase:
            case "loading":
                return f"model is loading, next probe {probe}"
            case "exhausted":
                return f"{self.why}, next try {probe}"
            case "holding":
                return f"{self.why}, holding; next probe {probe}"
            case "rationed":
                return f"{self.why}, holding; next call {probe}"
            case "paused":
                return self.why
            case "ramping" if told is STEADY:
                return f"ramping up again from {words.allowed(self._load)}"
            case "ramping":
                return f"{self.why}, ramping from {words.allowed(self._load)}"
            case _ if told is RAMPING:
                return f"steady at about {words.achieved(self._load)}"
        return f"{self.why}, going on with at most {words.allowed(self._load)}"
