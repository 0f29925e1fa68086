"""A Flask app whose views ask an LLM: whole answers, streams, and a fair share of both for each user.

LLM_URL says where the LLM is. With STATUS_TOKEN there is a status page at /guard/. With LLM_GUARD_DISABLED=1 these are
the same views, unguarded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import requests
from flask import Flask, Response, g, request

from llm_guard import bounded, ramp_up, retry, stack
from llm_guard.llm import Adapter, Session, stream_text, text_of
from llm_guard.web.flask import Guard, server_sent_events

URL = os.environ.get("LLM_URL", "http://127.0.0.1:8080")

app = Flask(__name__)
app.config["LLM_GUARD_DEADLINE"] = 20  # seconds that a request has
app.config["LLM_GUARD_UPSTREAM_ERRORS"] = [requests.RequestException]
app.config["LLM_GUARD_STATUS_TOKEN"] = os.environ.get("STATUS_TOKEN")  # 16 characters at least: /guard/ is there
Guard(app)

session = Session()
session.mount("http://", Adapter(pool_maxsize=64))  # its connections are cut at the request's deadline
# One stack for both, so that they share what they know of the server. No user has more than eight calls at once.
guard = stack(ramp_up(), bounded(64, key=lambda: g.user, per_key=8), retry())


@app.before_request
def who() -> None:
    g.user = request.headers.get("X-User", request.remote_addr)


@guard
def ask(prompt: str) -> str:
    response = session.post(URL, json={"inputs": prompt}, timeout=20)
    response.raise_for_status()
    return text_of(response)


@guard
def tell(prompt: str) -> Iterator[str]:
    body = {"inputs": prompt, "stream": True}
    with session.post(f"{URL}/generate_stream", json=body, stream=True, timeout=20) as response:
        response.raise_for_status()
        yield from stream_text(response)


@app.get("/ask")
def whole() -> dict[str, str]:
    return {"answer": ask(request.args["q"])}


@app.get("/stream")
def stream() -> Response:
    return server_sent_events(tell(request.args["q"]))
