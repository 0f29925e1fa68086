"""Behind real servers, with real requests: gunicorn's pre-forked workers with threads, and waitress."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import requests
from servers import Served, gunicorn, until, waitress

pytestmark = [pytest.mark.real, pytest.mark.once]

SERVERS: dict[str, Callable[[], AbstractContextManager[Served]]] = {
    "gunicorn": gunicorn, "gunicorn that loads first": lambda: gunicorn("served:app", "--preload"),
    "waitress": waitress}


def processes(url: str, tries: int = 60) -> dict[int, dict[str, Any]]:
    """What each process that answers tells of itself."""
    found = {}
    for _ in range(tries):
        told = requests.get(f"{url}/process", headers={"Connection": "close"}, timeout=10).json()
        found[told["pid"]] = told
    return found


@pytest.mark.parametrize("server", SERVERS)
def test_views_are_guarded_behind_a_server(server: str) -> None:
    with SERVERS[server]() as (url, _):
        answers: list[requests.Response] = []
        tasks = [threading.Thread(target=lambda: answers.append(requests.get(f"{url}/work?seconds=0.1", timeout=20)))
                 for _ in range(7)]
        for task in tasks:
            task.start()
        for task in tasks:
            task.join(20)
        assert [answer.text for answer in answers] == ["done"] * 7
        told = requests.get(f"{url}/process", timeout=10).json()
        assert (told["peak"], told["in_flight"], told["waiting"]) == (4, 0, 0)
        assert requests.get(f"{url}/timed?q=here", timeout=10).text == "here"
        assert requests.get(f"{url}/refused", timeout=10).status_code == 404


@pytest.mark.parametrize("server", SERVERS)
def test_a_wait_ends_at_the_requests_deadline(server: str) -> None:
    with SERVERS[server]() as (url, _):
        assert until(lambda: requests.get(f"{url}/process", timeout=10).ok)
        tasks = [threading.Thread(target=requests.get, args=(f"{url}/work?seconds=4.5",), kwargs={"timeout": 20})
                 for _ in range(4)]
        for task in tasks:
            task.start()
        assert until(lambda: requests.get(f"{url}/process", timeout=10).json()["in_flight"] == 4)
        began = time.monotonic()
        answer = requests.get(f"{url}/work", timeout=20)
        assert time.monotonic() - began < 4
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert answer.json()["type"] == "urn:llm-guard:saturated"
        head = requests.head(f"{url}/process", timeout=20)
        assert (head.status_code, head.content) == (200, b"")
        for task in tasks:
            task.join(20)


@pytest.mark.parametrize("server", SERVERS)
def test_a_client_that_goes_away_frees_its_stream(server: str) -> None:
    with SERVERS[server]() as (url, _):
        rows: list[bytes] = []
        for _ in range(4):  # twice as many as there are places, one after the other
            with requests.get(f"{url}/stream", stream=True, timeout=20) as answer:
                lines = answer.iter_lines()
                rows.append(next(lines))
                assert requests.get(f"{url}/process", timeout=10).json()["streams"] >= 1
        assert all(row.startswith(b"data: 0 x") for row in rows)
        assert until(lambda: requests.get(f"{url}/process", timeout=10).json()["streams"] == 0)


def test_workers_killed_and_restarted_under_load_leave_no_request_and_no_thread_hanging() -> None:
    ends: Counter[object] = Counter()
    over = threading.Event()
    longest = 0.0

    def client(url: str) -> None:
        nonlocal longest
        while not over.is_set():
            began = time.monotonic()
            try:
                end: object = requests.get(f"{url}/work", headers={"Connection": "close"}, timeout=20).status_code
            except requests.RequestException as error:
                end = type(error).__name__
            longest = max(longest, time.monotonic() - began)
            ends[end] += 1
            time.sleep(0.02)

    with gunicorn(workers=3) as (url, process):
        assert until(lambda: len(processes(url, 20)) == 3)
        first = set(processes(url))
        clients = [threading.Thread(target=client, args=(url,)) for _ in range(8)]
        for each in clients:
            each.start()
        time.sleep(0.3)
        killed = min(first)
        os.kill(killed, signal.SIGKILL)
        assert until(lambda: len(set(processes(url, 20)) - {killed}) == 3)
        second = set(processes(url))
        process.send_signal(signal.SIGHUP)  # all workers anew, in the midst of it
        assert until(lambda: len(found := set(processes(url, 20))) == 3 and not found & second)
        over.set()
        for each in clients:
            each.join(20)
        assert not any(each.is_alive() for each in clients)
        assert set(ends) <= {200, "ConnectionError", "ChunkedEncodingError"}  # those that a kill met on their way
        assert ends[200] > 20
        assert ends.total() - ends[200] <= 3 * 8
        assert longest < 10
        assert until(lambda: all(told["in_flight"] == told["waiting"] == 0 and told["threads"] <= 1 + 8 + 1
                                 for told in processes(url).values()))
    assert process.poll() is not None
