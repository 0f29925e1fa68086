"""What may be set for a single call."""

from __future__ import annotations

from llm_guard import checks


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


NONE = Options()
