"""The server over HTTP: real sockets, at high speed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPConnection, RemoteDisconnected
from typing import Any

import pytest
import requests

from llm_guard.errors import ConfigError
from llm_guard.llm import outcome_of
from llm_guard.llm.limits import both_in
from llm_guard.outcome import Kind, Outcome
from llm_guard.testing.cold_server import ColdServer, cold_server
from llm_guard.testing.cold_server.dialects import OpenAI
from llm_guard.testing.server import SCENARIOS, Scenario
from llm_guard.testing.server.settings import BucketLimit, GrowthLimit, Load, Quota, Spell, WindowLimit

pytestmark = pytest.mark.real

QUICK = Scenario("quick", slots=8, median=0.05, sigma=0.0)
HF = "/models/org/model"
CHAT = "/v1/chat/completions"


class Client:
    """One kept-alive connection."""

    def __init__(self, server: ColdServer) -> None:
        self.http = HTTPConnection(server.url.removeprefix("http://"), timeout=10)

    def send(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        self.http.request(method, path, raw, headers)
        response = self.http.getresponse()
        return response.status, json.loads(response.read()), dict(response.headers)

    def ask(self, prompt: str) -> tuple[int, Any, dict[str, str]]:
        return self.send("POST", HF, {"inputs": prompt})

    def chat(self, content: object, **more: object) -> tuple[int, Any, dict[str, str]]:
        return self.send("POST", CHAT, {"model": "m", "messages": [{"role": "user", "content": content}], **more})


@pytest.fixture
def client() -> Iterator[Client]:
    with cold_server(QUICK, speed=50, mixed_shapes=False) as server:
        yield Client(server)


def test_it_is_cold_then_answers_everyone_and_its_counts_add_up() -> None:
    items = [f"prompt {item}" for item in range(200)]
    with cold_server(replace(SCENARIOS["A"], noise=0.1), speed=50) as server:
        status, body, _ = Client(server).ask("first")
        assert status == 503
        assert body["error"] == "Model org/model is currently loading"
        assert 0 < body["estimated_time"] < 2 * 22 / 50
        assert "estimated_time" not in json.dumps(server.stats())

        seen: list[int] = [status]

        def until_answered(client: Client, prompt: str) -> str:
            while True:
                status, body, _ = client.ask(prompt)
                seen.append(status)
                if status == 200:
                    return json.dumps(body)

        def worker(share: list[str]) -> list[str]:
            client = Client(server)
            return [until_answered(client, prompt) for prompt in share]

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(worker, [items[start::16] for start in range(16)]))
        for start, share in enumerate(answers):
            for prompt, answer in zip(items[start::16], share, strict=True):
                assert f'"echo: {prompt}"' in answer
        stats: Any = server.stats(timeline=True)
    assert stats["calls"] == len(seen)
    assert stats["successes"] == seen.count(200) == 200
    assert stats["failures"] == seen.count(500) > 0
    assert stats["refusals"]["loading"] == seen.count(503)
    assert stats["refusals"]["overload"] == seen.count(429)
    assert stats["in_flight"] == 0
    assert 8 <= stats["peak_in_flight"] <= 16
    assert sum(answered for _, _, answered, _ in stats["timeline"]) == 200
    assert stats["seconds"] >= stats["timeline"][-1][0]


def test_a_connection_is_kept_alive_through_answers_and_complaints(client: Client) -> None:
    assert client.ask("one")[:2] == (200, [{"generated_text": "echo: one"}])
    socket = client.http.sock
    assert client.send("POST", HF, b"{")[0] == 400
    assert client.send("POST", HF, {"prompt": "no inputs"})[0] == 422
    assert client.send("GET", "/nothing")[:2] == (404, {"error": "Not Found"})
    assert client.send("POST", "/models/", {"inputs": "x"})[0] == 404
    assert client.send("GET", HF)[0] == 405
    assert client.chat("two")[1]["choices"][0]["message"]["content"] == "echo: two"
    status, stats, _ = client.send("GET", "/stats")
    assert status == 200
    assert stats["calls"] == stats["successes"] == 2  # the malformed ones never reached the model
    assert "timeline" not in stats
    assert client.send("GET", "/stats?timeline=1")[1]["timeline"]
    assert client.http.sock is socket


@pytest.mark.parametrize(("body", "status"), [
    (b"", 400), (b"\xff\xfe\x00", 400), (b"[" * 100_000, 400), (["x"], 422), ({"inputs": 3}, 422), (None, 400),
    ({"inputs": "x" * (1 << 20)}, 413),
])
def test_malformed_requests_are_refused_in_json(client: Client, body: object, status: int) -> None:
    found, reply, _ = client.send("POST", HF, body)
    assert found == status
    assert isinstance(reply["error"], str)
    assert client.ask("still there")[0] == 200


@pytest.mark.parametrize("headers", [{"Content-Length": "-1"}, {"Content-Length": "1_0"},
                                     {"Transfer-Encoding": "chunked"}])
def test_a_body_of_unknown_length_ends_the_connection(client: Client, headers: dict[str, str]) -> None:
    status, _, replied = client.send("POST", HF, None, **headers)
    assert status in (400, 411)
    assert replied["Connection"] == "close"


@pytest.mark.parametrize("body", [
    {}, [], {"model": "m"}, {"model": "m", "messages": []}, {"model": "m", "messages": [{"role": "user"}]},
    {"messages": [{"role": "user", "content": "x"}]}, {"model": "m", "messages": [3]},
    {"model": "m", "max_tokens": 0, "messages": [{"role": "user", "content": "x"}]},
])
def test_malformed_chats_are_refused_as_the_chat_api_does(client: Client, body: object) -> None:
    status, reply, _ = client.send("POST", CHAT, body)
    assert status == 400
    assert reply["error"]["type"] == "invalid_request_error"


def test_a_chat_may_come_in_parts_and_any_text_is_answered(client: Client) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]
    assert client.chat(parts)[1]["choices"][0]["message"]["content"] == "echo: ab"
    for prompt in ("", "grüße 🙂", "\ud800"):
        assert client.ask(prompt)[1] == [{"generated_text": f"echo: {prompt}"}]
        assert client.chat(prompt)[1]["choices"][0]["message"]["content"] == f"echo: {prompt}"


def test_the_text_stands_in_different_places() -> None:
    with cold_server(QUICK, speed=50) as server:
        client = Client(server)
        shapes = {json.dumps(client.ask(f"p{item:02}")[1]).replace(f"echo: p{item:02}", "") for item in range(40)}
    assert len(shapes) == 5


def test_refusals_are_worded_as_each_api_does() -> None:
    limited = replace(QUICK, limit=BucketLimit(rate=0.5, burst=1.0))
    with cold_server(limited, speed=1) as server:
        client = Client(server)
        client.ask("x")
        status, body, headers = client.ask("x")
        assert (status, body) == (429, {"error": "Rate limit reached"})
        assert 0 < float(headers["Retry-After"]) <= 2.0
        status, body, _ = client.chat("x")
        assert (status, body["error"]["code"]) == (429, "rate_limit_exceeded")
    with cold_server(replace(QUICK, growth=GrowthLimit(least=0.0)), speed=50) as server:
        status, body, headers = Client(server).chat("x")
        assert (status, body["error"]["code"]) == (429, "slow_down")
        assert "Retry-After" not in headers
        assert Client(server).ask("x")[:2] == (429, {"error": "Rate limit reached"})
    with cold_server(replace(QUICK, load=Load(1000.0, estimate_absent=1.0)), speed=1) as server:
        assert Client(server).ask("x")[:2] == (503, {"error": "Model org/model is currently loading"})
        assert Client(server).chat("x")[1]["error"]["message"] == "Loading model"


def test_a_used_up_quota_is_worded_as_each_api_does() -> None:
    with cold_server(replace(QUICK, quota=Quota(1, retry_after=100.0)), speed=50) as server:
        client = Client(server)
        assert client.ask("x")[0] == 200
        status, body, headers = client.chat("x")
        assert (status, body["error"]["type"], body["error"]["code"]) == (429, *["insufficient_quota"] * 2)
        assert headers["Retry-After"] == "2"
        assert client.ask("x")[0] == 402
        assert server.stats()["refusals"]["quota"] == 2  # type: ignore[index]


def test_what_is_left_is_told_in_each_api_s_headers() -> None:
    with cold_server(replace(QUICK, limit=WindowLimit(3, 3600.0, remaining=True)), speed=10) as server:
        client = Client(server)
        headers = client.ask("x")[2]
        name, left, reset = headers["RateLimit"].split(";")
        assert (name, left) == ('"api"', "r=2")
        assert 355 < float(reset.removeprefix("t=")) <= 360
        headers = client.chat("x")[2]
        assert headers["x-ratelimit-remaining-requests"] == "1"
        assert headers["x-ratelimit-reset-requests"].startswith("5m5")
        client.chat("x")
        status, _, headers = client.chat("x")
        assert (status, headers["x-ratelimit-remaining-requests"]) == (429, "0")
        assert client.ask("x")[2]["RateLimit"].startswith('"api";r=0;t=')
    with cold_server(replace(QUICK, noise=0.999_999, limit=BucketLimit(1.0, 9.0, remaining=True)), speed=2) as server:
        status, _, headers = Client(server).chat("x")
        assert (status, headers["x-ratelimit-remaining-requests"]) == (500, "8")
        assert headers["x-ratelimit-reset-requests"].endswith("ms")
    with cold_server(QUICK, speed=50) as server:
        assert not [name for name in Client(server).chat("x")[2] if "ratelimit" in name.lower()]


def _both(server: ColdServer) -> list[Outcome | None]:
    """What the SDK reads from one answer of each dialect."""
    bodies = {HF: {"inputs": "x"}, CHAT: {"model": "m", "messages": [{"role": "user", "content": "x"}]}}
    return [outcome_of(requests.post(server.url + path, json=body, timeout=10)) for path, body in bodies.items()]


def test_what_it_says_is_read_as_what_it_means() -> None:
    limit = WindowLimit(2, 3600.0, remaining=True)
    with cold_server(replace(QUICK, limit=limit), speed=10) as server:
        answered, refused = _both(server), _both(server)
    expected = [(Kind.SUCCESS, 1), (Kind.SUCCESS, 0), (Kind.LIMITED, 0), (Kind.LIMITED, 0)]
    for found, said in zip(answered + refused, expected, strict=True):
        assert found is not None
        assert (found.kind, found.remaining) == said
        assert found.reset is not None
        assert 350 < found.reset <= 360
        assert found.hint is None or found.hint == pytest.approx(found.reset, abs=0.01)
    with cold_server(replace(QUICK, quota=Quota(0, retry_after=100.0)), speed=50) as server:
        assert _both(server) == [Outcome(Kind.QUOTA, 2.0)] * 2
    with cold_server(replace(QUICK, growth=GrowthLimit(least=0.0, retry_after=5.0, told=True)), speed=50) as server:
        assert _both(server) == [Outcome(Kind.GROWTH_LIMITED, 0.1)] * 2


@pytest.mark.parametrize(("seconds", "printed"), [
    (0.0, "0ms"), (0.0123, "13ms"), (0.9999, "1s"), (7.66, "7.66s"), (360.0, "6m0s"), (179.56, "2m59.56s"),
    (3600.0, "1h0m0s"), (7325.5, "2h2m5.5s"),
])
def test_durations_are_printed_as_go_does_and_read_back(seconds: float, printed: str) -> None:
    assert OpenAI().left(5, seconds) == {"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": printed}
    assert both_in(OpenAI().left(5, seconds))[:2] == (5, pytest.approx(seconds, abs=0.001))


def test_a_full_queue_is_told_apart() -> None:
    with cold_server(replace(QUICK, slots=1, median=1.0, queue=0), speed=1) as server:
        one, two = Client(server), Client(server)
        one.http.request("POST", HF, json.dumps({"inputs": "x"}))
        while not server.stats()["in_flight"]:
            pass
        assert two.ask("y")[:2] == (429, {"error": "Model is overloaded", "error_type": "overloaded"})
        status, body, _ = two.chat("y")
        assert (status, body["error"]["code"]) == (503, "server_is_overloaded")


def test_failures_broken_answers_and_outages_are_seen_by_the_client() -> None:
    with cold_server(QUICK, speed=50, broken=1.0) as server:
        client = Client(server)
        with pytest.raises(json.JSONDecodeError):
            client.ask("x")
        assert server.stats()["broken"] == 1
    with cold_server(QUICK, speed=50, noise=0.999_999) as server:
        assert Client(server).ask("x")[:2] == (500, {"error": "Internal Server Error"})
        assert Client(server).chat("x")[0] == 500
    with cold_server(replace(QUICK, spells=(Spell(0.0, 1e9),)), speed=50) as server:
        with pytest.raises((RemoteDisconnected, ConnectionResetError)):
            Client(server).ask("x")
        assert Client(server).send("GET", "/stats")[1]["refusals"]["connection"] == 1


def test_when_the_block_ends_waiting_clients_are_let_go() -> None:
    with cold_server(replace(QUICK, median=3600.0), speed=1) as server:
        client = Client(server)
        client.http.request("POST", HF, json.dumps({"inputs": "x"}))
        while not server.stats()["in_flight"]:
            pass
    with pytest.raises((RemoteDisconnected, ConnectionResetError)):
        client.http.getresponse()
    with pytest.raises(ConnectionRefusedError):
        Client(server).ask("x")


@pytest.mark.parametrize(("options", "named"), [
    ({"scenario": "Z"}, "scenario"), ({"speed": 0}, "speed"), ({"noise": 2}, "noise"), ({"broken": -1}, "broken"),
    ({"port": 70_000}, "port"),
])
def test_options_that_cannot_work_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        ColdServer(**options)


def test_as_a_process_it_prints_its_url_and_serves_until_it_is_told_to_end() -> None:
    command = [sys.executable, "-m", "llm_guard.testing.cold_server", "--scenario", "S", "--speed", "50"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        http = HTTPConnection(process.stdout.readline().strip().removeprefix("http://"), timeout=10)
        http.request("POST", HF, json.dumps({"inputs": "x"}))
        assert http.getresponse().status in (200, 500)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_as_a_process_it_says_what_is_wrong_with_its_options() -> None:
    command = [sys.executable, "-m", "llm_guard.testing.cold_server", "--scenario", "Z"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert "scenario='Z'" in done.stderr
