"""The server in a process of its own: it listens when the block begins, and is gone whatever ends the block."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from http.client import HTTPConnection
from typing import Any
from unittest import mock

import pytest

from llm_guard.errors import ConfigError
from llm_guard.testing.cold_server import ColdServer, cold_server_process, process

pytestmark = pytest.mark.real


def asked(url: str, method: str, path: str, body: object = None) -> tuple[int, Any]:
    http = HTTPConnection(url.removeprefix("http://"), timeout=10)
    http.request(method, path, None if body is None else json.dumps(body))
    reply = http.getresponse()
    return reply.status, json.loads(reply.read())


def is_gone(url: str) -> bool:
    try:
        asked(url, "GET", "/stats")
    except (ConnectionError, OSError):
        return True
    return False


def test_it_serves_with_the_options_that_it_is_given() -> None:
    with cold_server_process("E", speed=50, seed=3, noise=0.999_999, mixed_shapes=False) as url:
        assert asked(url, "POST", "/models/m", {"inputs": "x"})[0] == 500
        assert asked(url, "GET", "/stats")[1]["scenario"] == "E"
    assert is_gone(url)
    with cold_server_process("random-3", speed=500, mixed_shapes=False) as url:
        assert asked(url, "GET", "/stats")[1]["scenario"] == "random-3"


def test_it_is_gone_after_an_error_in_the_block() -> None:
    with pytest.raises(KeyError), cold_server_process("E") as url:
        raise KeyError
    assert is_gone(url)


def test_one_that_does_not_end_when_it_is_told_is_killed() -> None:
    with (mock.patch.object(process, "ENDS_WITHIN", 0.2), mock.patch.object(subprocess.Popen, "terminate"),
          cold_server_process("E") as url):
        pass
    assert is_gone(url)


def test_it_ends_with_the_process_that_started_it_however_that_ends() -> None:
    code = ("from llm_guard.testing.cold_server import cold_server_process\n"
            "import sys\n"
            "with cold_server_process('E') as url:\n"
            "    print(url, flush=True)\n"
            "    sys.stdin.read()\n")
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        url = starter.stdout.readline().strip()
        assert not is_gone(url)
        starter.kill()
    give_up_at = time.monotonic() + 10
    while not is_gone(url):
        assert time.monotonic() < give_up_at


def test_an_interrupt_at_the_terminal_reaches_the_block_and_not_the_server() -> None:
    started: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def keeps(*args: Any, **options: Any) -> subprocess.Popen[str]:
        started.append(popen(*args, **options))
        return started[-1]

    with mock.patch.object(subprocess, "Popen", keeps), cold_server_process("E"):
        assert os.getpgid(started[0].pid) != os.getpgid(0)
    assert started[0].returncode == 0


@pytest.mark.parametrize(("options", "named"), [
    ({"scenario": "Z"}, "scenario"), ({"speed": 0}, "speed"), ({"noise": 1}, "noise"), ({"broken": -1}, "broken"),
    ({"port": 70_000}, "port"), ({"seed": -1}, "seed"), ({"seed": "x"}, "seed")])
def test_what_cannot_work_is_refused_before_there_is_a_process(options: dict[str, Any], named: str) -> None:
    with (mock.patch.object(subprocess, "Popen", side_effect=AssertionError), pytest.raises(ConfigError, match=named),
          cold_server_process(**options)):
        pass


def test_a_port_that_is_taken_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    server = ColdServer("E")
    try:
        with (pytest.raises(RuntimeError, match="the cold server did not start: its process ended with status 2"),
              cold_server_process("E", port=int(server.url.rpartition(":")[2]))):
            pass
    finally:
        server.close()
    assert "in use" in capfd.readouterr().err
