"""The guarded functions of this process, for those who show them all. Each is held weakly: one that is dropped is gone.

A function costs its weak reference and a place in a list, a call costs nothing. A fork changes nothing: the child has
the same functions.
"""

from __future__ import annotations

import logging
import weakref
from _thread import allocate_lock
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from llm_guard.events import Listener
from llm_guard.fork import renew_after_fork

if TYPE_CHECKING:
    from llm_guard.runtime.policy import Policy

_log = logging.getLogger("llm_guard")
#: Dead references are swept out when the list has grown to twice those that live, and to this at least.
_SWEEP = 64


class Member(Protocol):
    """A guarded function, or a stack through which single calls are made."""

    @property
    def guards(self) -> tuple[Policy, ...]:
        """The policies, outermost first."""

    def statistics(self) -> dict[str, Any]: ...

    def on_event(self, listener: Listener) -> Callable[[], None]: ...

    def waiting(self) -> int: ...


class Registry:
    """Members in the order in which they were made."""

    def __init__(self) -> None:
        self._members: list[weakref.ref[Member]] = []
        self._watching: dict[object, weakref.WeakMethod[Callable[[Member], object]]] = {}
        self._sweep_at = _SWEEP
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._sweeping = allocate_lock()  # another thread may have held it

    def add(self, member: Member) -> None:
        """A member was made."""
        self._members.append(weakref.ref(member))
        if len(self._members) >= self._sweep_at:
            self._sweep()
        if self._watching:
            self._tell(member)

    def members(self) -> list[Member]:
        """Those that live."""
        return list(self._alive())

    def named(self) -> dict[str, Member]:
        """The same by their names, "module.qualified name"; the second of a name is "name#2"."""
        found: dict[str, Member] = {}
        seen: Counter[str] = Counter()
        for member in self._alive():
            name = name_of(member)
            seen[name] += 1
            found[name if seen[name] == 1 else f"{name}#{seen[name]}"] = member
        return found

    def watch(self, told: Callable[[Member], object]) -> Callable[[], None]:
        """Tells the method `told`, while its object lives, of all members there are and of each that comes; returns
        what ends that."""
        key = object()
        self._watching[key] = weakref.WeakMethod(told)
        for member in self._alive():
            told(member)

        def end() -> None:
            self._watching.pop(key, None)

        return end

    def _alive(self) -> Iterator[Member]:
        for reference in self._members[:]:
            member = reference()
            if member is not None:
                yield member

    def _sweep(self) -> None:
        if not self._sweeping.acquire(False):
            return  # somebody does it just now
        try:
            count = len(self._members)  # what comes meanwhile stands behind these
            alive = [reference for reference in self._members[:count] if reference() is not None]
            self._members[:count] = alive
            self._sweep_at = max(_SWEEP, 2 * len(alive))
        finally:
            self._sweeping.release()

    def _tell(self, member: Member) -> None:
        for key, reference in list(self._watching.items()):
            told = reference()
            if told is None:
                self._watching.pop(key, None)
                continue
            try:
                told(member)
            except Exception as error:  # it must not hurt the decoration that it hears of
                _log.error("who watches for guarded functions raised %s and is dropped", type(error).__name__)
                self._watching.pop(key, None)


def name_of(member: Member) -> str:
    """Its module and qualified name, or what it shows of itself."""
    name = getattr(member, "__qualname__", None)
    if not isinstance(name, str):
        return repr(member)
    module = getattr(member, "__module__", None)
    return f"{module}.{name}" if isinstance(module, str) else name


#: That of this process.
registry = Registry()
