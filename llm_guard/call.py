"""The call in progress: what a guarded function hands down to what it calls.

That is its deadline and its cut-off, for guarded functions and for connections, and nothing else. It also remembers
which policies it holds, so that entering one of them again (recursion, a shared policy) passes through, and what a
connection below heard from the server.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextvars import ContextVar

FOREVER = float("inf")
NEVER = -FOREVER  # the instant of what has not happened; one object for all, where each `-FOREVER` makes another

_TAKEN = object()
_log = logging.getLogger("llm_guard")


class CutOff:
    """A way to give a call up from outside: whoever waits for it is told, once.

    `parent`, where given, cuts this one too. `at` is the instant at which whoever waits for the call will cut it, by
    itself. `waits` is cut with it, or before it, where what runs shall end by itself (`ends_waits`) and only what
    waits, at the door or between two attempts, is given up. There is no lock: a finaliser or a signal may cut while
    this very thread is in here, so each step is a single operation of a dict.
    """

    __slots__ = ("_parent", "_telling", "_waits", "_watchers", "at", "is_cut")

    def __init__(self, parent: CutOff | None = None, at: float = FOREVER, *, ends_waits: bool = False) -> None:
        self.is_cut = False
        self.at = at
        self._telling = False
        self._watchers: dict[Callable[[], None], None] = {}
        self._parent = parent
        if parent is not None:
            parent.watch(self.cut)
        self._waits: CutOff | None = None
        if ends_waits:
            self._separate_waits(None if parent is None else parent.waits)

    @property
    def waits(self) -> CutOff:
        """What those watch who only wait: this one, or a separate one where it, or one above it, `ends_waits`."""
        if self._waits is not None:
            return self._waits
        above = self._parent if self._parent is None else self._parent.waits
        if above is self._parent:
            return self
        return self._separate_waits(above)

    def _separate_waits(self, above: CutOff | None) -> CutOff:
        self._waits = waits = CutOff(above)
        self.watch(waits.cut)
        return waits

    def watch(self, tell: Callable[[], None]) -> None:
        """Calls `tell` when it is cut, in the thread that cuts; at once where it is cut already."""
        self._watchers[tell] = None
        if self.is_cut:
            self._tell(tell)

    def unwatch(self, tell: Callable[[], None]) -> None:
        """Forgets one watcher."""
        self._watchers.pop(tell, None)

    def cut(self) -> None:
        """Gives the call up. Again: no effect. A watcher that raises does not rob the others."""
        self.is_cut = True
        if self._telling:
            return
        self._telling = True
        try:
            for tell in list(self._watchers):
                self._tell(tell)
        finally:  # also after an interrupt: then the next cut tells the others
            self._telling = False

    def _tell(self, tell: Callable[[], None]) -> None:
        if self._watchers.pop(tell, _TAKEN) is _TAKEN:
            return  # by another thread, which tells it
        try:
            tell()
        except Exception as error:
            _log.error("a watcher of a cut-off raised %s", type(error).__name__)

    def close(self) -> None:
        """Lets go of the parent when the call is over."""
        if self._parent is not None:
            self._parent.unwatch(self.cut)
        if self._waits is not None:
            self._waits.close()

    def forget(self) -> None:
        """Is cut, and tells nobody: in the child of a fork, where the watchers and their sockets are the parent's."""
        self._watchers.clear()
        self.is_cut = True
        if self._waits is not None:
            self._waits.forget()


class Call:
    """One guarded call in progress.

    `deadline` is an instant of the clock or FOREVER (in a stream it moves on by the time that the consumer takes, so
    look at it anew for each item); `cut_off` may be None; `held` are the policies that this call or one above it has
    entered; `active` is False once it has ended, for a context may outlive its call. `attempts` counts those that
    guarded functions made right below it; `owner` stands for the outermost guarded call around it, on whose behalf
    permits are held. `heard` is the last response that a connection received on its behalf, if it told: so what the
    server says of the account is not lost where the function returns a text alone. `guards` are the policies of the
    guarded function right below it that made its last attempt.
    """

    __slots__ = ("active", "attempts", "cut_off", "deadline", "guards", "heard", "held", "owner")

    def __init__(self, deadline: float = FOREVER, cut_off: CutOff | None = None,
                 held: tuple[object, ...] = (), owner: object = None) -> None:
        self.owner = owner
        self.deadline = deadline
        self.cut_off = cut_off
        self.held = held
        self.active = True
        self.attempts = 0
        self.guards: Sequence[object] = ()
        self.heard: object = None


_in_progress: ContextVar[Call | None] = ContextVar("llm_guard_call", default=None)

#: The innermost call in progress in this context, or None.
in_progress = _in_progress.get
#: Makes a call the innermost one; the token returned goes to `end`.
begin = _in_progress.set
#: Makes the one before it the innermost again.
end = _in_progress.reset
