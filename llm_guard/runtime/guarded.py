"""A guarded function: looks like the bare one, carries its stack, runs each call through it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from llm_guard.errors import ConfigError
from llm_guard.events import NOBODY, Listener, Listeners, Takers
from llm_guard.runtime import options, switch
from llm_guard.runtime.keys import Readers, bound, readers_for
from llm_guard.runtime.options import Options
from llm_guard.runtime.registry import registry
from llm_guard.runtime.stream_unguarded import unguarded

if TYPE_CHECKING:
    from llm_guard.runtime.policy import Policy
    from llm_guard.runtime.stack import Stack

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")


class Guarded(Generic[P, R]):
    """What a policy makes of a function. Called like it; works as a method too (one state for the class).

    `with_options(timeout=60)(...)` makes one call under other settings; `guards` lists the policies, outermost first;
    `statistics()` tells of each; `on_event(listener)` reports what happens, without payload. `streams`: a call returns
    a `Stream` when its first item is there. `label`: what events and the log call it.
    """

    __wrapped__: Callable[P, R]
    __name__: str
    __qualname__: str
    _listeners = NOBODY

    def __init__(self, function: Callable[P, R], stack: Stack, readers: Readers | None = None, *,
                 streams: bool = False) -> None:
        if attributes := getattr(function, "__dict__", None):  # to look at one's own, even to put nothing in, makes it
            self.__dict__.update(attributes)
            self.__dict__.pop("_listeners", None)  # where it wraps a guarded one, whose they are
        functools.update_wrapper(self, function, updated=())
        self.stack = stack
        self.streams = streams
        self.readers = readers_for(function, stack.asks, readers or {})
        self._bare = function
        self.label = getattr(function, "__qualname__", type(function).__qualname__)
        registry.add(self)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if switch.is_off:
            return self._call_bare(args, kwargs)
        return self.stack.run(  # type: ignore[no-any-return]
            self._bare, self.label, args, kwargs, options.NONE, self._listeners, self.readers, self.streams)

    def _call_bare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        if self.streams:
            items: Any = unguarded(partial(self._bare, *args, **kwargs))
            return items  # type: ignore[no-any-return]  # it does all that an R does
        return self._bare(*args, **kwargs)

    def with_options(self, *, timeout: float | None = None, deadline: float | None = None, attempts: int | None = None,
                     max_refusal_wait: float | None = None, max_wait: float | None = None) -> Callable[P, R]:
        """This function under other settings, for a call or more: see `llm_guard.runtime.options.Options`."""
        chosen = Options(timeout, deadline, attempts, max_refusal_wait, max_wait)
        self.stack.check(chosen)

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if switch.is_off:
                return self._call_bare(args, kwargs)
            return self.stack.run(  # type: ignore[no-any-return]
                self._bare, self.label, args, kwargs, chosen, self._listeners, self.readers, self.streams)

        return call

    @property
    def guards(self) -> tuple[Policy, ...]:
        """The policies of its stack, outermost first."""
        return self.stack.policies

    def statistics(self) -> dict[str, Any]:
        """A frozen snapshot of each policy, by name; a second policy of a name gets a number."""
        return self.stack.statistics()

    def waiting(self) -> int:
        """How many wait at the door for all that its stack needs: an upper bound where others share its policies."""
        return self.stack.waiting()

    def on_event(self, listener: Listener) -> Callable[[], None]:
        """Tells `listener` of every event of this function; returns what takes it off again."""
        return self._listen().add(listener)

    def take_events(self, takers: Takers) -> Callable[[], None]:
        """As `on_event`, for certain kinds of events and without making them: see `Listeners.add_takers`."""
        return self._listen().add_takers(takers)

    def _listen(self) -> Listeners:
        if self._listeners is NOBODY:
            vars(self).setdefault("_listeners", Listeners())  # in one step: another thread may come too
        return self._listeners

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...

    @overload
    def __get__(self: Guarded[Concatenate[S, Q], R], instance: S, owner: type | None = None) -> Guarded[Q, R]: ...

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None or not hasattr(self._bare, "__get__"):  # what does not bind, as a partial, is no method
            return self
        return _Bound(self, instance)

    def __reduce__(self) -> str:
        return self.__qualname__  # by reference, as functions are pickled

    def __repr__(self) -> str:
        names = " ".join(f"@{policy.name}" for policy in self.stack.policies)
        return f"<guarded {self.label}: {names}>"


def guarded_functions() -> list[Guarded[Any, Any]]:
    """All of the process that are in use, in the order in which they were made. A function that got a further decorator
    is in use too, where somebody still has it as it was."""
    return [member for member in registry.members() if isinstance(member, Guarded)]


class _Bound(Guarded[P, R]):
    """A guarded method of one instance."""

    def __init__(self, guarded: Guarded[Any, R], instance: object) -> None:
        self.__self__ = instance
        self.__func__ = guarded
        functools.update_wrapper(self, guarded, updated=())
        self.__wrapped__ = guarded._bare.__get__(instance)
        self.stack = guarded.stack
        self.streams = guarded.streams
        self._bare = self.__wrapped__
        self.label = guarded.label
        self.readers = bound(guarded.readers, instance) if guarded.readers else guarded.readers

    @property
    def _listeners(self) -> Listeners:  # type: ignore[override]  # those of the function, whenever they came
        return self.__func__._listeners

    def _listen(self) -> Listeners:
        return self.__func__._listen()

    def __reduce__(self) -> Any:
        return getattr, (self.__self__, self.__name__)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bound) and self.__self__ is other.__self__ and self.__func__ is other.__func__

    def __hash__(self) -> int:
        return hash((id(self.__self__), id(self.__func__)))


def check_function(function: object) -> None:
    """Refuses what cannot be guarded, with the reason."""
    import inspect  # with the first function that is guarded

    bare: Any = function.func if isinstance(function, partial) else function
    if isinstance(bare, (classmethod, staticmethod)):
        raise ConfigError("function", bare, f"a plain function: put the policy beneath @{type(bare).__name__}")
    if isinstance(bare, type):
        raise ConfigError("function", bare, "a function")
    if not callable(bare):  # it may be a prompt, given to a policy that was meant to be called first
        raise ConfigError("function", type(bare).__name__, "a function")
    for kind in _kinds(bare):
        if inspect.iscoroutinefunction(kind) or inspect.isasyncgenfunction(kind):
            raise ConfigError("function", bare, "a blocking function: coroutine functions are not guarded here")


def streams_by_itself(function: object) -> bool:
    """Whether it is a generator function, or guarded and known to stream."""
    if isinstance(function, Guarded):
        return function.streams
    if isinstance(function, partial):
        return streams_by_itself(function.func)
    import inspect

    return any(map(inspect.isgeneratorfunction, _kinds(function)))


def _kinds(function: object) -> tuple[object, object]:
    """Where it shows what kind of function it is."""
    return function, getattr(function, "__call__", None)  # noqa: B004 - what is looked at is its kind
