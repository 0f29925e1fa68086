"""Metrics of three gunicorn workers, one of which is killed under load and comes again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

HERE = Path(__file__).parent
CLIENTS = 8
BEARER = {"Authorization": "Bearer a token of more than sixteen characters"}


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Of three workers with four threads each."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        environ = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
                                "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), str(HERE)])}
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-w", "3", "-k", "gthread", "--threads", "4", "--log-level", "error",
             "--bind", f"fd://{listening.fileno()}", "-c", str(HERE / "gunicorn_conf.py"), "gunicorn_app:app"],
            env=environ, pass_fds=[listening.fileno()], cwd=tmp_path)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.terminate()
            server.wait(20)


class Load:
    """Clients that ask for as long as they are let."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self.answers: list[str] = []
        self.errors = 0
        self.threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def _ask(self) -> None:
        while not self._over.is_set():
            try:
                self.answers.append(requests.get(self._url, timeout=20).text)
            except requests.RequestException:
                self.errors += 1

    def until(self, answers: int) -> None:
        bound = monotonic() + 60
        while len(self.answers) < answers:
            assert monotonic() < bound
            sleep(0.02)

    def stop(self) -> None:
        self._over.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive(), "a request hangs"


def scrape(url: str, path: str = "/metrics") -> dict[tuple[str, str], float]:
    """The values of `ask`, by name and the second label."""
    text = requests.get(f"{url}{path}", headers=BEARER, timeout=20).text
    return {(sample.name.removeprefix("llm_guard_"), sample.labels.get("outcome") or sample.labels.get("kind", "")):
            sample.value for family in text_string_to_metric_families(text) for sample in family.samples
            if sample.labels.get("function") == "ask"}


@pytest.mark.real
@pytest.mark.once
def test_a_worker_killed_under_load_leaves_the_metrics_right(url: str) -> None:
    load = Load(url)
    load.until(100)
    assert load.errors == 0
    counted = scrape(url)["calls_total", "success"]
    assert counted >= 100
    killed = load.answers[-1]
    os.kill(int(killed), signal.SIGKILL)
    before = set(load.answers)
    count = len(load.answers)
    load.until(count + 100)
    bound = monotonic() + 60
    while not set(load.answers) - before:  # the worker that came in its place answers too
        assert monotonic() < bound
        sleep(0.05)
    load.stop()
    found = scrape(url)
    assert scrape(url, "/guard/metrics") == found  # the status page's own are those of all processes too
    calls = found["calls_total", "success"]
    assert killed not in load.answers[-20:]
    assert len(before) == 3
    assert len(load.answers) <= calls <= len(load.answers) + load.errors  # none lost, none doubled
    assert found["attempts_total", "success"] - found["call_seconds_count", ""] in range(5)  # killed in between
    assert found["in_flight", ""] == 0
    assert found["bounded_limit", ""] == 48  # of the three that live
