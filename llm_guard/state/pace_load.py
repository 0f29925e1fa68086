"""What the server bears, as far as its answers tell: how many calls in flight, how many a second, at what latency."""

from __future__ import annotations

import math

from llm_guard.call import NEVER
from llm_guard.state.pace_latency import Latency, Strain
from llm_guard.state.pace_rate import Rate
from llm_guard.state.pace_window import Window

#: How much longer than without a queue calls take where they are taken to queue; and where a refusal then says that
#: the queue is full.
QUEUEING, QUEUE_FULL = 1.2, 1.2
#: A call is refused "in a burst" when it followed the one before it by less than this share of an even spacing. For so
#: many seconds starts are then spaced: none closer to the last than an even spacing over `SPACING`.
BURST, BURST_MEMORY, SPACING = 0.25, 60.0, 1.5


class Load:
    """Window, rate and latency, and what moves them."""

    __slots__ = ("_last_start", "_spaced_until", "latency", "rate", "strain", "window")

    def __init__(self, rate: Rate) -> None:
        self.window = Window()
        self.rate = rate
        self.strain = Strain()
        self.latency: Latency = self.strain.whole
        self._last_start = NEVER
        self._spaced_until = NEVER

    @property
    def ramping(self) -> bool:
        """Slow start goes on."""
        return self.window.slow_start or self.rate.ramping

    @property
    def wanted_at(self) -> float:
        """When a call last waited for what slow start is raising."""
        return max(self.window.waited_at if self.window.slow_start else NEVER,
                   self.rate.waited_at if self.rate.ramping else NEVER)

    def ready_at(self, now: float, in_flight: int) -> float:
        """When there is room for one more: `now`, a later instant, or inf (when a call has ended)."""
        window, rate, latency = self.window, self.rate, self.latency.mean
        if in_flight >= int(window.size):
            window.make_wait(now)
            return math.inf
        if rate.next_start > now:
            rate.make_wait(now)
            return rate.next_start
        if window.slow_start or latency is None:
            return now
        if not rate.learned and in_flight >= window.held:
            # Never try one more slot in the same instant as another start.
            return max(now, self._last_start + latency / window.size)
        if in_flight and now < self._spaced_until:
            return max(now, self._last_start + latency / window.size / SPACING)
        return now

    def start(self, now: float, since: float) -> float:
        """A call starts that has waited since `since`. Returns the seconds from the start before it."""
        self.rate.take(now, since)
        gap, self._last_start = now - self._last_start, now
        return gap

    def answered(self, now: float, seconds: float, timeout: float | None, fresh: bool, tokens: float | None = None,
                 first_item: float | None = None) -> None:
        """A call that did not start cold was answered. Only a fresh one, started after the last cut, may grow, and one
        that was itself too slow is no reason to let in more, long before the mean shows it."""
        quick = self.strain.add(seconds, timeout, tokens, first_item)
        if not self._step_back(timeout) and self.window.holds_back and fresh and quick:
            self.window.grow(now)

    def timed_out(self, timeout: float) -> None:
        """A fresh call ran out of time: it says of the latency that it is more than that."""
        self.strain.add_timeout(timeout)
        self._step_back(timeout)

    def _step_back(self, timeout: float | None) -> bool:
        """Where the latency is above its limit, queues build up: steps back before a refusal (Gradient2's idea)."""
        gradient = self.strain.gradient(timeout)
        if gradient >= 1:
            return False
        slow_start = self.window.slow_start and not self.strain.above_base(QUEUEING)
        if self.window.size <= 1:
            self.strain.doubt_base()
        self.window.step_back(self.window.size - 0.5 * (1 - gradient))
        self.window.slow_start = slow_start
        return True

    def cut(self, now: float, beside: int, gap: float, in_flight: int, hint: float | None, grew: bool) -> bool:
        """One step back for one burst of refusals, in the window or in the rate: whichever was too much.

        The call was refused that started with so many `beside` it, `gap` seconds after the last of them; `in_flight`
        are left; `grew`: the server complains of growth. Returns whether its slots were full: then replies of the same
        burst may show that they are fewer.
        """
        window, rate, latency = self.window, self.rate, self.latency
        if latency.mean is not None and gap < BURST * latency.mean / window.size:
            self._spaced_until = now + BURST_MEMORY
        if beside >= window.held and not rate.learned and hint is None and not grew:
            # Refused with more than it ever accepted.
            window.slots_full(now, beside, self.strain.above_base(1.5))
            return True
        # Refused where it once accepted.
        window.refused_within(now, beside, in_flight + 1)
        if rate.learned and latency.mean is not None:  # what is delivered lags behind what was let in
            rate.delivered = max(rate.delivered, 0.9 * in_flight / latency.mean)
        delivered = rate.delivered_lately(now)
        if beside and 0 < delivered < 0.75 * rate.value and self.strain.above_base(QUEUE_FULL) and not grew:
            window.step_back(0.7 * window.size)  # its queue is full
        else:  # it is a rate limit
            if not rate.learned and latency.mean is not None:
                delivered = max(delivered, (in_flight + 1) / latency.mean)
            rate.cut(now, delivered, latency.mean)
        return False

    def reopen(self, now: float, cold: bool) -> None:
        """The gate opens; `cold`: the model was loading, so that all starts anew."""
        self.rate.reopen(now)
        if cold:
            self.window.restart()
            self.rate.restart(now)
        else:
            self.window.step_back(0.7 * self.window.size)
            self._space_opening(now)

    def _space_opening(self, now: float) -> None:
        """Else all that the window allows would start in the very instant in which the gate opens."""
        self._spaced_until = max(self._spaced_until, now + (self.latency.mean or 0.0))
