"""The gate of the pace: an instant before which nobody starts, and behind it one probe at a time until one succeeds."""

from __future__ import annotations

from random import Random

from llm_guard.call import NEVER

#: The longest wait for all, in seconds, that a server's hint can ask for, by what it is about.
LONGEST_HINT, LONGEST_LOADING, LONGEST_QUOTA = 60.0, 30.0, 86_400.0
#: Seconds between two probes at the most, more or less by a quarter: of a server that loads, fails or is gone; and of
#: one that refuses, whose windows may be long.
LONGEST_PROBE, LONGEST_REFUSED = 4.0, 8.0
#: Where nobody came for so many seconds though a probe could have started, the server has not refused in that time.
LULL = 10.0
#: Seconds to wait for a quota of which the server does not say when it is back.
QUOTA_WAIT = 60.0


class ServerGate:
    """Open at first. Once shut, it lets single probes through after a while; what becomes of them decides."""

    __slots__ = ("_probes", "_random", "at", "cold", "exhausted_until", "foreseen", "paused_until", "probe",
                 "shut_since")

    def __init__(self, random: Random) -> None:
        self._random = random
        self.at = NEVER
        self.paused_until = NEVER  # by hand
        self.exhausted_until = NEVER
        # By the server's word or its failures, its probes in vain, without a lull; None: open, or paused by hand.
        self.shut_since: float | None = None
        self.probe: object | None = None  # the call that probes just now
        self._probes = 0  # waits drawn since the gate last opened
        self.cold = True  # it was shut because the model loads
        self.foreseen = False  # it was shut before the server refused anything

    @property
    def probing(self) -> bool:
        """It is shut, and whoever passes is a probe."""
        return self.shut_since is not None

    @property
    def opens_at(self) -> float:
        """When the next call, or the next probe, may pass."""
        return self.at if self.at > self.paused_until else self.paused_until

    def taken(self) -> bool:
        """A probe is under way, and only its end lets the next call pass."""
        return self.shut_since is not None and self.probe is not None

    def asked(self, now: float) -> None:
        """Somebody comes. After a lull, or a pause by hand, the server's refusals count anew: it may have been back for
        long."""
        if self.shut_since is not None and self.probe is None and now > self.at + LULL:
            self.shut_since = now

    def shut(self, now: float, seconds: float, cold: bool) -> None:
        """Nobody passes for so many seconds, then one probe."""
        self.at = max(self.at, now + seconds)
        self.cold, self.foreseen = cold, False
        if self.shut_since is None:
            self.shut_since = now

    def shut_loading(self, now: float, hint: float | None) -> None:
        """The model loads; `hint` is the server's estimate. It is asked a little early, and not too seldom."""
        self.shut(now, self._wait() if hint is None else min(max(0.5, 0.7 * hint), LONGEST_LOADING), cold=True)

    def shut_until(self, now: float, at: float) -> None:
        """The limit's window is used up, as far as is known; it ends at `at`."""
        self.shut(now, at - now, cold=False)
        self.foreseen = True

    def shut_refused(self, now: float, hint: float | None = None, foreseen: float | None = None) -> None:
        """The server refuses again and again, or a row of calls failed. `foreseen`: the instant at which it is likely
        to be of another mind, where that is known."""
        wait = min(hint, LONGEST_HINT) if hint else self._wait()
        self.shut(now, wait if foreseen is None else foreseen - now, cold=False)

    def shut_exhausted(self, now: float, hint: float | None) -> None:
        """The account's quota is used up."""
        wait = min(hint or QUOTA_WAIT, LONGEST_QUOTA)
        self.exhausted_until = now + wait
        self.shut(now, wait, cold=False)

    def probe_refused(self, now: float, hint: float | None, foreseen: float | None = None) -> None:
        """The server would not take the probe: the next one later, or at the instant that is `foreseen`."""
        if foreseen is not None:
            self.at = foreseen
            return
        wait = self._wait(LONGEST_REFUSED)
        if hint is not None:
            wait = max(min(hint, LONGEST_HINT), wait) + self._random.uniform(0, 0.05)
        self.at = now + wait

    def probe_failed(self, now: float) -> None:
        """The probe was taken and went wrong: the next one later."""
        self.shut(now, self._wait(), self.cold)

    def open(self, now: float) -> None:
        """Everybody passes."""
        self.at, self.exhausted_until = now, NEVER
        self.shut_since, self.probe, self._probes = None, None, 0

    def pause(self, now: float, seconds: float) -> None:
        """By hand: nobody passes for so many seconds. It takes the place of an earlier pause."""
        self.paused_until = now + seconds

    def _wait(self, most: float = LONGEST_PROBE) -> float:
        """How long to stay shut where the server does not say: longer from probe to probe."""
        wait = min(most, 0.5 * 1.6**min(self._probes, 9)) * self._random.uniform(0.75, 1.25)
        self._probes += 1
        return wait
