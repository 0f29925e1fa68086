"""Answers of the virtual server that come token by token, and callers that go away."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace

import pytest
from at_once import in_threads

from llm_guard.clock.virtual import VirtualClock
from llm_guard.testing.server import SCENARIOS, Scenario
from llm_guard.testing.server.settings import BucketLimit, Load, WarmUp
from llm_guard.testing.tokens import FIRST_TOKEN, instants, tokens_of
from llm_guard.testing.virtual_server import (
    Answer,
    CallerGone,
    ServerFailed,
    ServerRefused,
    VirtualServer,
)

STEADY = Scenario("steady", slots=1, median=1.0, sigma=0.0)
PROMPT = "one two three"  # answered in four tokens


def all_at_once(clock: VirtualClock, works: list[Callable[[], object]]) -> None:
    in_threads(clock, len(works), lambda index: works[index]())


def timed(clock: VirtualClock, server: VirtualServer, prompt: str, **options: int) -> list[tuple[float, str]]:
    return [(round(clock.now(), 3), token) for token in server.stream(prompt, **options)]


@pytest.mark.parametrize("text", ["echo: one two", "echo: ", " a\n\n b\tc ", "x", "grüße 🙂 \ud800"])
def test_tokens_joined_are_the_text(text: str) -> None:
    assert "".join(tokens_of(text)) == text


def test_tokens_come_evenly_over_the_time_of_the_work() -> None:
    with VirtualClock() as clock:
        server = VirtualServer(STEADY, speed=2)
        clock.sleep(10.0)
        found = timed(clock, server, PROMPT)
        assert found == [(10.125, "echo:"), (10.25, " one"), (10.375, " two"), (10.5, " three")]
        assert server.stats().successes == 1
    assert [*instants(0.0, 1.0, 2), 1.0] == [FIRST_TOKEN, 1.0]
    assert list(instants(0.0, 1.0, 1)) == []  # the only one comes at the end


def test_who_is_queued_gets_the_first_token_when_it_is_at_last_worked_on() -> None:
    with VirtualClock() as clock:
        server = VirtualServer(STEADY)
        found: dict[str, list[tuple[float, str]]] = {}
        all_at_once(clock, [lambda name=name: found.update({name: timed(clock, server, name)})  # type: ignore[misc]
                           for name in "abc"])
    assert [found[name][0][0] for name in "abc"] == [0.25, 1.251, 2.252]
    assert [found[name][-1] for name in "abc"] == [(1.0, " a"), (2.001, " b"), (3.002, " c")]


def test_streams_and_calls_share_one_server_and_take_as_long() -> None:
    with VirtualClock() as clock:
        server = VirtualServer(replace(SCENARIOS["E"], noise=0.0), 3)
        took = []
        for whole in (True, False):
            start = clock.now()
            works: list[Callable[[], object]] = [
                (lambda item=item: server.call(item)) if whole or item % 2 else  # type: ignore[misc]
                (lambda item=item: list(server.stream(item))) for item in range(200)]
            all_at_once(clock, works)
            took.append(clock.now() - start)
        assert server.stats().successes == 400
        assert took[1] == pytest.approx(took[0], rel=0.15)  # other draws of the same chance


def test_while_a_stream_delivers_another_caller_keeps_the_time() -> None:
    with VirtualClock() as clock:
        # Both are held while it loads, and the first one is served slowly.
        server = VirtualServer(replace(STEADY, slots=2, load=Load(5.0, spread=0.0, holds=9), warm_up=WarmUp(1)))
        ends: dict[str, float] = {}

        def streams() -> None:
            for _ in server.stream(PROMPT):
                ends["stream"] = clock.now()

        def calls() -> None:
            clock.sleep(0.1)
            server.call("x")
            ends["call"] = clock.now()

        all_at_once(clock, [streams, calls])
    assert ends["stream"] == pytest.approx(15.0)
    assert ends["call"] == pytest.approx(6.06, abs=0.01)


def test_a_refusal_comes_before_the_first_token() -> None:
    with VirtualClock():
        server = VirtualServer("A")
        with pytest.raises(ServerRefused) as refused:
            next(server.stream(PROMPT))
        assert refused.value.hint is not None


def test_failures_come_before_the_first_token_or_in_the_midst_at_the_end_of_the_work() -> None:
    heard = set()
    with VirtualClock() as clock:
        server = VirtualServer(replace(STEADY, noise=0.999999))
        for _ in range(20):
            start, tokens = clock.now(), list[str]()
            with pytest.raises(ServerFailed):
                tokens.extend(server.stream(PROMPT))
            assert clock.now() - start == pytest.approx(1.0, abs=0.002)
            heard.add("".join(tokens))
        assert server.stats().failures == 20
    assert heard == {"", "echo: one"}


def test_no_more_tokens_come_than_were_asked_for() -> None:
    with VirtualClock() as clock:
        found = timed(clock, VirtualServer(STEADY), PROMPT, most=2)
    assert found == [(0.25, "echo:"), (1.0, " one")]


@pytest.mark.parametrize("most", [1, None])
def test_the_first_token_tells_what_is_left(most: int | None) -> None:
    with VirtualClock():
        server = VirtualServer(replace(STEADY, limit=BucketLimit(1.0, 5.0, remaining=True)))
        first, *others = server.stream(PROMPT, most=most)
    assert isinstance(first, Answer)
    assert first.remaining == 4 if most is None else 5  # after a second the bucket is full again
    assert not any(isinstance(token, Answer) for token in others)


@pytest.mark.parametrize("tokens", [1, 3])
def test_a_stream_that_is_closed_frees_its_slot_at_once(tokens: int) -> None:
    with VirtualClock() as clock:
        server = VirtualServer(STEADY)
        ends: dict[str, float] = {}

        def quits() -> None:
            stream = server.stream(PROMPT)
            for _ in range(tokens):
                next(stream)
            stream.close()
            ends["quits"] = clock.now()

        def waits() -> None:
            clock.sleep(0.1)
            for token in server.stream("x"):
                ends[token] = clock.now()

        all_at_once(clock, [quits, waits])
        stats = server.stats()
        assert (stats.in_flight, stats.abandoned, stats.successes) == (0, 1, 1)
    assert ends["quits"] == {1: 0.25, 3: 0.75}[tokens]
    assert ends["echo:"] == pytest.approx(ends["quits"] + 0.251)
    assert ends[" x"] == pytest.approx(ends["quits"] + 1.001)


def test_a_stream_dropped_in_the_midst_of_another_call_s_business_is_cleared_by_the_next() -> None:
    with VirtualClock():
        server = VirtualServer(STEADY)
        stream = server.stream(PROMPT)
        next(stream)
        with server._lock:  # as where the collector runs inside
            del stream
            gc.collect()
        assert server.stats().abandoned == 1


def test_the_call_of_a_caller_that_is_gone_is_dropped_queued_or_not() -> None:
    with VirtualClock() as clock:
        server = VirtualServer(STEADY)

        def leaves(prompt: str, stream: bool) -> None:
            def gone() -> bool:
                return clock.now() > 0.5

            with pytest.raises(CallerGone):
                _ = next(server.stream(prompt, gone=gone)) if stream else server.call(prompt, gone=gone)

        def stays() -> None:
            clock.sleep(0.1)
            server.call("x")

        all_at_once(clock, [lambda: leaves("worked on", False), lambda: leaves("queued", False),
                           lambda: leaves("stream", True), stays])
        stats = server.stats()
        assert (stats.in_flight, stats.abandoned, stats.successes) == (0, 3, 1)
        assert clock.now() < 1.6  # the slot was free within 0.05 s
