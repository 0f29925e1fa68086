"""What a gate is: one condition that an attempt must meet at the door, as pure state that is told the time.

The number is kept apart from its enforcer: a gate says when, `llm_guard.state.line` makes callers wait. A gate's
methods are called under the line's lock and never wait.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from llm_guard.call import FOREVER
from llm_guard.errors import Rejected
from llm_guard.outcome import Outcome

if TYPE_CHECKING:
    from llm_guard.state.keyed import Keyed


class Ending:
    """How an attempt ended: its outcome, how many seconds it ran, the time limit it ran under, the class of its error,
    and whether a pace heard of it too.

    Of a stream `seconds` are those in which it was waited for, `first_item` those until its first item came (None: no
    stream, or none came), `timeout` the limit that it had for that; none where it ran out of time later.
    """

    __slots__ = ("error", "first_item", "outcome", "paced", "seconds", "timeout")

    def __init__(self, outcome: Outcome, seconds: float, timeout: float | None = None,
                 error: type[BaseException] | None = None, paced: bool = False,
                 first_item: float | None = None) -> None:
        self.outcome = outcome
        self.seconds = seconds
        self.timeout = timeout
        self.error = error
        self.paced = paced
        self.first_item = first_item

    def lasting(self, seconds: float) -> Ending:
        """The same of what took so long."""
        return Ending(self.outcome, seconds, self.timeout, self.error, self.paced, self.first_item)


class Request:
    """An attempt at the door.

    `urgent`: a retry, which goes before first attempts. `patience`: how many seconds it waits for a gate that the
    server's refusals or failures hold closed; None where it would rather be refused by an open circuit. `by_call`: so
    many of its gates, the first ones, are passed for the whole call. `deadline`: the instant by which its call must
    have ended. `owner`: on whose behalf it comes, the outermost call where calls are `nested` (None: its own). `since`:
    when it came to the door. `permits`: what the gates gave it, in their order, once admitted; `refusal`: what it was
    refused with. `keys`: its key in each family that stands among its gates, for the line to choose by, and what it
    will cost.
    """

    __slots__ = ("by_call", "deadline", "gates", "keys", "nested", "owner", "patience", "permits", "refusal", "since",
                 "urgent")

    def __init__(self, gates: Sequence[Gate | Keyed[Any]], patience: float | None = None,
                 keys: Mapping[Any, Hashable] | None = None, urgent: bool = False) -> None:
        self.gates: tuple[Gate, ...] = tuple(gates)  # type: ignore[arg-type]  # no families once it has chosen
        self.patience = patience
        self.keys = keys
        self.urgent = urgent
        self.by_call = 0
        self.deadline = FOREVER
        self.owner: object = None
        self.nested = False
        self.since = 0.0
        self.permits: Sequence[Any] = ()
        self.refusal: Rejected | None = None


class Gate(Protocol):
    """One condition. `name` is that of its policy; `outlives` says that a permit is kept while a function that ran
    out of time still runs."""

    name: str
    outlives: bool

    def ready_at(self, now: float, request: Request) -> float | Rejected:
        """When to ask again: `now` or earlier means that it may start now; infinity, that something must end first.
        A `Rejected` refuses it for good."""

    def start(self, now: float, request: Request) -> Any:
        """Lets it start; returns its permit. Called only right after `ready_at` said so. Who raises has taken
        nothing."""

    def end(self, now: float, permit: Any, ending: Ending) -> None:
        """Takes the permit back. Every permit ends once, or again where this raised (an interrupt may fall into it)."""

    def is_probe(self, permit: Any) -> bool:
        """Whether that permit let an attempt ask, on behalf of all who wait, if the server is back."""


def blocking(request: Request, now: float) -> tuple[Gate | None, float]:
    """The first of its gates that does not let it start now, and when to ask that one again: `now` where it refuses,
    infinity where something must end first. None, and `now`, where all are open."""
    for gate in request.gates:
        at = gate.ready_at(now, request)
        if isinstance(at, Rejected):
            return gate, now
        if at > now:
            return gate, at
    return None, now
