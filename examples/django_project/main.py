"""The Django project behind gunicorn, with an LLM that starts cold.

    python examples/django_project/main.py [--port 8000] [--workers 1] [--threads 64] [--unguarded] [--llm URL]
    curl 'http://127.0.0.1:8000/ask?q=hello'
    curl -N 'http://127.0.0.1:8000/stream?q=hello'

One process with many threads serves it: its guards see all calls. Several `--workers` work too, each with guards of its
own.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

from llm_guard.testing.cold_server import cold_server_process


def main() -> int:
    parser = argparse.ArgumentParser(description="A guarded Django project that asks an LLM which starts cold.")
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
        command = [sys.executable, "-m", "gunicorn", "site_with_llm.wsgi", "--chdir", str(Path(__file__).parent),
                   "--bind", f"127.0.0.1:{chosen.port}", "--workers", str(chosen.workers),
                   "--worker-class", "gthread", "--threads", str(chosen.threads)]
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        server = subprocess.Popen(command, env=environment)
        try:
            return server.wait()
        except KeyboardInterrupt:
            server.terminate()
            return server.wait()


if __name__ == "__main__":
    sys.exit(main())
