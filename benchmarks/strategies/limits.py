"""A limit on calls in flight: the threads that find it reached block, as with Netflix's `BlockingLimiter`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from llm_guard.clock import current
from llm_guard.testing.simulation import Call, ServerCall
from llm_guard.testing.virtual_server import ServerRefused, ServerTimeout
from strategies.tries import Attempt
from strategies.waiting import Condition


@dataclass(frozen=True, slots=True)
class End:
    """A call ended at `at`, after `took` seconds. `in_flight` were there when it started, itself included; `mark` is
    what the limit noted at its start. `error`: None where there was an answer."""

    at: float
    took: float
    in_flight: int
    error: BaseException | None = None
    mark: object = None


class Limit(ABC):
    """The arithmetic of a limit. It is told the time, and called under one lock."""

    @abstractmethod
    def allowed(self, now: float) -> int:
        """How many calls may be in flight."""

    def started(self) -> object:
        """A call starts; what `ended` shall be told of it."""
        return None

    @abstractmethod
    def ended(self, end: End) -> None:
        """A call ended."""


def dropped(error: BaseException | None) -> bool | None:
    """How Netflix's own clients read an end: an answer is no drop (False), a refusal, a broken connection and a timeout
    are (True), any other error is ignored (None)."""
    if error is None:
        return False
    return True if isinstance(error, ServerRefused | ServerTimeout) else None


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
                seen, mark, began = in_flight, limit.started(), time.now()
            raised: BaseException | None = None
            try:
                return call(item, timeout=timeout)
            except BaseException as error:
                raised = error
                raise
            finally:
                with condition:
                    in_flight -= 1
                    now = time.now()
                    limit.ended(End(now, now - began, seen, raised, mark))
                    condition.notify(max(0, limit.allowed(now) - in_flight))

        return once

    return attempt
