"""When a run ends early: the server refuses every request as wrong, or a signal asks for it."""

from __future__ import annotations

import signal
from _thread import allocate_lock
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Final, Self

from llm_guard import clock
from llm_guard.cli.asking import InputGivenUp, UnderWay
from llm_guard.cli.exits import Exit
from llm_guard.events import AttemptEnded, Event
from llm_guard.outcome import Kind

#: So many requests, the first that end for good, all of them invalid: it is not the items that are wrong.
ALL_OF: Final = 10
#: Seconds.
ONE: Final = 0.3
_ADVICE: Final = {401: "is the key right?", 403: "is the key right, and may it use this model?",
                  404: "are --url, --model and --format right?", 405: "are --url and --format right?",
                  400: "are --model, --parameters and --format right?",
                  422: "are --model, --parameters and --format right?"}


class AllInvalid:
    """Listens to the attempts of this run; calls `stop` once none was answered and `ALL_OF` were invalid."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._lock = allocate_lock()
        self._invalid = 0
        self._answered = False
        self.stopped = False

    def __call__(self, event: Event) -> None:
        if self._answered or not isinstance(event, AttemptEnded):
            return
        with self._lock:
            self._answered |= event.kind is Kind.SUCCESS
            self._invalid += event.kind is Kind.INVALID
            stops = not self._answered and not self.stopped and self._invalid >= ALL_OF
            self.stopped |= stops
        if stops:
            self._stop()


def all_invalid(error: Mapping[str, Any]) -> str:
    """Why it stopped, by one of the errors."""
    status, code = error.get("status"), error.get("code")
    told = [f"status {status}"] * bool(status) + [f"({code})"] * bool(code) or [error.get("type", "an error")]
    advice = f": {_ADVICE[status]}" if status in _ADVICE else ""
    return f"the server refused each of the first {ALL_OF} requests as wrong, with {' '.join(told)}{advice}"


class Interrupts:
    """Within its block the first SIGINT or SIGTERM calls `stop`, and ends the input if it is being read; the second
    calls `abandon`; a further one is a KeyboardInterrupt. SIGTERM twice within `ONE` seconds is one: `timeout` sends it
    to its child and once more to the group.

    `code` is the exit code that the first stands for; None: there was none.
    """

    def __init__(self, stop: Callable[[], None], abandon: Callable[[], None], under: UnderWay,
                 say: Callable[[str], None]) -> None:
        self._stop, self._abandon, self._under, self._say = stop, abandon, under, say
        self._twice = False
        self._first = 0.0  # when it came
        self._before: dict[int, Any] = {}
        self.code: Exit | None = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = clock.current().now()
        if self.code is Exit.TERMINATED and number == signal.SIGTERM and now - self._first < ONE:
            return
        if self._twice:
            raise KeyboardInterrupt
        if self.code is not None:
            self._twice = True
            self._abandon()
            return
        self._first = now
        self.code = Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED
        self._stop()
        # Elsewhere: this thread may hold the lock of what says it.
        clock.current().spawn(lambda: self._say("stopping: what is in flight comes to its end; Ctrl-C again cuts it "
                                                "off"), "llm-guard says")
        if self._under.reads:
            raise InputGivenUp

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(ValueError):  # only the main thread may handle signals
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
