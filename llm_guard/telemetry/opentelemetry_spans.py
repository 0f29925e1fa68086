"""A span for each attempt, and for each wait beside it."""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Callable, Mapping
from contextvars import Token
from typing import Any

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider

from llm_guard import clock
from llm_guard.events import AttemptEnded, AttemptStarted, CallEnded, CallRejected, FirstItem, RetryScheduled, Takers
from llm_guard.fork import renew_after_fork
from llm_guard.outcome import Kind
from llm_guard.telemetry.opentelemetry import ERROR, MODEL, OPERATION, OUTCOME, POLICY, SCOPE

#: Seconds from which on a wait is worth a span.
WORTH = 0.001


class Spans:
    """Of attempts under way, by call and attempt, and what they are current in.

    `attributes_of` says of a function what each of its spans says.
    """

    def __init__(self, provider: TracerProvider | None, attributes_of: Callable[[str], Mapping[str, str]]) -> None:
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=provider)
        self._attributes_of = attributes_of
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._spans: dict[tuple[int, int], Span] = {}
        self._current: dict[int, tuple[Token[Any], int]] = {}  # by call: how to end that, and the thread
        self._retry_at: dict[int, float] = {}  # by call: the instant at which a further attempt was planned

    def takers(self) -> Takers:
        return {AttemptStarted: self._started, FirstItem: self._first_item, AttemptEnded: self._ended,
                RetryScheduled: self._retry, CallRejected: self._rejected, CallEnded: self._call_ended}

    def _started(self, call: int, at: float, function: str, attempt: int, waited: float) -> None:
        self._wait_to_retry(call, at - waited, function, attempt)
        if waited >= WORTH:
            self._wait(function, at - waited, at, {"llm_guard.attempt": attempt, "llm_guard.wait.for": "door"})
        told = self._attributes_of(function)
        operation = told.get(OPERATION, "call")
        span = self._tracer.start_span(
            f"{operation} {told.get(MODEL, function)}", kind=SpanKind.CLIENT, start_time=_wall(at),
            attributes={**told, "llm_guard.attempt": attempt, "llm_guard.waited": waited})
        self._spans[call, attempt] = span
        self._current[call] = context.attach(trace.set_span_in_context(span)), get_ident()

    def _first_item(self, call: int, at: float, function: str, attempt: int, seconds: float) -> None:
        self._spans[call, attempt].set_attribute("gen_ai.response.time_to_first_chunk", seconds)
        self._leave(call)

    def _ended(self, call: int, at: float, function: str, attempt: int, kind: Kind, seconds: float,
               hint: float | None, error: str | None, output_tokens: int | None, total_tokens: int | None) -> None:
        self._leave(call)
        span = self._spans.pop((call, attempt))
        span.set_attribute(OUTCOME, kind.value)
        if hint is not None:
            span.set_attribute("llm_guard.hint", hint)
        if output_tokens is not None:
            span.set_attribute("gen_ai.usage.output_tokens", output_tokens)
            if total_tokens is not None:
                span.set_attribute("gen_ai.usage.input_tokens", max(0, total_tokens - output_tokens))
        if kind is not Kind.SUCCESS:
            span.set_attribute(ERROR, error or kind.value)
            span.set_status(Status(StatusCode.ERROR, kind.value))
        span.end(_wall(at))

    def _retry(self, call: int, at: float, function: str, attempt: int, kind: Kind, wait: float) -> None:
        self._retry_at[call] = at

    def _rejected(self, call: int, at: float, function: str, policy: str, retry_after: float | None,
                  waited: float) -> None:
        self._wait_to_retry(call, at - waited, function, None)
        told = {POLICY: policy, ERROR: "rejected", "llm_guard.wait.for": "door"}
        more = {} if retry_after is None else {"llm_guard.retry_after": retry_after}
        self._wait(function, at - waited, at, {**told, **more}, "rejected")

    def _call_ended(self, call: int, at: float, function: str, attempts: int, kind: Kind | None,
                    seconds: float) -> None:
        self._leave(call)
        self._retry_at.pop(call, None)

    def _wait_to_retry(self, call: int, until: float, function: str, attempt: int | None) -> None:
        """The wait before a further attempt, until it came to the door."""
        since = self._retry_at.pop(call, until)
        if until - since >= WORTH:
            told = {} if attempt is None else {"llm_guard.attempt": attempt}
            self._wait(function, since, until, {"llm_guard.wait.for": "retry", **told})

    def _wait(self, function: str, since: float, until: float, attributes: Mapping[str, str | float],
              refused: str | None = None) -> None:
        span = self._tracer.start_span(f"wait {function}", start_time=_wall(since),
                                       attributes={**self._attributes_of(function), **attributes})
        if refused is not None:
            span.set_status(Status(StatusCode.ERROR, refused))
        span.end(_wall(until))

    def _leave(self, call: int) -> None:
        """The span of its attempt is no longer the current one, where it was made so. Another thread, which ends a
        stream, leaves that to this one."""
        found = self._current.get(call)
        if found is not None and found[1] == get_ident():
            del self._current[call]
            context.detach(found[0])


def _wall(at: float) -> int:
    """Nanoseconds since the epoch at that instant of the clock."""
    time = clock.current()
    return int(1e9 * (time.wall() - (time.now() - at)))
