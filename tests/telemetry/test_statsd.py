"""What StatsD is sent, over a real socket where that matters, else by a client that keeps it."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import statsd

from llm_guard import ConfigError, Saturated, bounded, ramp_up, retry
from llm_guard.clock.virtual import VirtualClock
from llm_guard.outcome import Kind, Outcome
from llm_guard.telemetry.statsd import StatsD


class Ended(Exception):
    """A failure."""


class Kept(statsd.StatsClient):  # type: ignore[misc]  # without types
    """Keeps what it would send."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1", 9)
        self.sent: list[str] = []

    def _send(self, data: str) -> None:
        self.sent.append(data)


@pytest.fixture
def client() -> Kept:
    return Kept()


def calls(exporter: StatsD) -> None:
    """A call with a failed attempt, then one that is rejected."""
    ends = [Ended("a secret prompt"), None]

    def ask(prompt: str) -> None:
        time.sleep(2)
        end = ends.pop(0)
        if end is not None:
            raise end

    ask.__qualname__ = "Client.ask<x>"
    limit = bounded(1, max_wait=0)
    guarded = retry(wait=1, jitter=None, classify=_read)(limit(ask))
    with VirtualClock() as time, exporter.watch(guarded):
        guarded("a secret prompt")
        limit.n = 1
        time.sleep(5)


def _read(end: object) -> Outcome | None:
    return Outcome(Kind.FAILURE) if isinstance(end, Ended) else None


def test_names_say_it_all(client: Kept) -> None:
    calls(StatsD(client=client))
    name = "llm_guard.Client_ask_x"
    assert {line for line in client.sent if not line.endswith("|g")} == {
        f"{name}.wait:0.000000|ms", f"{name}.attempts.failure:1|c", f"{name}.attempt.failure:2000.000000|ms",
        f"{name}.retries.failure:1|c", f"{name}.attempts.success:1|c", f"{name}.attempt.success:2000.000000|ms",
        f"{name}.calls.success:1|c", f"{name}.call:5000.000000|ms"}
    assert f"{name}.bounded_limit:1|g" in client.sent
    assert f"{name}.waiting.bounded:0|g" in client.sent


def test_tags_say_what_tells_series_apart(client: Kept) -> None:
    calls(StatsD(client=client, prefix="llm.", tags=True))
    tag = "|#function:Client.ask_x_"
    sent = set(client.sent)
    assert {f"llm.attempts:1|c{tag},kind:failure", f"llm.attempt:2000.000000|ms{tag},kind:success",
            f"llm.calls:1|c{tag},outcome:success", f"llm.wait:0.000000|ms{tag}",
            f"llm.waiting:0|g{tag},policy:bounded"} <= sent
    assert all(re.fullmatch(r"llm\.[a-z_]+:[\d.e+-]+\|(c|ms|g)\|#[\w:.,/-]+", line) for line in sent)


def test_rejections_and_gauges_follow_while_something_happens(client: Kept) -> None:
    limit = bounded(1, max_wait=0)

    @limit
    def ask() -> None:
        time.sleep(10)

    ask.label = "ask"
    with VirtualClock() as time, StatsD(client=client, prefix=None).watch(ask):
        time.spawn(ask, "asks")
        time.sleep(3)
        with pytest.raises(Saturated):
            ask()
        time.sleep(0.5)
        assert client.sent[1:4] == ["ask.rejected.bounded:1|c", "ask.calls.not_started:1|c", "ask.call:0.000000|ms"]
        assert client.sent[4:] == ["ask.bounded_limit:1|g", "ask.waiting.bounded:0|g"]
        with pytest.raises(Saturated):
            ask()
        limit.n = 5
        assert "ask.bounded_limit:5|g" not in client.sent
        time.sleep(1)
        assert "ask.bounded_limit:5|g" in client.sent
        count = len(client.sent)
        time.sleep(2)
        assert len(client.sent) == count  # nothing happens, so nothing is sent
        time.sleep(20)


def test_infinite_rates_are_left_out_and_states_are_numbers(client: Kept, caplog: pytest.LogCaptureFixture) -> None:
    ask = ramp_up(lambda: None)
    ask.label = "ask"
    with VirtualClock() as time, StatsD(client=client).watch(ask):
        ask()
        time.sleep(2)
    assert "llm_guard.ask.state.ramp_up.ramping:1|g" in client.sent
    assert "llm_guard.ask.state.ramp_up.cold:0|g" in client.sent
    assert not [line for line in client.sent if "pace_rate" in line or "inf" in line]
    assert [line for line in client.sent if line.startswith("llm_guard.ask.pace_window:")]
    assert not [record for record in caplog.records if "telemetry" in record.getMessage()]


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(5)
        yield listening


@pytest.mark.real
@pytest.mark.parametrize("tags", [False, True], ids=["names", "tags"])
def test_datagrams_arrive(server: socket.socket, tags: bool) -> None:
    ask = bounded(2)(lambda: None)
    ask.label = "ask"
    with StatsD("127.0.0.1", server.getsockname()[1], tags=tags).watch(ask):
        ask()
        arrived = []
        while len(arrived) < 5:
            line = server.recv(1024).decode()
            if "|g" not in line:  # gauges come on their own, from the alarm's thread
                arrived.append(line)
    names = [line.split(":")[0] for line in arrived]
    if tags:
        assert names == [f"llm_guard.{name}" for name in ("wait", "attempts", "attempt", "calls", "call")]
        assert arrived[1] == "llm_guard.attempts:1|c|#function:ask,kind:success"
    else:
        assert names == [f"llm_guard.ask.{name}" for name in ("wait", "attempts.success", "attempt.success",
                                                               "calls.success", "call")]


@pytest.mark.real
def test_nobody_there_fails_no_call(caplog: pytest.LogCaptureFixture) -> None:
    ask = bounded(2)(lambda: "answer")
    with StatsD("127.0.0.1", 9).watch(ask):
        assert [ask() for _ in range(5)] == ["answer"] * 5
    assert not caplog.records


def test_a_client_that_raises_fails_no_call_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def incr(self, name: str, count: float = 1) -> None:
            raise ValueError("a secret")

        timing = gauge = incr

    ask = bounded(2)(lambda: "answer")
    with VirtualClock(), StatsD(client=Broken()).watch(ask):
        assert [ask() for _ in range(5)] == ["answer"] * 5
    assert [record.getMessage() for record in caplog.records] == [
        "statsd telemetry raised ValueError; it goes on, and says so once"]


@pytest.mark.parametrize(("options", "parameter"), [
    ({"client": object()}, "client"), ({"prefix": 3}, "prefix"), ({"host": ""}, "host"), ({"port": 0}, "port"),
    ({"port": "8125"}, "port"),
    ({"client": type("Own", (), dict.fromkeys(("incr", "timing", "gauge"), print))(), "tags": True}, "client"),
], ids=["no client", "prefix", "host", "port", "port as text", "a client that has no tags"])
def test_what_cannot_work_is_said_at_once(options: dict[str, Any], parameter: str) -> None:
    with pytest.raises(ConfigError, match=f"^{parameter}="):
        StatsD(**options)


def test_a_missing_client_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsd", None)
    with pytest.raises(ImportError, match=r"pip install 'llm-guard-flow\[statsd\]'"):
        StatsD()
