"""How a call to the simulated server ends: an answer, a refusal, a failure or a timeout, and what each says of it."""

from __future__ import annotations

from typing import Self

from llm_guard.outcome import FAILURE, SUCCESS, TIMEOUT, Kind, Outcome
from llm_guard.testing.server.limits import Left
from llm_guard.testing.server.stats import Reason

_KINDS = {
    Reason.LOADING: Kind.LOADING,
    Reason.LIMITED: Kind.LIMITED,
    Reason.QUOTA: Kind.QUOTA,
    Reason.GROWTH: Kind.LIMITED,  # where the server does not tell the one from the other
    Reason.OVERLOAD: Kind.OVERLOAD,
    Reason.CONNECTION: Kind.FAILURE,
}


class Answer(str):
    """The text of an answer that tells too what the account has left, and how long it is.

    `remaining` calls are left in the present window or bucket; in `reset` seconds it is full again. It has `tokens`.
    None: not told.
    """

    __slots__ = ("remaining", "reset", "tokens")
    remaining: float | None
    reset: float | None
    tokens: int | None

    def __new__(cls, text: str, remaining: float | None = None, reset: float | None = None,
                tokens: int | None = None) -> Self:
        answer = super().__new__(cls, text)
        answer.remaining, answer.reset, answer.tokens = remaining, reset, tokens
        return answer


class _Telling(Exception):
    """An error that may tell what the account has left, as an `Answer` does; else both are None."""

    def __init__(self, *said: object, left: Left | None = None) -> None:
        super().__init__(*said)
        self.remaining: float | None = None
        self.reset: float | None = None
        if left is not None:
            self.remaining, self.reset = left


class ServerRefused(_Telling):
    """The server took no work on, for `reason`; `hint` is the wait it told, in seconds, or None.

    `tells_growth`: it says so where traffic grew too fast, which else looks as a rate limit does.
    """

    def __init__(self, reason: Reason, hint: float | None = None, *, tells_growth: bool = False,
                 left: Left | None = None) -> None:
        super().__init__(reason, hint, left=left)
        self.reason = reason
        self.hint = hint
        self.tells_growth = tells_growth

    @property
    def kind(self) -> Kind:
        return Kind.GROWTH_LIMITED if self.reason is Reason.GROWTH and self.tells_growth else _KINDS[self.reason]


class ServerFailed(_Telling):
    """The server worked on the call and answered 500."""


class ServerTimeout(TimeoutError):
    """The caller's time ran out. The call stays in the server, which works on it all the same."""


class CallerGone(Exception):
    """The caller went away before its call had ended. Nobody hears of it but who drives the server."""


def outcome_of(end: object) -> Outcome | None:
    """What this server said, from what its call returned or raised; None for what is not its word. A `classify`."""
    match end:
        case ServerRefused(reason=Reason.CONNECTION):
            return FAILURE
        case ServerRefused(kind=kind, hint=hint):
            return Outcome(kind, hint, remaining=end.remaining, reset=end.reset)
        case ServerFailed():
            return Outcome(Kind.FAILURE, remaining=end.remaining, reset=end.reset)
        case ServerTimeout():
            return TIMEOUT
        case Answer():
            return Outcome(Kind.SUCCESS, remaining=end.remaining, reset=end.reset, output_tokens=end.tokens)
        case str():
            return SUCCESS
    return None


def answer_to(prompt: object) -> str:
    """What the server answers: so a client can see that each item got its own."""
    return f"echo: {prompt}"
