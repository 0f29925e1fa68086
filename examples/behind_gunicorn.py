"""What the web examples share: gunicorn with a guarded application, and an LLM that starts cold, until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

from llm_guard.testing.cold_server import cold_server_process


def serve(what: str, application: str, directory: Path) -> int:
    """The `application` of `directory`, until it is interrupted; the exit status of gunicorn."""
    parser = argparse.ArgumentParser(description=f"A guarded {what} that asks an LLM which starts cold.")
    parser.add_argument("--port", type=int, default=8000, help="where it listens; 0 takes a free one (default: 8000)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--threads", type=int, default=64, help="threads of each (default: 64)")
    parser.add_argument("--unguarded", action="store_true", help="the same views with all guards off")
    parser.add_argument("--llm", metavar="URL", help="where the LLM is (default: one of its own, which starts cold)")
    parser.add_argument("--scenario", default="A", help="what the LLM is like (default: A)")
    parser.add_argument("--speed", type=float, default=2.0, help="how much faster it is (default: 2)")
    chosen = parser.parse_args()
    with nullcontext(chosen.llm) if chosen.llm else cold_server_process(chosen.scenario, speed=chosen.speed) as url:
        print(f"the LLM is at {url}", flush=True)
        environment = {**os.environ, "LLM_URL": url}
        if chosen.unguarded:
            environment["LLM_GUARD_DISABLED"] = "1"
        command = [sys.executable, "-m", "gunicorn", application, "--chdir", str(directory),
                   "--bind", f"127.0.0.1:{chosen.port}", "--workers", str(chosen.workers),
                   "--worker-class", "gthread", "--threads", str(chosen.threads)]
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        server = subprocess.Popen(command, env=environment)
        try:
            return server.wait()
        except KeyboardInterrupt:
            server.terminate()
            return server.wait()
