"""How an attempt ended, in the words that the policies act on."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Kind(Enum):
    """The ways in which an attempt ends. What each does to the pace and the breaker: the table in ARCHITECTURE.md."""

    SUCCESS = "success"
    LOADING = "loading"  # the model starts cold
    LIMITED = "limited"  # refused: over the caller's rate
    OVERLOAD = "overload"  # refused: the server has no room
    GROWTH_LIMITED = "growth_limited"  # refused: the traffic grew too fast
    FAILURE = "failure"  # 5xx, broken JSON, a broken connection
    TIMEOUT = "timeout"  # ran out of time
    QUOTA = "quota"  # the account is exhausted
    INVALID = "invalid"  # the request itself is wrong
    IGNORED = "ignored"  # no verdict on the server: cancelled, interrupted, a bug of the caller's

    def __repr__(self) -> str:
        return f"Kind.{self.name}"


#: The server said "not now": such an attempt does not count, and is waited out.
REFUSALS = frozenset({Kind.LOADING, Kind.LIMITED, Kind.OVERLOAD, Kind.GROWTH_LIMITED})
#: The attempt was made and went wrong: counted, and tried again.
FAILURES = frozenset({Kind.FAILURE, Kind.TIMEOUT})
#: No further attempt can help: the call ends.
FINAL = frozenset({Kind.QUOTA, Kind.INVALID, Kind.IGNORED})


class Outcome(NamedTuple):
    """How one attempt ended.

    `hint` is the wait that the server asked for, in seconds, or None; `answered` is True where the server itself gave
    an answer, be it an error (False: the connection broke, or time ran out).

    `remaining` and `reset` are what the server told, with an answer of any kind, of its limit on requests: the calls
    that the account has left now, and the seconds until it has all of them again. None: not told. Where the limit is a
    fixed window, nothing comes back before `reset`; where it is a bucket, it fills little by little until then.
    `remaining_tokens` and `reset_tokens` are the same of its limit on tokens, which is a limit of its own.

    `output_tokens` are those of the answer, `total_tokens` with those of the question: what the call took of an account
    that is counted in tokens. None: not known.
    """

    kind: Kind
    hint: float | None = None
    answered: bool = True
    remaining: float | None = None
    reset: float | None = None
    remaining_tokens: float | None = None
    reset_tokens: float | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None


SUCCESS = Outcome(Kind.SUCCESS)
FAILURE = Outcome(Kind.FAILURE, answered=False)
TIMEOUT = Outcome(Kind.TIMEOUT, answered=False)
IGNORED = Outcome(Kind.IGNORED, answered=False)
