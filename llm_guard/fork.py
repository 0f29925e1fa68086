"""After `os.fork` the child starts fresh: its locks are free, its states empty, the parent's permits void."""

from __future__ import annotations

import os
from typing import Protocol

from llm_guard.weaklist import WeakList


class Forkable(Protocol):
    """State that knows how to begin anew."""

    def after_fork(self) -> None:
        """Called in the child, where no other thread runs."""


_states: WeakList[Forkable] = WeakList()


def renew_after_fork(state: Forkable) -> None:
    """Has `state.after_fork()` called in every child process, for as long as `state` lives. Once for each state."""
    _states.append(state)


def _renew_all() -> None:
    _states.after_fork()
    for state in _states:
        state.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
