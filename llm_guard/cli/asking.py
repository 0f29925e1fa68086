"""The call of one prompt under all guards, and what its answers are known by."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from llm_guard.cli.answers import UnusableLine, recorded
from llm_guard.cli.items import Item
from llm_guard.cli.settings import Settings
from llm_guard.cli.target import Target
from llm_guard.llm.ready import Prompt
from llm_guard.policies.bounded import bounded
from llm_guard.policies.ramp_up import ramp_up
from llm_guard.policies.retry import retry
from llm_guard.policies.timeout import timeout
from llm_guard.runtime.guarded import Guarded
from llm_guard.runtime.stack import stack


@dataclass(frozen=True, slots=True)
class NoPrompt:
    """Stands in the place of a prompt where a line has none: `problem` says why."""

    problem: str


Asked = Prompt | NoPrompt


def guarded(settings: Settings, asked: Target) -> Guarded[[Prompt], dict[str, Any]]:
    """The call under all guards: its answers are plain JSON."""
    call = asked.call

    def ask(prompt: Prompt) -> dict[str, Any]:
        return recorded(call(prompt))

    ask.__qualname__ = asked.model  # as it is called in the log
    guards = stack(ramp_up(ceiling=settings.ceiling), bounded(settings.workers),
                   retry(attempts=settings.attempts, max_refusal_wait=settings.max_refusal_wait),
                   timeout(settings.timeout))
    return guards(ask)


def usable(call: Guarded[[Prompt], dict[str, Any]]) -> Callable[[Asked], dict[str, Any]]:
    """The function that is mapped. A line without a prompt passes no guard: it waits at no door."""
    def ask(prompt: Asked) -> dict[str, Any]:
        if isinstance(prompt, NoPrompt):
            raise UnusableLine(prompt.problem)
        return call(prompt)

    ask.__qualname__ = call.__qualname__
    return ask


def key(prompt: Asked) -> str:
    """By what is asked, not by its place: so lines may be added, moved and mended between two runs."""
    known: object = {"unusable": prompt.problem} if isinstance(prompt, NoPrompt) else prompt
    return blake2b(json.dumps(known, sort_keys=True).encode(), digest_size=16).hexdigest()


class InputGivenUp(Exception):
    """Raised by a signal while the input is read, which may take for ever: it ends there."""


class UnderWay:
    """Items under way, in order: what is asked goes in, and the item comes back to its result.

    `reads` is True while the next item is being read: whoever then raises `InputGivenUp` ends the input.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self.reads = False
        self._way: deque[Item] = deque()
        self._ended = False

    def asked(self) -> Iterator[Asked]:
        """What to ask for each item."""
        while (item := self._read()) is not None:
            self._way.append(item)
            yield NoPrompt(f"line {item.line}: {item.problem}") if item.problem else item.prompt

    def _read(self) -> Item | None:
        self.reads = True
        try:
            return next(self._items)
        except StopIteration:
            self._ended = True
        except InputGivenUp:
            pass
        finally:
            self.reads = False
        return None

    @property
    def is_over(self) -> bool:
        """Whether each item of the input has come back."""
        return self._ended and not self._way

    def of(self, index: int) -> Item:
        """The item at `index`; those before it, which were given up, are let go."""
        while (item := self._way.popleft()).index != index:
            pass
        return item
