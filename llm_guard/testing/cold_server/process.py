"""The server in a process of its own, for a block: so that it does not share its client's interpreter."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from llm_guard import checks
from llm_guard.testing.cold_server.server import check_options
from llm_guard.testing.server import scenario as scenario_named

#: Seconds that the process may take to listen, and to end once it was told to.
STARTS_WITHIN, ENDS_WITHIN = 60.0, 5.0


@contextmanager
def cold_server_process(scenario: str = "A", *, speed: float = 1.0, seed: int = 0, noise: float | None = None,
                        broken: float = 0.0, mixed_shapes: bool = True, host: str = "127.0.0.1",
                        port: int = 0) -> Iterator[str]:
    """The URL of a fresh server, which listens when the block begins and is gone when it ends; also where this process
    is killed. The options are those of `ColdServer`, the scenario by its name.

    ConfigError for what cannot work, RuntimeError where it does not start (a port that is taken).
    """
    check_options(scenario_named(scenario), speed, noise, broken, port)
    checks.whole("seed", seed, least=0)
    command = [sys.executable, "-m", "llm_guard.testing.cold_server", "--scenario", scenario, "--speed", str(speed),
               "--seed", str(seed), "--broken", str(broken), "--host", host, "--port", str(port), "--until-eof"]
    command += [] if noise is None else ["--noise", str(noise)]
    command += [] if mixed_shapes else ["--one-shape"]
    # A session of its own: an interrupt at the terminal is this process's to handle.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               start_new_session=True)
    try:
        yield _url(process)
    finally:
        _end(process)


def _url(process: subprocess.Popen[str]) -> str:
    """The line that it prints once it listens."""
    assert process.stdout is not None
    too_late = threading.Timer(STARTS_WITHIN, process.kill)
    too_late.start()
    try:
        url = process.stdout.readline().strip()
    finally:
        too_late.cancel()
    if not url:
        raise RuntimeError(f"the cold server did not start: its process ended with status {process.wait()}")
    return url


def _end(process: subprocess.Popen[str]) -> None:
    try:
        process.terminate()
        process.wait(ENDS_WITHIN)
    except BaseException as error:  # an interrupt while it ends too
        process.kill()
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
    finally:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
