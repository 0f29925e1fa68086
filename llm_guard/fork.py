"""After `os.fork` the child starts fresh: its locks are free, its states empty, the parent's permits void."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """State that knows how to begin anew."""

    def after_fork(self) -> None:
        """Called in the child, where no other thread runs."""


_states: WeakSet[Forkable] = WeakSet()


def renew_after_fork(state: Forkable) -> None:
    """Has `state.after_fork()` called in every child process, for as long as `state` lives."""
    _states.add(state)


def _renew_all() -> None:
    for state in list(_states):
        state.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
