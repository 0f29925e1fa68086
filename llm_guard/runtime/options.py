"""What may be set for a single call."""

from __future__ import annotations

from dataclasses import dataclass

from llm_guard import checks


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of one call; None leaves a thing as the stack has it. Times in seconds.

    `timeout` takes the place of the stack's timeout (of the outermost, where there are several), or bounds the whole
    call where there is none. `deadline` bounds the whole call in addition, without a thread. `attempts` and
    `max_refusal_wait` are those of the retry; `max_wait` is the longest wait at the door.
    """

    timeout: float | None = None
    deadline: float | None = None
    attempts: int | None = None
    max_refusal_wait: float | None = None
    max_wait: float | None = None

    def __post_init__(self) -> None:
        checks.optional_number("timeout", self.timeout, above=0, unit="seconds")
        checks.optional_number("deadline", self.deadline, above=0, unit="seconds")
        if self.attempts is not None:
            checks.whole("attempts", self.attempts, least=1)
        checks.optional_number("max_refusal_wait", self.max_refusal_wait, least=0, unit="seconds")
        checks.optional_number("max_wait", self.max_wait, least=0, unit="seconds")


NONE = Options()
