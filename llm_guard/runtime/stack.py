"""The stack of one or many functions: its policies from the outermost to the innermost, and the plan made of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar

from llm_guard import call, clock
from llm_guard.errors import ConfigError, Saturated
from llm_guard.events import Listener, Listeners
from llm_guard.runtime import express, options, reading, switch
from llm_guard.runtime.door import door
from llm_guard.runtime.guarded import Guarded, check_function, streams_by_itself
from llm_guard.runtime.keys import NO_READERS, Asks, Readers, keys_of, readers_for
from llm_guard.runtime.options import Options
from llm_guard.runtime.plan import Plan
from llm_guard.runtime.policy import Policy, check_classify
from llm_guard.runtime.reading import Classify
from llm_guard.runtime.registry import registry
from llm_guard.runtime.runner import Run
from llm_guard.runtime.stream_run import StreamRun
from llm_guard.runtime.stream_unguarded import unguarded
from llm_guard.runtime.streams import Stream
from llm_guard.state.keyed import gates_of

P = ParamSpec("P")
R = TypeVar("R")


class Stack:
    """Policies, outermost first. `guard(f)` guards a function with them, `guard.call(f, *args)` makes one call.

    All functions guarded by one stack share its state. A policy that stands in it twice counts once.
    """

    _listeners: Listeners | None = None  # to its own calls, from the first one on
    _plans: dict[frozenset[object], Plan] | None = None  # without what a call above holds, from the first such call on

    def __init__(self, policies: tuple[Policy, ...], classify: Classify | None = None) -> None:
        self.policies = tuple(dict.fromkeys(policies))
        self.classify = classify
        self._plan = Plan(self.policies, classify)
        reading.bring_in()

    def __call__(self, function: Callable[P, R]) -> Guarded[P, R]:
        """`function` under this stack; one that is guarded already gets its own stack beneath this one."""
        if isinstance(function, Guarded):
            classify = self.classify or function.stack.classify
            if function.stack.classify not in (None, classify):
                raise ConfigError("classify", self.classify, "one function for the whole stack, given once")
            whole = Stack((*self.policies, *function.stack.policies), classify)
            whole.check_kind(streams=function.streams)
            return Guarded(function.__wrapped__, whole, function.readers, streams=function.streams)
        check_function(function)
        streams = streams_by_itself(function)
        self.check_kind(streams=streams)
        return Guarded(function, self, streams=streams)

    def anew(self) -> Stack:
        """The same policies with the same settings, each with a state of its own that knows nothing yet."""
        return Stack(tuple(policy.anew() for policy in self.policies), self.classify)

    @property
    def asks(self) -> tuple[Asks, ...]:
        """What its policies want to know of a call's arguments."""
        return self._plan.asks

    @property
    def reads_with(self) -> Classify | None:
        """The `classify` in force: its own, or that of one of its policies."""
        return self._plan.classify

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls `function` once under this stack."""
        check_function(function)
        streams = streams_by_itself(function)
        if switch.is_off:
            off: Any = partial(function, *args, **kwargs)
            return unguarded(off) if streams else off()  # type: ignore[return-value]  # it does all that R can
        label = getattr(function, "__qualname__", type(function).__qualname__)
        readers = readers_for(function, self._plan.asks, NO_READERS)
        self.check_kind(streams=streams)
        result: R = self.run(function, label, args, kwargs, options.NONE, self._listen(), readers, streams)
        return result

    def run(self, function: Callable[..., Any], label: str, args: tuple[Any, ...], kwargs: dict[str, Any],
            chosen: Options, listeners: Listeners, readers: Readers, streams: bool) -> Any:
        """Runs one call, whose keys `readers` find. A policy that this very call already holds is passed through."""
        above = call.in_progress()
        plan = self._plan
        if chosen is options.NONE and not streams and express.may(plan, above):
            return express.carry(plan, above, function, label, args, kwargs, listeners)
        if (above is not None and above.active and above.held
                and (held := frozenset(above.held).intersection(plan.policies))):
            plan = self._plan_without(held)
            if plan.is_empty and chosen is options.NONE:
                if clock.current().now() >= above.deadline:
                    raise Saturated("the deadline had passed before the call could start", policy="deadline")
                return unguarded(partial(function, *args, **kwargs)) if streams else function(*args, **kwargs)
        keys = keys_of(plan.asks, readers, args, kwargs) if plan.asks else None
        runner = StreamRun if streams else Run
        if plan.fallback is None:
            return runner(plan, function, args, kwargs, label, chosen, listeners, keys).go()
        try:
            return runner(plan, function, args, kwargs, label, chosen, listeners, keys).go()
        except Exception as error:
            answer = plan.fallback(error, args, kwargs)
        return unguarded(partial(_same, answer)) if streams and not isinstance(answer, Stream) else answer

    def check_kind(self, *, streams: bool) -> None:
        """Refuses a function of a kind that its policies cannot guard; `streams`: one that streams."""
        for policy in self.policies:
            policy.check(streams=streams)

    def check(self, chosen: Options) -> None:
        """Refuses options that this stack has no place for."""
        for option in ("attempts", "max_refusal_wait"):
            if getattr(chosen, option) is not None and self._plan.rule is None:
                raise ConfigError(option, getattr(chosen, option), "only where a @retry stands in the stack")

    @property
    def guards(self) -> tuple[Policy, ...]:
        """Its policies, outermost first."""
        return self.policies

    def on_event(self, listener: Listener) -> Callable[[], None]:
        """Tells `listener` of every event of the calls made by `call`; returns what takes it off again."""
        return self._listen().add(listener)

    def _listen(self) -> Listeners:
        if self._listeners is not None:
            return self._listeners
        mine = Listeners()
        kept: Listeners = vars(self).setdefault("_listeners", mine)  # in one step: another thread may call too
        if kept is mine:
            registry.add(self)
        return kept

    def waiting(self) -> int:
        """How many wait at the door for all gates of an attempt: an upper bound where others share its policies."""
        with door.locked():
            return min((sum(map(door.waiting, gates_of(gate)))
                        for gate in self._plan.attempt_gates or self._plan.call_gates), default=0)

    def statistics(self) -> dict[str, Any]:
        """A frozen snapshot of each policy, by name; a second policy of a name gets a number."""
        found: dict[str, Any] = {}
        for policy in self.policies:
            same = sum(name.split("#")[0] == policy.name for name in found)
            found[policy.name if not same else f"{policy.name}#{same + 1}"] = policy.statistics()
        return found

    def _plan_without(self, held: frozenset[object]) -> Plan:
        if self._plans is None:
            self._plans = {}
        plan = self._plans.get(held)
        if plan is None:
            left = tuple([policy for policy in self.policies if policy not in held])
            plan = self._plans[held] = Plan(left, self._plan.classify)
        return plan

    def __repr__(self) -> str:
        return f"stack({', '.join(policy.name for policy in self.policies)})"


def _same(answer: Any) -> Any:  # a lambda's cell would be made with every call
    return answer


def stack(*policies: Policy, classify: Classify | None = None) -> Stack:
    """A stack without a function: policies in the order in which they would stand above one, outermost first.

    `classify` replaces the reading of exceptions and of returned values; None from it leaves them to the default.
    """
    for policy in policies:
        if not isinstance(policy, Policy):
            raise ConfigError("policies", policy, "policies such as retry() or bounded(8)")
    return Stack(policies, check_classify(classify))


def put_on_top(policy: Policy, function: Callable[P, R]) -> Guarded[P, R]:
    """The function with `policy` as the outermost of its stack."""
    return Stack((policy,))(function)
