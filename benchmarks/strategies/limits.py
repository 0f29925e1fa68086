"""A limit on calls in flight: the threads that find it reached block, as with Netflix's `BlockingLimiter`."""

from __future__ import annotations

from typing import Protocol

from strategies.tries import Attempt, kind_of
from strategies.waiting import Condition

from llm_guard.clock import current
from llm_guard.outcome import Kind
from llm_guard.testing.simulation import Call, ServerCall


class Limit(Protocol):
    """The arithmetic of a limit. It is told the time, and called under one lock."""

    def allowed(self, now: float) -> int:
        """How many calls may be in flight."""

    def ended(self, now: float, took: float, in_flight: int, kind: Kind) -> None:
        """A call ended after `took` seconds; `in_flight` were there when it had started, itself included."""


def limited(limit: Limit, timeout: float) -> Attempt:
    """Attempts that wait until fewer are in flight than the limit allows. `timeout`: seconds for the server's call."""
    condition = Condition()
    in_flight = 0

    def attempt(call: ServerCall) -> Call:
        def once(item: object) -> str:
            nonlocal in_flight
            time = current()
            with condition:
                while in_flight >= limit.allowed(time.now()):
                    condition.wait()
                in_flight += 1
                seen, began = in_flight, time.now()
            kind = Kind.IGNORED
            try:
                answer = call(item, timeout=timeout)
                kind = Kind.SUCCESS
                return answer
            except Exception as error:
                kind = kind_of(error) or Kind.IGNORED
                raise
            finally:
                with condition:
                    in_flight -= 1
                    limit.ended(time.now(), time.now() - began, seen, kind)
                    condition.notify(max(0, limit.allowed(time.now()) - in_flight))

        return once

    return attempt
