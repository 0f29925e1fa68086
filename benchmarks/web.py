"""A view that asks an LLM which starts cold, guarded and unguarded: what do its clients get?

    python benchmarks/web.py [--frameworks flask django] [--scenario A] [--speed 2] [--clients 50] [--seconds 20]
                             [--pause 5] [--workers 1] [--threads 64] [--runs 1] [--seed 0] [--json FILE] [--curve]

The view is that of `examples/flask_app` or `examples/django_project`, behind gunicorn; unguarded is the same one with
LLM_GUARD_DISABLED=1. Each client sends one request after the other for so many seconds. After an answer it pauses, as
people do who read it (`--pause 0`: as programs do); after anything else it comes again as Retry-After says, or, where
it is not told, after the same pause, and one second at least. What is still on its way when time is up is waited for:
"in time" are the answers within the seconds, "in all" those to all requests that were sent within them.

The server of the LLM is a fresh one for each run, so many times as fast as its scenario, in a process of its own. Some
two minutes by default.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import requests
from timing import line_of, machine, versions

from llm_guard.testing.cold_server import cold_server_process

EXAMPLES = Path(__file__).parent.parent / "examples"
APPS = {"flask": (EXAMPLES / "flask_app", "app:app"), "django": (EXAMPLES / "django_project", "site_with_llm.wsgi")}
#: Seconds that a server may take to listen, and a client to wait for one answer.
STARTS_WITHIN, ANSWERS_WITHIN = 30.0, 60.0


@dataclass(slots=True)
class Result:
    """What the clients got: answers in time, statuses of all that came, refusals (503) without a Retry-After, and the
    median and the longest time until an answer, in seconds. `calls` and `refused` are the LLM's own counts."""

    framework: str
    way: str
    answers: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    silent_refusals: int = 0
    median: float = 0.0
    longest: float = 0.0
    calls: int = 0
    refused: int = 0
    by_second: list[int] = field(default_factory=list)

    def row(self) -> str:
        others = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()) if status != "200")
        return (f"| {self.framework}, {self.way} | {self.answers} | {self.statuses.get('200', 0)} | {others or '-'} | "
                f"{self.median:.1f} s | {self.longest:.1f} s | {self.calls} | {self.refused} |")


HEAD = ("| | in time | in all | others | median | longest | calls of the LLM | refused by it |\n"
        "|---|---:|---:|---|---:|---:|---:|---:|")


@contextmanager
def served(framework: str, llm: str, *, workers: int, threads: int, guarded: bool) -> Iterator[str]:
    """The URL of the example behind gunicorn."""
    directory, application = APPS[framework]
    environment = {**os.environ, "LLM_URL": llm, "LLM_GUARD_DISABLED": "0" if guarded else "1"}
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    port = listener.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", application, "--chdir", str(directory), "--bind", f"fd://{listener.fileno()}",
         "--workers", str(workers), "--worker-class", "gthread", "--threads", str(threads), "--keep-alive", "75",
         "--log-level", "warning"],
        env=environment, pass_fds=[listener.fileno()],
        stderr=None if guarded else subprocess.DEVNULL)  # a traceback for each 500
    listener.close()
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, server)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(40)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < until and server.poll() is None:
        try:
            requests.get(url + "/no-such-page", timeout=5)
            return
        except requests.RequestException:
            time.sleep(0.05)
    raise RuntimeError("gunicorn did not start")


def run(framework: str, guarded: bool, chosen: argparse.Namespace, seed: int) -> Result:
    """One run: a fresh LLM, a fresh server, all clients at once."""
    result = Result(framework, "guarded" if guarded else "unguarded")
    statuses: Counter[str] = Counter()
    took: list[tuple[float, float]] = []  # when it came, and after how long, of answers
    lock = threading.Lock()
    with (cold_server_process(chosen.scenario, speed=chosen.speed, seed=seed) as llm,
          served(framework, llm, workers=chosen.workers, threads=chosen.threads, guarded=guarded) as url):
        begins = time.monotonic()
        ends = begins + chosen.seconds

        def client(number: int) -> None:
            session = requests.Session()
            session.headers["X-User"] = f"user {number}"
            asked = 0
            while (now := time.monotonic()) < ends:
                asked += 1
                try:
                    response = session.get(f"{url}/ask", params={"q": f"{number}-{asked}"}, timeout=ANSWERS_WITHIN)
                except requests.RequestException as error:
                    with lock:
                        statuses[type(error).__name__] += 1
                    continue
                came = time.monotonic()
                with lock:
                    statuses[str(response.status_code)] += 1
                    if response.ok:
                        took.append((came - begins, came - now))
                    if response.status_code == 503 and "Retry-After" not in response.headers:
                        result.silent_refusals += 1
                untold = chosen.pause if response.ok else max(1.0, chosen.pause)
                pause = float(response.headers.get("Retry-After", untold))
                time.sleep(max(0.0, min(pause, ends - came)))

        threads = [threading.Thread(target=client, args=(number,)) for number in range(chosen.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stats = requests.get(llm + "/stats", timeout=10).json()
    durations = sorted(seconds for _, seconds in took)
    result.answers, result.statuses = sum(at <= chosen.seconds for at, _ in took), dict(statuses)
    result.median = round(durations[len(durations) // 2], 2) if durations else 0.0
    result.longest = round(durations[-1], 2) if durations else 0.0
    result.calls, result.refused = stats["calls"], sum(stats["refusals"].values())
    seconds = Counter(int(at) for at, _ in took)
    result.by_second = [seconds[second] for second in range(int(chosen.seconds))]
    return result


def main() -> None:
    chosen = _options()
    facts = machine()
    print(f"{line_of(facts)}; {line_of(versions(('flask', 'django', 'gunicorn', 'requests')))}")
    print(f"\nscenario {chosen.scenario}, speed {chosen.speed:g}, {chosen.clients} clients, {chosen.seconds:g} s, "
          f"pause {chosen.pause:g} s, {chosen.workers} x {chosen.threads} threads\n\n{HEAD}", flush=True)
    results = []
    for seed in range(chosen.seed, chosen.seed + chosen.runs):
        for framework in chosen.frameworks:
            for guarded in (True, False):
                results.append(run(framework, guarded, chosen, seed))
                print(results[-1].row(), flush=True)
                if chosen.curve:
                    print(results[-1].by_second, flush=True)
    if chosen.json is not None:
        figures = {"machine": facts, "scenario": chosen.scenario, "speed": chosen.speed, "clients": chosen.clients,
                   "seconds": chosen.seconds, "runs": [asdict(result) for result in results]}
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frameworks", nargs="+", default=list(APPS), choices=list(APPS))
    parser.add_argument("--scenario", default="A")
    parser.add_argument("--speed", type=float, default=2.0)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--pause", type=float, default=5.0, help="seconds between an answer and the next request")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--curve", action="store_true", help="answers in each second too")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
