"""Who sends: anything that wraps the server's call. A stack of policies does, and so does any plain decorator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from llm_guard.errors import ConfigError
from llm_guard.policies.ramp_up import ramp_up
from llm_guard.policies.retry import retry
from llm_guard.policies.timeout import timeout
from llm_guard.runtime.guarded import Guarded
from llm_guard.runtime.stack import Stack, stack
from llm_guard.testing.server import Scenario
from llm_guard.testing.virtual_server import outcome_of


class ServerCall(Protocol):
    """One call to the server, with or without a timeout in seconds.

    Returns the answer; raises `ServerRefused`, `ServerFailed` or `ServerTimeout`.
    """

    def __call__(self, item: object, /, timeout: float | None = None) -> str: ...


#: From an item to its answer.
Call = Callable[[object], str]
#: What makes the server's call one that comes through. Its state is that of one client.
Client = Callable[[ServerCall], Call]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a strategy may know: the server's kind (of which an honest one uses the timeout alone), how many threads
    call, the seconds that each item has (None: as long as it takes), and how many times as fast as its scenario the
    server is."""

    scenario: Scenario
    threads: int
    deadline: float | None = None
    speed: float = 1.0

    @property
    def timeout(self) -> float:
        """Seconds that an attempt may take."""
        return self.scenario.timeout / self.speed

    @property
    def capacity(self) -> float:
        """Calls a second that the server bears once it is warm: for strategies that are told."""
        return self.scenario.capacity * self.speed


#: Makes a client for a run.
Strategy = Callable[[Setting], Client]


def recommended(setting: Setting) -> Stack:
    """The stack that the figures are for: a pace, a retry, and the scenario's timeout for each attempt."""
    return stack(ramp_up(), retry(), timeout(setting.timeout))


def wrap(client: Client, call: ServerCall, setting: Setting) -> Call:
    """The client's call. Where it is a stack that does not say how to read this server, it is told."""
    if isinstance(client, Stack) and client.classify is None:
        try:
            client = Stack(client.policies, outcome_of)
        except ConfigError:  # one of its policies says it
            pass
    wrapped = client(call)
    if setting.deadline is not None and isinstance(wrapped, Guarded):
        return wrapped.with_options(deadline=setting.deadline)
    return wrapped
