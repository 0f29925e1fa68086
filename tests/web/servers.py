"""Real servers around an app, each in processes of its own, on a socket that listens already."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import requests

HERE = Path(__file__).parent
WITHIN = 30.0


class Served(NamedTuple):
    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def gunicorn(application: str = "served:app", *options: str, workers: int = 1, threads: int = 8,
             directory: Path = HERE) -> Iterator[Served]:
    """gunicorn with pre-forked workers, each with so many threads."""
    with _listening() as listener, _running([
            "-m", "gunicorn", application, "--chdir", str(directory), "--bind", f"fd://{listener.fileno()}",
            "--workers", str(workers), "--worker-class", "gthread", "--threads", str(threads), "--keep-alive", "30",
            "--graceful-timeout", "5", "--log-level", "warning", *options], listener) as served:
        yield served


@contextmanager
def waitress(threads: int = 8) -> Iterator[Served]:
    with _listening() as listener, _running(
            [str(HERE / "served.py"), str(listener.fileno()), str(threads)], listener) as served:
        yield served


@contextmanager
def _listening() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        yield listener


@contextmanager
def _running(command: list[str], listener: socket.socket) -> Iterator[Served]:
    process = subprocess.Popen([sys.executable, *command], pass_fds=[listener.fileno()])
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.close()  # where the server dies, clients shall not wait for it
        yield Served(url, process)
    finally:
        process.terminate()
        try:
            process.wait(WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(condition: Callable[[], bool], within: float = WITHIN) -> bool:
    """Whether it came true in time."""
    ends = time.monotonic() + within
    while time.monotonic() < ends:
        try:
            if condition():
                return True
        except requests.RequestException:
            pass
        time.sleep(0.02)
    return False
