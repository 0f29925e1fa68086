"""Streamed answers over HTTP: real sockets, at high speed."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

import pytest

from llm_guard.testing.cold_server import ColdServer, cold_server
from llm_guard.testing.server import Scenario

pytestmark = pytest.mark.real

QUICK = Scenario("quick", slots=8, median=0.05, sigma=0.0)
SLOW = Scenario("slow", slots=1, median=1000.0, sigma=0.0)
PROMPT = "one two three"
MESSAGES = [{"role": "user", "content": PROMPT}]
WHOLE = "echo: one two three"

#: For each endpoint a request for a stream.
REQUESTS: dict[str, dict[str, Any]] = {
    "/models/org/m": {"inputs": PROMPT, "stream": True},
    "/v1/chat/completions": {"model": "m", "messages": MESSAGES, "stream": True,
                             "stream_options": {"include_usage": True}},
    "/v1/completions": {"model": "m", "prompt": PROMPT, "stream": True, "stream_options": {"include_usage": True}},
    "/v1/responses": {"model": "m", "input": PROMPT, "stream": True},
    "/v1/messages": {"model": "m", "max_tokens": 99, "messages": MESSAGES, "stream": True},
    "/api/chat": {"model": "m", "messages": MESSAGES},
    "/api/generate": {"model": "m", "prompt": PROMPT},
    "/generate_stream": {"inputs": PROMPT},
    "/": {"inputs": PROMPT, "stream": True},
}
PATHS = pytest.mark.parametrize("path", REQUESTS)

#: Where an event of each endpoint has a piece of the text, read here without this project's help.
PIECES: dict[str, Callable[[Any], str | None]] = {
    "/models/org/m": lambda event: event["token"]["text"],
    "/v1/chat/completions": lambda event: event["choices"][0]["delta"].get("content") if event["choices"] else None,
    "/v1/completions": lambda event: event["choices"][0]["text"] if event["choices"] else None,
    "/v1/responses": lambda event: event["delta"] if event["type"] == "response.output_text.delta" else None,
    "/v1/messages": lambda event: event["delta"]["text"] if event["type"] == "content_block_delta" else None,
    "/api/chat": lambda event: event["message"]["content"],
    "/api/generate": lambda event: event["response"],
    "/generate_stream": lambda event: event["token"]["text"],
    "/": lambda event: event["token"]["text"],
}


class Client:
    """One kept-alive connection."""

    def __init__(self, server: ColdServer) -> None:
        self.http = HTTPConnection(server.url.removeprefix("http://"), timeout=10)

    def begin(self, path: str, **more: object) -> HTTPResponse:
        self.http.request("POST", path, json.dumps({**REQUESTS[path], **more}))
        return self.http.getresponse()

    def stream(self, path: str, **more: object) -> tuple[HTTPResponse, list[Any]]:
        response = self.begin(path, **more)
        return response, list(events(response))


def events(response: HTTPResponse) -> Iterator[Any]:
    """The JSON of each event, or the text that is none."""
    for line in response:
        said = line.strip().decode()
        if response.headers["Content-Type"] == "text/event-stream":
            said = said.removeprefix("data:").strip() if said.startswith("data:") else ""
        if said:
            try:
                yield json.loads(said)
            except ValueError:
                yield said


def pieces(path: str, found: list[Any]) -> list[str]:
    pieces = [PIECES[path](event) for event in found if isinstance(event, dict)]
    return [piece for piece in pieces if piece]


@pytest.fixture
def client() -> Iterator[Client]:
    with cold_server(QUICK, speed=50) as server:
        yield Client(server)


@PATHS
def test_a_stream_is_the_answer_in_tokens_and_the_connection_is_kept(client: Client, path: str) -> None:
    response, found = client.stream(path)
    assert response.status == 200
    assert response.headers["Content-Type"] == ("application/x-ndjson" if path.startswith("/api/")
                                                else "text/event-stream")
    assert pieces(path, found) == ["echo:", " one", " two", " three"]
    kept = client.http.sock
    assert client.stream(path)[1] == found
    assert client.http.sock is kept


@pytest.mark.parametrize(("path", "usage"), [
    ("/v1/chat/completions", lambda found: found[-2]["usage"]),
    ("/v1/completions", lambda found: found[-2]["usage"]),
    ("/v1/responses", lambda found: found[-1]["response"]["usage"]),
    ("/v1/messages", lambda found: {**found[0]["message"]["usage"], **found[-2]["usage"]}),
    ("/api/chat", lambda found: found[-1]), ("/api/generate", lambda found: found[-1]),
    ("/generate_stream", lambda found: found[-1]["details"]),
])
def test_a_stream_tells_at_its_end_what_it_used(client: Client, path: str, usage: Callable[[Any], Any]) -> None:
    told = usage(client.stream(path)[1])
    counts = [value for name, value in told.items()
              if name.startswith(("prompt_", "input_", "completion_", "output_", "eval_", "generated_tokens"))
              and isinstance(value, int)]
    assert counts == ([4, 3] if path == "/generate_stream" else [3, 4])


def test_openai_tells_it_only_where_it_is_asked(client: Client) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        found = client.stream(path, stream_options=None)[1]
        assert found[-1] == "[DONE]"
        assert not any("usage" in event for event in found[:-1])


@pytest.mark.parametrize(("path", "reason"), [
    ("/v1/chat/completions", lambda found: [event["choices"][0]["finish_reason"] for event in found[:-2]][-1]),
    ("/v1/completions", lambda found: [event["choices"][0]["finish_reason"] for event in found[:-2]][-1]),
    ("/v1/responses", lambda found: found[-1]["type"].removeprefix("response.")),
    ("/v1/messages", lambda found: found[-2]["delta"]["stop_reason"]),
    ("/api/chat", lambda found: found[-1]["done_reason"]),
    ("/generate_stream", lambda found: found[-1]["details"]["finish_reason"]),
])
@pytest.mark.parametrize("cut", [False, True])
def test_a_stream_that_reaches_its_bound_is_cut_and_says_so(client: Client, path: str, reason: Callable[[Any], str],
                                                            cut: bool) -> None:
    bounds = {"max_tokens": 2, "max_output_tokens": 2, "options": {"num_predict": 2},
              "parameters": {"max_new_tokens": 2}} if cut else {}
    found = client.stream(path, **bounds)[1]
    assert pieces(path, found) == ["echo:", " one"] + ([] if cut else [" two", " three"])
    assert reason(found) in (("length", "incomplete", "max_tokens") if cut
                             else ("stop", "completed", "end_turn", "eos_token"))


def test_a_client_of_http_1_0_gets_no_chunks(client: Client) -> None:
    client.http._http_vsn, client.http._http_vsn_str = 10, "HTTP/1.0"  # type: ignore[attr-defined]
    response, found = client.stream("/api/chat")
    assert "Transfer-Encoding" not in response.headers
    assert "".join(pieces("/api/chat", found)) == WHOLE


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
def test_the_first_token_arrives_while_the_work_goes_on(path: str) -> None:
    with cold_server(replace(SLOW, median=4.0), speed=1) as server:
        response = Client(server).begin(path)
        found: list[Any] = []
        for event in events(response):
            found.append(event)
            if pieces(path, found):
                break
        assert server.stats()["in_flight"] == 1


# What goes wrong


ERRORS: dict[str, Callable[[Any], Any]] = {
    "/models/org/m": lambda event: event["error"],
    "/v1/chat/completions": lambda event: event["error"]["type"],
    "/v1/completions": lambda event: event["error"]["type"],
    "/v1/responses": lambda event: event["response"]["error"]["code"] * (event["type"] == "response.failed"),
    "/v1/messages": lambda event: event["error"]["type"] * (event["type"] == "error"),
    "/api/chat": lambda event: event["error"][:23],
    "/generate_stream": lambda event: event["error_type"],
}


@pytest.mark.parametrize(("path", "said"), [
    ("/models/org/m", "Internal Server Error"), ("/v1/chat/completions", "server_error"),
    ("/v1/completions", "server_error"), ("/v1/responses", "server_error"), ("/v1/messages", "api_error"),
    ("/api/chat", "an error was encountered"[:23]), ("/generate_stream", "generation"),
])
def test_a_failure_comes_as_a_status_or_in_the_midst_as_the_api_reports_it(path: str, said: str) -> None:
    with cold_server(replace(QUICK, noise=0.999999), speed=50) as server:
        client = Client(server)
        seen = set()
        for _ in range(12):
            response = client.begin(path)
            found = list(events(response)) if response.status == 200 else [response.read()]
            seen.add(response.status)
            if response.status == 200:
                assert pieces(path, [event for event in found if event is not found[-1]]) == ["echo:", " one"]
                assert ERRORS[path](found[-1]) == said
        assert seen == {200, 424 if path == "/generate_stream" else 500}
        assert server.stats()["failures"] == 12


@PATHS
def test_a_broken_stream_ends_in_the_midst_of_an_event(path: str) -> None:
    with cold_server(QUICK, speed=50, broken=1.0) as server:
        client = Client(server)
        response = client.begin(path)
        raw = response.read()
        assert raw
        assert not raw.endswith(b"\n")
        assert b" two" not in raw
        assert (server.stats()["successes"], server.stats()["broken"]) == (1, 1)
        assert client.begin(path).status == 200  # HTTP itself is whole


def wait_for(server: ColdServer, **expected: int) -> None:
    """Until the stats say so; fails after 5 s."""
    until = time.monotonic() + 5
    while (found := {name: server.stats()[name] for name in expected}) != expected:
        assert time.monotonic() < until, found


def test_a_client_that_leaves_a_stream_frees_its_slot_at_the_next_token() -> None:
    with cold_server(replace(SLOW, median=4.0), speed=1) as server:
        long = Client(server)
        long.http.request("POST", "/api/generate", json.dumps({"model": "m", "prompt": "word " * 200}))
        response = long.http.getresponse()
        response.readline()
        long.http.sock.shutdown(socket.SHUT_RDWR) if long.http.sock else response.close()
        wait_for(server, in_flight=0, abandoned=1)
        assert server.stats()["successes"] == 0


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_before_anything_was_sent_is_noticed_where_the_server_cancels(path: str,
                                                                                          stream: bool) -> None:
    with cold_server(SLOW, speed=1, cancels=True) as server:
        clients = [Client(server), Client(server)]
        for inside, client in enumerate(clients, 1):
            client.http.request("POST", path, json.dumps({**REQUESTS[path], "stream": stream}))
            wait_for(server, in_flight=inside)
        for left, client in enumerate(reversed(clients), 1):  # the one that is queued, the one that is worked on
            client.http.close()
            wait_for(server, in_flight=2 - left, abandoned=left)


def test_elsewhere_its_call_is_worked_on_all_the_same() -> None:
    with cold_server(replace(SLOW, median=0.3), speed=1) as server:
        client = Client(server)
        client.http.request("POST", "/api/chat", json.dumps({**REQUESTS["/api/chat"], "stream": False}))
        wait_for(server, in_flight=1)
        client.http.close()
        wait_for(server, in_flight=0, successes=1, abandoned=0)


def test_when_the_server_closes_a_stream_ends_too() -> None:
    with cold_server(replace(SLOW, median=4.0), speed=1) as server:
        client = Client(server)
        client.http.request("POST", "/api/generate", json.dumps({"model": "m", "prompt": "word " * 200}))
        response = client.http.getresponse()
        response.readline()
    with pytest.raises((HTTPException, ConnectionError)):
        response.read()
