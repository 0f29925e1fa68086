"""Spans and metrics as the SDK's in-memory exporters have them, in virtual time."""

from __future__ import annotations

import inspect
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.trace import SpanKind, StatusCode

from llm_guard import ConfigError, Saturated, bounded, clock, ramp_up, retry, stream, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.events import AttemptEnded, AttemptStarted, CallEnded
from llm_guard.outcome import Kind, Outcome
from llm_guard.telemetry import opentelemetry, opentelemetry_metrics, opentelemetry_spans
from llm_guard.telemetry.opentelemetry import OpenTelemetry

USAGE = {"choices": [{"message": {"content": "4"}}],
         "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}}


class Ended(Exception):
    """A failure."""


def read_end(end: object) -> Outcome | None:
    return Outcome(Kind.OVERLOAD, hint=4.0) if isinstance(end, Ended) else None


class Seen:
    """A provider of each kind, and what came of them."""

    def __init__(self) -> None:
        self.kept = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.kept))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.telemetry = OpenTelemetry(self.tracers, self.meters)

    @property
    def spans(self) -> list[ReadableSpan]:
        return sorted(self.kept.get_finished_spans(), key=lambda span: span.start_time or 0)

    def numbers(self, name: str) -> dict[tuple[tuple[str, Any], ...], Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return {tuple(sorted((point.attributes or {}).items())): point
                for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics
                if metric.name == name for point in metric.data.data_points}

    def close(self) -> None:
        self.telemetry.close()
        self.tracers.shutdown()
        self.meters.shutdown()


@pytest.fixture
def seen() -> Iterator[Seen]:
    found = Seen()
    yield found
    found.close()


def times(span: ReadableSpan, epoch: float) -> tuple[float, float]:
    return round((span.start_time or 0) / 1e9 - epoch, 3), round((span.end_time or 0) / 1e9 - epoch, 3)


def test_attempts_and_waits_are_spans_beneath_the_callers(seen: Seen) -> None:
    ends: list[BaseException | None] = [Ended("a secret prompt"), None]
    limit = bounded(1)

    @limit
    def holds() -> None:
        time.sleep(3)

    @retry(wait=2, jitter=None, classify=read_end)
    @limit
    def ask(prompt: str) -> Any:
        time.sleep(10)
        end = ends.pop(0)
        if end is not None:
            raise end
        return USAGE

    seen.telemetry.watch(ask, model="small", provider="openai")
    with VirtualClock() as time:
        epoch = time.wall()
        time.spawn(holds, "holds")
        time.sleep(1)
        with seen.tracers.get_tracer("test").start_as_current_span("view", start_time=int(1e9 * time.wall())) as view:
            ask("a secret prompt")
            assert trace.get_current_span() is view
    waited, first, backoff, second = (span for span in seen.spans if span.name != "view")
    name = ask.__qualname__
    assert [span.name for span in (waited, first, backoff, second)] == [f"wait {name}", "chat small", f"wait {name}",
                                                                        "chat small"]
    assert {span.parent and span.parent.span_id for span in (waited, first, backoff, second)} == {
        view.get_span_context().span_id}
    assert times(waited, epoch) == (1.0, 3.0)
    assert times(first, epoch) == (3.0, 13.0)
    began, ended = times(backoff, epoch)
    assert began == 13.0
    assert ended == times(second, epoch)[0] >= 17.0
    told = {"llm_guard.function": name, "gen_ai.operation.name": "chat", "gen_ai.request.model": "small",
            "gen_ai.provider.name": "openai"}
    assert first.attributes == {**told, "llm_guard.attempt": 1, "llm_guard.waited": 2.0,
                                "llm_guard.outcome": "overload", "llm_guard.hint": 4.0,
                                "error.type": f"{__name__}.Ended"}
    assert first.status.status_code is StatusCode.ERROR
    assert second.attributes == {**told, "llm_guard.attempt": 2, "llm_guard.waited": 0.0,
                                 "llm_guard.outcome": "success", "gen_ai.usage.input_tokens": 7,
                                 "gen_ai.usage.output_tokens": 2}
    assert second.status.status_code is StatusCode.UNSET
    assert {first.kind, second.kind} == {SpanKind.CLIENT}
    assert waited.attributes == {**told, "llm_guard.attempt": 1, "llm_guard.wait.for": "door"}
    assert backoff.attributes == {**told, "llm_guard.attempt": 2, "llm_guard.wait.for": "retry"}
    assert "secret" not in "".join(span.to_json() for span in seen.spans)


@pytest.mark.parametrize("timed", [False, True], ids=["in this thread", "on a worker"])
def test_what_the_function_makes_stands_beneath_its_attempt(timed: bool, seen: Seen) -> None:
    def ask() -> None:
        with seen.tracers.get_tracer("http").start_as_current_span("POST"):
            clock.current().sleep(1)

    guarded = retry(timeout(60)(ask) if timed else ask)
    seen.telemetry.watch(guarded)
    with VirtualClock():
        before = trace.get_current_span()
        guarded()
        assert trace.get_current_span() is before
    attempt, post = sorted(seen.spans, key=lambda span: span.name != f"chat {guarded.__qualname__}")
    assert post.name == "POST"
    assert post.parent is not None
    assert attempt.context is not None
    assert post.parent.span_id == attempt.context.span_id


@pytest.mark.parametrize("end", ["exhausted", "raises", "dropped"])
@pytest.mark.parametrize("timed", [False, True], ids=["in this thread", "on a worker"])
def test_the_span_of_a_stream_ends_with_it_and_is_current_until_its_first_item(end: str, timed: bool,
                                                                               seen: Seen) -> None:
    current: list[trace.Span] = []

    @bounded(1)
    @stream
    def ask() -> Iterator[str]:
        current.append(trace.get_current_span())
        time.sleep(2)
        yield "a"
        time.sleep(3)
        if end == "raises":
            raise Ended
        yield "b"

    guarded = timeout(60)(ask) if timed else ask
    seen.telemetry.watch(guarded)
    with VirtualClock() as time:
        epoch = time.wall()
        before = trace.get_current_span()
        items = guarded()
        assert trace.get_current_span() is before
        assert not seen.spans
        time.sleep(1)
        if end == "dropped":
            del items
            time.sleep(1)
            guarded.statistics()
        else:
            try:
                list(items)
            except Ended:
                pass
    span, = seen.spans
    assert current[0].get_span_context().span_id == (span.context and span.context.span_id)
    began, ended = times(span, epoch)
    assert began == 0.0
    assert 3.0 <= ended <= 4.0 if end == "dropped" else ended == 6.0
    assert (span.attributes or {})["gen_ai.response.time_to_first_chunk"] == 2.0
    assert (span.attributes or {})["llm_guard.outcome"] == ("failure" if end == "raises" else "success")


def test_the_context_is_the_callers_again_however_a_call_ends(seen: Seen, caplog: pytest.LogCaptureFixture) -> None:
    before = trace.get_current_span()

    def never() -> Iterator[str]:
        raise KeyboardInterrupt
        yield ""

    def late() -> Iterator[str]:
        clock.current().sleep(99)
        yield ""

    def interrupted() -> None:
        raise KeyboardInterrupt

    for function, bound in ((interrupted, None), (never, None), (never, 9), (late, 9), (interrupted, 9)):
        guarded = bounded(1)(function if bound is None else timeout(bound)(function))
        seen.telemetry.watch(guarded)
        with VirtualClock(), pytest.raises((KeyboardInterrupt, TimeoutError)):
            guarded()
        assert trace.get_current_span() is before
    assert not caplog.records
    assert len(seen.spans) == 5


def test_an_end_in_another_thread_leaves_the_callers_context_to_the_caller(seen: Seen,
                                                                          caplog: pytest.LogCaptureFixture) -> None:
    before = trace.get_current_span()
    spans = opentelemetry_spans.Spans(seen.tracers, lambda function: {})
    takers = spans.takers()
    takers[AttemptStarted](7, 1.0, "ask", 1, 0.0)
    other = threading.Thread(target=takers[AttemptEnded],
                             args=(7, 2.0, "ask", 1, Kind.SUCCESS, 1.0, None, None, None, None))
    other.start()
    other.join(5)
    assert len(seen.spans) == 1
    takers[CallEnded](7, 2.0, "ask", 1, Kind.SUCCESS, 1.0)
    assert trace.get_current_span() is before
    assert not caplog.records


def test_a_call_within_a_call_stands_beneath_it(seen: Seen) -> None:
    inner = retry(lambda: None)
    outer = retry(lambda: inner())
    seen.telemetry.watch()
    with VirtualClock():
        outer()
    one, other = (seen.kept.get_finished_spans())
    assert one.parent is not None
    assert one.parent.span_id == (other.context and other.context.span_id)
    assert other.parent is None


def test_a_rejection_is_a_span_of_its_wait(seen: Seen) -> None:
    @bounded(1, max_wait=2)
    def ask() -> None:
        time.sleep(10)

    seen.telemetry.watch(ask)
    with VirtualClock() as time:
        time.spawn(ask, "holds")
        time.sleep(1)
        with pytest.raises(Saturated):
            ask()
        time.sleep(20)
    span = next(span for span in seen.spans if span.name.startswith("wait"))
    assert ((span.end_time or 0) - (span.start_time or 0)) / 1e9 == pytest.approx(2.0)
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["llm_guard.policy"] == "bounded"


def test_metrics_have_the_names_of_the_conventions(seen: Seen) -> None:
    ends: list[BaseException | None] = [Ended(), None]

    def ask() -> Any:
        time.sleep(2)
        end = ends.pop(0)
        if end is not None:
            raise end
        return USAGE

    guarded = ramp_up(retry(classify=read_end)(ask))
    seen.telemetry.watch(guarded, model="small", operation="text_completion")
    with VirtualClock() as time:
        guarded()
        told = (("gen_ai.operation.name", "text_completion"), ("gen_ai.request.model", "small"),
                ("llm_guard.function", guarded.label))
        took = seen.numbers("gen_ai.client.operation.duration")
        assert set(took) == {told, (("error.type", f"{__name__}.Ended"), *told)}
        assert took[told].sum == 2.0
        assert list(took[told].explicit_bounds)[:3] == [0.01, 0.02, 0.04]
        tokens = {dict(key)["gen_ai.token.type"]: point.sum
                  for key, point in seen.numbers("gen_ai.client.token.usage").items()}
        assert tokens == {"input": 7, "output": 2}
        outcomes = {dict(key)["llm_guard.outcome"]: point.value
                    for key, point in seen.numbers("llm_guard.attempts").items()}
        assert outcomes == {"overload": 1, "success": 1}
        assert seen.numbers("llm_guard.in_flight")[told].value == 0
        assert seen.numbers("llm_guard.call.duration")[told].count == 1
        states = {dict(key)["llm_guard.state"]: point.value for key, point in seen.numbers("llm_guard.state").items()}
        assert [state for state, held in states.items() if held] == ["steady"]
        seen.telemetry.close()
        assert not seen.numbers("llm_guard.state")


def test_nothing_of_generative_ai_is_said_where_it_is_none(seen: Seen) -> None:
    guarded = retry(lambda: None)
    seen.telemetry.watch(guarded, operation=None)
    with VirtualClock():
        guarded()
    assert not [name for name in seen.spans[0].attributes or {} if name.startswith("gen_ai")]
    assert seen.spans[0].name == f"call {guarded.label}"
    assert not seen.numbers("gen_ai.client.operation.duration")
    assert seen.numbers("llm_guard.calls")


@pytest.mark.parametrize("module", [opentelemetry, opentelemetry_spans, opentelemetry_metrics],
                         ids=["both", "spans", "metrics"])
def test_every_name_of_the_conventions_is_one(module: Any) -> None:
    known = {value for names in (gen_ai_attributes, gen_ai_metrics, error_attributes)
             for value in vars(names).values() if isinstance(value, str)}
    used = {part for part in inspect.getsource(module).split('"') if part.startswith(("gen_ai.", "error."))}
    assert used
    assert used <= known


def test_spans_or_metrics_alone(seen: Seen) -> None:
    ask = retry(lambda: None)
    with OpenTelemetry(False, seen.meters).watch(ask), VirtualClock():
        ask()
    assert not seen.spans
    with OpenTelemetry(seen.tracers, False).watch(ask), VirtualClock():
        ask()
    assert len(seen.spans) == 1


def test_an_exporter_that_raises_fails_no_call(seen: Seen, caplog: pytest.LogCaptureFixture,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    ask = retry(lambda: "answer")
    seen.telemetry.watch(ask)

    def broken(*args: object, **named: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("opentelemetry.sdk.trace.Tracer.start_span", broken)
    with VirtualClock(), caplog.at_level(logging.DEBUG, "llm_guard"):
        assert ask() == ask() == "answer"
    assert [record.getMessage() for record in caplog.records] == [
        "opentelemetry telemetry raised RuntimeError; it goes on, and says so once"]


@pytest.mark.parametrize(("options", "parameter"), [
    ({"model": ""}, "model"), ({"operation": 3}, "operation"), ({"operation": None, "model": "m"}, "operation")],
    ids=["model", "operation", "a model of no operation"])
def test_what_cannot_work_is_said_at_once(options: dict[str, Any], parameter: str) -> None:
    with pytest.raises(ConfigError, match=f"{parameter}="):
        OpenTelemetry(False, False).watch(retry(lambda: None), **options)


def test_what_is_no_provider_is_refused() -> None:
    with pytest.raises(ConfigError, match="tracer_provider="):
        OpenTelemetry(object())  # type: ignore[arg-type]


def test_a_missing_library_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(ImportError, match=r"pip install 'llm-guard-flow\[opentelemetry\]'"):
        OpenTelemetry()
