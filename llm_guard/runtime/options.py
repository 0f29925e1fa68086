"""What may be set for a single call, and what the call then goes by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_guard import checks

if TYPE_CHECKING:
    from llm_guard.runtime.plan import Plan
    from llm_guard.state.tries import Rule


class Options:
    """Settings of one call; None leaves a thing as the stack has it. Times in seconds.

    `timeout` takes the place of the stack's timeout (of the outermost, where there are several), or bounds the whole
    call where there is none. `deadline` bounds the whole call in addition, without a thread. `attempts` and
    `max_refusal_wait` are those of the retry; `max_wait` is the longest wait at the door.
    """

    __slots__ = ("attempts", "deadline", "max_refusal_wait", "max_wait", "timeout")

    def __init__(self, timeout: float | None = None, deadline: float | None = None, attempts: int | None = None,
                 max_refusal_wait: float | None = None, max_wait: float | None = None) -> None:
        self.timeout = checks.optional_number("timeout", timeout, above=0, unit="seconds")
        self.deadline = checks.optional_number("deadline", deadline, above=0, unit="seconds")
        self.attempts = None if attempts is None else checks.whole("attempts", attempts, least=1)
        self.max_refusal_wait = checks.optional_number("max_refusal_wait", max_refusal_wait, least=0, unit="seconds")
        self.max_wait = checks.optional_number("max_wait", max_wait, least=0, unit="seconds")

    def bounds(self, plan: Plan) -> tuple[list[float], list[float], list[float]]:
        """The seconds that timeouts give the whole call, those that they give each attempt, and those that deadlines
        give the call."""
        by_call = [timed.bounds.total for timed in plan.call_timeouts]
        by_attempt = [timed.bounds.total for timed in plan.attempt_timeouts]
        if self.timeout is not None:
            (by_attempt if by_attempt and not by_call else by_call)[:1] = [self.timeout]
        cooperative = [bound() for bound in plan.call_deadlines]
        if self.deadline is not None:
            cooperative.append(self.deadline)
        return by_call, by_attempt, cooperative

    def rule(self, plan: Plan) -> Rule | None:
        """The rule of the plan's retry; None where there is none."""
        rule = plan.rule
        if rule is not None and self.attempts is not None:
            rule = rule._replace(attempts=self.attempts)
        if rule is not None and self.max_refusal_wait is not None:
            rule = rule._replace(max_refusal_wait=self.max_refusal_wait)
        return rule


NONE = Options()
