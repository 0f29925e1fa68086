"""A real Prometheus for a block: it scrapes one address, keeps its data to itself, and is gone after."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

STARTS_WITHIN = 30.0

CONFIG = """\
global:
  scrape_interval: {every}
  scrape_timeout: {every}
scrape_configs:
  - job_name: demo
    static_configs:
      - targets: ["{target}"]
"""


class Missing(Exception):
    """There is no Prometheus on this machine."""


class Running:
    """`url` is where it answers; `kill()` ends it at once."""

    def __init__(self, program: str, directory: Path, target: str, every: str) -> None:
        config = directory / "prometheus.yml"
        config.write_text(CONFIG.format(target=target, every=every), encoding="utf-8")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{address}"
        self._process = subprocess.Popen(
            [program, f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}",
             f"--web.listen-address={address}", "--log.level=error"], start_new_session=True)

    def is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"prometheus ended with status {self._process.returncode}")
        try:
            with urlopen(f"{self.url}/-/ready", timeout=1) as response:
                return bool(response.status == 200)
        except (URLError, OSError):
            return False

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def prometheus_process(target: str, every: str = "500ms") -> Iterator[Running]:
    """One that scrapes `target`, a host and port, `every` so often; Missing where there is none to start."""
    program = shutil.which("prometheus")
    if program is None:
        raise Missing("no prometheus on the PATH: `apt-get install prometheus`, or https://prometheus.io/download")
    with tempfile.TemporaryDirectory() as directory:
        running = Running(program, Path(directory), target, every)
        try:
            until = time.monotonic() + STARTS_WITHIN
            while not running.is_ready():
                if time.monotonic() > until:
                    raise RuntimeError("prometheus does not become ready")
                time.sleep(0.1)
            yield running
        finally:
            running.kill()
