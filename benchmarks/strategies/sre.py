"""Google's adaptive throttling: a client whose calls the server refuses, refuses some of them itself.

Own arithmetic after "Site Reliability Engineering", chapter 21, "Handling Overload": over the last two minutes,
requests are what the application wanted to send, accepts what the server took on; a new one is rejected here with the
probability max(0, (requests - K x accepts) / (requests + 1)), K = 2. A rejection is one of the tries, as a refusal is.
"""

from __future__ import annotations

import threading
from collections import deque

from llm_guard.clock import chance, current
from llm_guard.testing.simulation import Call, Client, ServerCall, Setting, Strategy
from llm_guard.testing.virtual_server import ServerFailed
from strategies.tries import RejectedHere, Retry, client

WINDOW_SECONDS = 120


class AdaptiveThrottling:
    """The two counts, kept for each second of the window."""

    def __init__(self, k: float = 2.0) -> None:
        self.requests = 0
        self.accepts = 0
        self._k = k
        self._seconds: deque[list[int]] = deque()  # each: the second, requests, accepts

    def rejects_with(self, now: float) -> float:
        """The probability with which a request is rejected now."""
        self._count(now, 0, 0)
        return max(0.0, (self.requests - self._k * self.accepts) / (self.requests + 1))

    def requested(self, now: float) -> None:
        """A request came, whatever becomes of it."""
        self._count(now, 1, 0)

    def accepted(self, now: float) -> None:
        """The server took one on."""
        self._count(now, 0, 1)

    def _count(self, now: float, requests: int, accepts: int) -> None:
        second = int(now)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0])
        self._seconds[-1][1] += requests
        self._seconds[-1][2] += accepts
        self.requests += requests
        self.accepts += accepts
        while self._seconds[0][0] <= second - WINDOW_SECONDS:
            _, old_requests, old_accepts = self._seconds.popleft()
            self.requests -= old_requests
            self.accepts -= old_accepts


def strategy(retry: Retry) -> Strategy:
    """The throttling with that way to try again."""
    @Strategy
    def made(setting: Setting) -> Client:
        state = AdaptiveThrottling()
        lock = threading.Lock()

        def accept() -> None:
            with lock:
                state.accepted(current().now())

        def attempt(call: ServerCall) -> Call:
            def once(item: object) -> str:
                with lock:
                    now = current().now()
                    rejected = chance.random() < state.rejects_with(now)
                    state.requested(now)
                if rejected:
                    raise RejectedHere("the server refuses too many")
                try:
                    answer = call(item, timeout=setting.timeout)
                except ServerFailed:
                    accept()  # it was taken on all the same
                    raise
                accept()
                return answer

            return once

        return client(setting, attempt, retry)

    return made
