"""The guarded functions of this process, for those who show them all. Each is held weakly: one that is dropped is gone.

A call costs nothing. A fork changes nothing: the child has the same functions.
"""

from __future__ import annotations

import logging
import weakref
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from llm_guard.events import Listener
from llm_guard.fork import renew_after_fork
from llm_guard.weaklist import WeakList

if TYPE_CHECKING:
    from llm_guard.runtime.policy import Policy

_log = logging.getLogger("llm_guard")


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
        self._members: WeakList[Member] = WeakList()
        self._watching: dict[object, weakref.WeakMethod[Callable[[Member], object]]] = {}
        renew_after_fork(self._members)

    def add(self, member: Member) -> None:
        """A member was made."""
        self._members.append(member)
        if self._watching:
            self._tell(member)

    def members(self) -> list[Member]:
        """Those that live."""
        return list(self._members)

    def named(self) -> dict[str, Member]:
        """The same by their names, "module.qualified name"; the second of a name is "name#2"."""
        found: dict[str, Member] = {}
        seen: Counter[str] = Counter()
        for member in self._members:
            name = name_of(member)
            seen[name] += 1
            found[name if seen[name] == 1 else f"{name}#{seen[name]}"] = member
        return found

    def watch(self, told: Callable[[Member], object]) -> Callable[[], None]:
        """Tells the method `told`, while its object lives, of all members there are and of each that comes; returns
        what ends that."""
        key = object()
        self._watching[key] = weakref.WeakMethod(told)
        for member in self._members:
            told(member)

        def end() -> None:
            self._watching.pop(key, None)

        return end

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
