"""Who sends: anything that wraps the server's call. A stack of policies does, and so does any plain decorator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from llm_guard import checks
from llm_guard.errors import ConfigError
from llm_guard.policies.ramp_up import ramp_up
from llm_guard.policies.retry import retry
from llm_guard.policies.timeout import timeout
from llm_guard.runtime.guarded import Guarded
from llm_guard.runtime.policy import Policy
from llm_guard.runtime.stack import Stack, stack
from llm_guard.testing.ends import outcome_of
from llm_guard.testing.server import Scenario


class ServerCall(Protocol):
    """One call to the server, with or without a timeout in seconds.

    Returns the answer; raises `ServerRefused`, `ServerFailed` or `ServerTimeout`.
    """

    def __call__(self, item: object, /, timeout: float | None = None) -> str: ...


#: From an item to its answer.
Call = Callable[[object], str]
#: What makes the server's call one that comes through: a `Stack`, a policy, or a decorator.
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


@dataclass(frozen=True, slots=True)
class Strategy:
    """Makes a client for a run by `make`, from what it may know; a decorator that tells such a function from a client.

        @Strategy
        def mine(setting: Setting) -> Client:
            return stack(ramp_up(), timeout(setting.timeout))
    """

    make: Callable[[Setting], Client]

    def __post_init__(self) -> None:
        checks.function("make", self.make, "a function from a Setting to a client")

    def __call__(self, setting: Setting) -> Client:
        return self.make(setting)


@Strategy
def recommended(setting: Setting) -> Stack:
    """The stack that the figures are for: a pace, a retry, and the scenario's timeout for each attempt."""
    return stack(ramp_up(), retry(), timeout(setting.timeout))


_ALLOWED = ("a Stack, a decorator (a function from a call to a call), or a Strategy (a function from a Setting, "
            "decorated with Strategy)")


def check_client(client: object) -> None:
    """ConfigError for what can neither be a client nor make one."""
    if isinstance(client, Guarded):  # it guards its own function, and is no decorator
        raise ConfigError("client", client, f"{_ALLOWED}; of a guarded function its `stack`")
    if not isinstance(client, Strategy | Stack | Policy):
        checks.function("client", client, _ALLOWED)


def connect(client: Client | Strategy, call: ServerCall, setting: Setting) -> tuple[Call, tuple[Policy, ...]]:
    """The call of one client, which has a state of its own, and the policies it goes through, where they can be seen.

    A stack, or a policy, is taken as a pattern: the client has one with the same settings, as new. A strategy is asked,
    and what it makes is used as it is. A decorator is applied. A stack that does not say how to read this server, also
    one that a decorator put directly on the call, is told.
    """
    if isinstance(client, Strategy):
        made = client(setting)
        if isinstance(made, Strategy):
            raise ConfigError("client", client, "a Strategy that makes a Stack or a decorator, not another Strategy")
        check_client(made)
    else:
        made = client.anew() if isinstance(client, Stack | Policy) else client
    if isinstance(made, Policy):
        made = Stack((made,))
    if isinstance(made, Stack):
        wrapped: Call = _told_how_to_read(made)(call)
    else:
        wrapped = _decorated(made, call)
    if not isinstance(wrapped, Guarded):
        return wrapped, made.policies if isinstance(made, Stack) else ()
    wrapped.stack = _told_how_to_read(wrapped.stack)
    policies = wrapped.stack.policies
    return wrapped if setting.deadline is None else wrapped.with_options(deadline=setting.deadline), policies


def _decorated(client: Client, call: ServerCall) -> Call:
    here = f"{_ALLOWED}; called with the server's call, as a decorator is, this one"
    try:
        wrapped = client(call)
    except Exception as error:
        raise ConfigError("client", client, f"{here} raised {type(error).__name__}: {error}") from error
    if isinstance(wrapped, Strategy | Stack | Policy):
        raise ConfigError("client", client, f"{here} returned a {type(wrapped).__name__}")
    if not callable(wrapped):
        raise ConfigError("client", client, f"{here} returned what is no function: {type(wrapped).__name__}")
    checks.function("client", wrapped, "a function")
    return wrapped


def _told_how_to_read(guard: Stack) -> Stack:
    if guard.classify is None:
        try:
            return Stack(guard.policies, outcome_of)
        except ConfigError:  # one of its policies says it
            pass
    return guard
