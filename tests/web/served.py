"""A Flask app for real servers, which tells of the process that serves it.

As a program it serves itself with waitress: python served.py FD THREADS
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import flask

from llm_guard import bounded, timeout
from llm_guard.web.flask import Guard, server_sent_events

app = flask.Flask(__name__)
app.config["LLM_GUARD_DEADLINE"] = 3
Guard(app)
limit, streams = bounded(4), bounded(2)


@limit
def work(seconds: float) -> None:
    time.sleep(seconds)


@streams
def count() -> Iterator[str]:
    number = 0
    while True:
        yield f"{number} {'x' * 1000}"
        number += 1
        time.sleep(0.01)


@app.get("/work")
def worked() -> str:
    work(float(flask.request.args.get("seconds", "0.02")))
    return "done"


@app.get("/timed")
@timeout(5)
def timed() -> str:
    return flask.request.args["q"]


@app.get("/refused")
def refused() -> str:
    return bounded(1, max_wait=0, key=lambda: 1, per_key=1)(lambda: flask.abort(404))()


@app.get("/stream")
def stream() -> flask.Response:
    return server_sent_events(count())


@app.get("/process")
def process() -> dict[str, Any]:
    found, open_ = limit.statistics(), streams.statistics()
    return {"pid": os.getpid(), "threads": threading.active_count(), "in_flight": found.in_flight,
            "peak": found.peak, "waiting": found.waiting, "streams": open_.in_flight}


if __name__ == "__main__":
    import waitress

    waitress.serve(app, sockets=[socket.socket(fileno=int(sys.argv[1]))], threads=int(sys.argv[2]))
