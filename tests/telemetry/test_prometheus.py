"""What Prometheus is told of calls, in virtual time, and that no trouble with it reaches a call."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from llm_guard import ConfigError, bounded, breaker, clock, events, ramp_up, retry, timeout
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind, Outcome
from llm_guard.telemetry.prometheus import Prometheus


class Ended(Exception):
    def __init__(self, kind: Kind) -> None:
        super().__init__("a secret prompt")
        self.kind = kind


def read(end: object) -> Outcome | None:
    return Outcome(end.kind) if isinstance(end, Ended) else None


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def watching(registry: CollectorRegistry) -> Iterator[Prometheus]:
    with Prometheus(registry) as exporter:
        yield exporter


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"llm_guard_{name}", labels)


def test_attempts_calls_and_waits_are_counted(registry: CollectorRegistry, watching: Prometheus) -> None:
    ends = [Kind.FAILURE, Kind.LIMITED, Kind.SUCCESS, Kind.INVALID]

    def ask() -> str:
        time.sleep(3)
        kind = ends.pop(0)
        if kind is not Kind.SUCCESS:
            raise Ended(kind)
        return "answer"

    ask.__qualname__ = "ask"
    guarded = retry(wait=2, jitter=None, classify=read)(ask)
    watching.watch(guarded)
    with VirtualClock() as time:
        guarded()
        took = time.now()
        with pytest.raises(Ended):
            guarded()
    for kind, count in (("failure", 1), ("limited", 1), ("success", 1), ("invalid", 1)):
        assert value(registry, "attempts_total", function="ask", kind=kind) == count
        assert value(registry, "attempt_seconds_count", function="ask", kind=kind) == count
        assert value(registry, "attempt_seconds_sum", function="ask", kind=kind) == pytest.approx(3.0)
    assert value(registry, "attempt_seconds_bucket", function="ask", kind="success", le="2.5") == 0
    assert value(registry, "attempt_seconds_bucket", function="ask", kind="success", le="5.0") == 1
    assert value(registry, "retries_total", function="ask", kind="failure") == 1
    assert value(registry, "retries_total", function="ask", kind="limited") == 1
    assert value(registry, "calls_total", function="ask", outcome="success") == 1
    assert value(registry, "calls_total", function="ask", outcome="invalid") == 1
    assert value(registry, "call_seconds_count", function="ask") == 2
    assert value(registry, "call_seconds_sum", function="ask") == pytest.approx(took + 3)
    assert value(registry, "wait_seconds_count", function="ask") == 4
    assert value(registry, "in_flight", function="ask") == 0


def test_what_never_started_and_what_waits_shows(registry: CollectorRegistry, watching: Prometheus) -> None:
    limit = bounded(1, max_wait=5)

    @limit
    def ask() -> None:
        time.sleep(20)

    name = ask.__qualname__
    watching.watch()
    with VirtualClock() as time:
        for _ in range(3):
            time.spawn(_quietly(ask), "asks")
        time.sleep(1)
        assert value(registry, "in_flight", function=name) == 1
        assert value(registry, "waiting", function=name, policy="bounded") == 2
        assert value(registry, "bounded_limit", function=name) == 1
        time.sleep(10)
        assert value(registry, "waiting", function=name, policy="bounded") == 0
        assert value(registry, "rejected_total", function=name, policy="bounded") == 2
        assert value(registry, "calls_total", function=name, outcome="not_started") == 2
        assert value(registry, "calls_total", function=name, outcome="success") == 0
        time.sleep(20)
    assert value(registry, "in_flight", function=name) == 0
    assert value(registry, "calls_total", function=name, outcome="success") == 1


def test_the_states_of_policies_show_at_each_scrape(registry: CollectorRegistry, watching: Prometheus) -> None:
    pace, votes = ramp_up(), breaker(open_for=30)
    ask = pace(votes(timeout(5)(lambda: None)))
    name = ask.__qualname__
    watching.watch(ask)

    def states(policy: str) -> set[str]:
        found = {sample.labels["state"]: sample.value for metric in registry.collect() for sample in metric.samples
                 if sample.name == "llm_guard_state" and sample.labels["policy"] == policy}
        assert set(found.values()) <= {0.0, 1.0}
        return {state for state, held in found.items() if held}

    with VirtualClock() as time:
        assert states("ramp_up") == {"cold"}
        assert value(registry, "pace_rate", function=name) == math.inf
        ask()
        assert states("ramp_up") == {"ramping"}
        assert value(registry, "pace_window", function=name)
        pace.pause(60)
        assert states("ramp_up") == {"paused"}
        votes.open()
        assert states("breaker") == {"open"}
        time.sleep(31)
        assert states("breaker") == {"half_open"}
        pace.ceiling = 3
        assert value(registry, "pace_rate", function=name) == 3
        assert value(registry, "still_running", function=name) == 0


def test_the_first_item_and_the_end_of_a_stream_are_told(registry: CollectorRegistry, watching: Prometheus) -> None:
    @retry
    def ask() -> Iterator[str]:
        time.sleep(2)
        yield "a"
        time.sleep(7)
        yield "b"

    name = ask.__qualname__
    watching.watch(ask)
    with VirtualClock() as time:
        items = ask()
        assert value(registry, "in_flight", function=name) == 1
        assert value(registry, "first_item_seconds_sum", function=name) == 2
        list(items)
    assert value(registry, "in_flight", function=name) == 0
    assert value(registry, "attempt_seconds_sum", function=name, kind="success") == 9


def test_tokens_are_counted_where_answers_tell_them(registry: CollectorRegistry, watching: Prometheus) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    ask = ramp_up(lambda: {"choices": [{"message": {"content": "4"}}], "usage": usage})
    watching.watch(ask)
    with VirtualClock():
        ask()
        ask()
    assert value(registry, "tokens_total", function=ask.__qualname__, direction="output") == 4
    assert value(registry, "tokens_total", function=ask.__qualname__, direction="input") == 14


def test_a_call_is_counted_from_its_start_to_its_end_or_not_at_all(registry: CollectorRegistry) -> None:
    exporter = Prometheus(registry)

    @bounded(9)
    def ask() -> None:
        clock.current().sleep(10)

    name = ask.__qualname__
    off = ask.on_event(lambda event: None)  # so that events are told already
    with VirtualClock() as time:
        time.spawn(ask, "begins before it is watched")
        time.sleep(5)
        exporter.watch(ask)
        time.spawn(ask, "is watched")
        time.sleep(6)
        assert value(registry, "in_flight", function=name) == 1
        exporter.close()
        time.spawn(ask, "begins after that")
        time.sleep(20)
    off()
    assert value(registry, "in_flight", function=name) == 0
    assert value(registry, "calls_total", function=name, outcome="success") == 1


def test_no_payload_and_a_bounded_number_of_series(registry: CollectorRegistry, watching: Prometheus) -> None:
    ask = ramp_up(key="tenant")(retry(attempts=2, classify=read)(_fails))
    watching.watch(ask)
    lengths = []
    with VirtualClock():
        for number in range(40):
            with pytest.raises(Ended):
                ask("a secret prompt", tenant=f"secret tenant {number}")
            lengths.append(len(generate_latest(registry).splitlines()))
    assert lengths[5:] == [lengths[5]] * 35
    assert b"secret" not in generate_latest(registry)


def test_methods_and_functions_of_one_name_are_added_up(registry: CollectorRegistry, watching: Prometheus) -> None:
    def made(limit: int) -> Any:
        @bounded(limit)
        def ask() -> None: ...

        return ask

    class Client:
        @bounded(4)
        def ask(self) -> None: ...

    one, other = made(1), made(2)
    watching.watch(one, other, Client().ask)
    with VirtualClock():
        one()
        other()
        Client().ask()
    assert value(registry, "bounded_limit", function=one.__qualname__) == 3
    assert value(registry, "calls_total", function=one.__qualname__, outcome="success") == 2
    assert value(registry, "calls_total", function=Client.ask.__qualname__, outcome="success") == 1


def test_a_client_that_fails_fails_no_call_and_is_said_once(registry: CollectorRegistry, watching: Prometheus,
                                                            caplog: pytest.LogCaptureFixture,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    ask = retry(lambda: "answer")
    watching.watch(ask)
    with VirtualClock(), caplog.at_level(logging.DEBUG):
        ask()

        def full(self: object, amount: float) -> None:
            raise OSError("no space left for a secret")

        monkeypatch.setattr("prometheus_client.values.MutexValue.inc", full)
        assert ask() == ask() == "answer"
        monkeypatch.undo()
        assert ask() == "answer"
    assert [record.getMessage() for record in caplog.records] == [
        "prometheus telemetry raised OSError; it goes on, and says so once"]
    assert value(registry, "calls_total", function=ask.__qualname__, outcome="success") == 2


def test_everything_that_is_wrong_is_said_at_once(registry: CollectorRegistry, watching: Prometheus) -> None:
    with pytest.raises(ConfigError, match="prefix"):
        Prometheus(registry)
    with pytest.raises(ConfigError, match="prefix"):
        Prometheus(registry, prefix="not a name")
    for wrong in ([3.0, 1.0], [], ["x"]):
        with pytest.raises(ConfigError, match="buckets"):
            Prometheus(CollectorRegistry(), buckets=wrong)
    with pytest.raises(ConfigError, match="guarded functions"):
        watching.watch(print)  # type: ignore[arg-type]
    ask = retry(lambda: None)
    watching.watch(ask)
    for again in ((ask,), ()):
        with pytest.raises(ConfigError, match="already"):
            watching.watch(*again)
    watching.close()
    watching.watch()
    with pytest.raises(ConfigError, match="already"):
        watching.watch(ask)
    watching.close()
    watching.close()
    assert not events.everywhere


def test_a_missing_client_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ImportError, match=r"pip install 'llm-guard-flow\[prometheus\]'"):
        Prometheus()


def test_gauges_that_processes_share_follow_what_happens(registry: CollectorRegistry, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))  # the client itself looked before
    ask = ramp_up(bounded(1, max_wait=3)(lambda: time.sleep(9)))
    name = ask.label

    def state(of: str) -> float | None:
        return value(registry, "state", function=name, policy="ramp_up", state=of)

    with VirtualClock() as time, Prometheus(registry).watch(ask):
        time.spawn(ask, "asks")
        time.sleep(0.1)
        assert value(registry, "in_flight", function=name) == 1
        assert (state("cold"), state("steady"), state("ramping")) == (1, 0, 0)
        time.sleep(2)
        time.spawn(_quietly(ask), "is refused")
        time.sleep(3.5)
        assert value(registry, "rejected_total", function=name, policy="bounded") == 1
        time.sleep(6)
        assert value(registry, "in_flight", function=name) == 0
        assert state("cold") == 0


@pytest.mark.real
def test_processes_that_share_a_directory_are_added_up(tmp_path: Path) -> None:
    code = """
import os, sys, threading
from llm_guard import bounded, clock
from llm_guard.telemetry.prometheus import Prometheus
limit = bounded(4)
@limit
def ask(go):
    go.wait(20)
Prometheus().watch(ask)
free, stuck = threading.Event(), threading.Event()
free.set()
for _ in range(3):
    ask(free)
for _ in range(2):
    threading.Thread(target=ask, args=(stuck,), daemon=True).start()
clock.current().sleep(1.2)
os.kill(os.getpid(), 9)
"""
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PATH": ""}
    root = Path(__file__).parent.parent.parent
    children = [subprocess.Popen([sys.executable, "-c", code], cwd=root, env=environ) for _ in range(2)]
    assert [child.wait(20) for child in children] == [-9, -9]
    from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(tmp_path))  # type: ignore[no-untyped-call]
    assert value(registry, "calls_total", function="ask", outcome="success") == 6
    assert value(registry, "in_flight", function="ask") == 4
    assert value(registry, "bounded_limit", function="ask") == 8
    for child in children:
        mark_process_dead(child.pid, str(tmp_path))  # type: ignore[no-untyped-call]
    assert value(registry, "calls_total", function="ask", outcome="success") == 6
    assert value(registry, "in_flight", function="ask") is None
    assert value(registry, "bounded_limit", function="ask") is None


def _fails(prompt: str, tenant: str) -> None:
    raise Ended(Kind.FAILURE)


def _quietly(ask: Any) -> Any:
    def call() -> None:
        try:
            ask()
        except Exception:
            pass
    return call
