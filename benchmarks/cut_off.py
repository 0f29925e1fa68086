"""Calls to a server that leaves many of them hanging: who has control back in time, and what is left of them.

    python benchmarks/cut_off.py [--calls 2000] [--small 200] [--peers 96] [--threads 32] [--timeout 2]
                                 [--cases NAME ...] [--ways NAME ...] [--markdown] [--json FILE]

Of the calls 30% go to where the server hangs: it drips a body for a minute, with and without TLS, or never answers the
handshake, sends no header, stalls in the midst of the body, or does not read what is uploaded. The others are answered
after 20 ms. The calls of both kinds, and as many bare waits of the same length as there are calls that hang, are made
by the same threads. Lateness is how long after its time a call that hangs gave control back; beside it stands that of
the bare waits of the same run. Three seconds after the last call it counts threads and sockets, and asks the server,
which is a process of its own, for its open connections and busy slots.

Dripping cases make `--calls` calls, the others `--small`; the ways of others make `--peers`, for a call of plain
requests may take all of the minute. Some twelve minutes by default.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import requests
import trustme
from func_timeout import FunctionTimedOut, func_timeout
from timing import line_of, machine, table, versions

from llm_guard import deadline, timeout
from llm_guard.clock import current
from llm_guard.llm import Session

HANGS = 0.3
LIBRARIES = ("requests", "urllib3", "func-timeout")
BODY = bytes(20_000_000)
#: Seconds after the last call at which is counted what is left.
AFTER = 3.0

#: A call that may hang.
Call = Callable[[], object]
#: Makes one call, within so many seconds if it can.
Bounded = Callable[[Call, float], object]


class Case(NamedTuple):
    """Where it hangs: a port of the server, and a path; `drips` cases make more calls."""

    port: str
    path: str
    drips: bool = False


CASES = {
    "drips for a minute": Case("http", "/drip", True),
    "drips, TLS": Case("https", "/drip", True),
    "handshake never answered": Case("mute", "/"),
    "headers never sent": Case("http", "/silent"),
    "stalls mid-body": Case("http", "/stall"),
    "upload that stalls": Case("http", "/upload"),
}


def _plain(call: Call, seconds: float) -> object:
    return call()


def _func_timeout(call: Call, seconds: float) -> object:
    return func_timeout(seconds, call)


class Way(NamedTuple):
    """How a call is bounded; `ours` are sessions of this project, of the others requests' own."""

    ours: bool
    bounded: Callable[[ThreadPoolExecutor], Bounded]


WAYS = {
    "@timeout, Session": Way(True, lambda pool: lambda call, seconds: timeout(seconds)(call)()),
    "@deadline, Session": Way(True, lambda pool: lambda call, seconds: deadline(seconds)(call)()),
    "requests, timeout=": Way(False, lambda pool: _plain),
    "func-timeout": Way(False, lambda pool: _func_timeout),
    "ThreadPoolExecutor": Way(False, lambda pool: lambda call, seconds: pool.submit(call).result(seconds)),
}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one way in one case. `late` and `bare` are seconds: the median, the 99th percentile, the most."""

    case: str
    way: str
    calls: int
    answered: int
    hung: int
    late: tuple[float, float, float]
    bare: tuple[float, float, float]
    threads: int
    sockets: int
    server_open: int
    server_busy: int

    @property
    def ratio(self) -> float:
        """The 99th percentile of the lateness over that of a bare wait."""
        return self.late[1] / self.bare[1]

    def row(self) -> list[str]:
        """Its line in the table."""
        late, bare = ([f"{1000 * seconds:.1f}" for seconds in of] for of in (self.late, self.bare))
        return [self.way, f"{self.answered} of {self.calls - self.hung}", str(self.hung), *late, bare[1],
                f"{self.ratio:.1f}", str(self.threads), str(self.sockets), str(self.server_open),
                str(self.server_busy)]


HEAD = ["way", "answered", "hung", "late ms: median", "p99", "most", "bare p99", "p99/bare", "threads left", "sockets",
        "server's", "its slots"]


class Server:
    """The process of `stuck_server.py`."""

    def __init__(self, ports: dict[str, int], authority: str) -> None:
        self.ports = ports
        self.authority = authority

    def url(self, case: Case) -> str:
        """Where the calls of a case hang."""
        return f"{'http' if case.port == 'http' else 'https'}://localhost:{self.ports[case.port]}{case.path}"

    def stats(self) -> dict[str, int]:
        """Its open connections and busy slots."""
        found: dict[str, int] = requests.get(f"http://127.0.0.1:{self.ports['http']}/stats", timeout=10).json()
        return found


@contextmanager
def served() -> Iterator[Server]:
    """A fresh server, with a certificate made for it."""
    with TemporaryDirectory() as directory:
        authority = trustme.CA()
        trusted, own = Path(directory, "authority.pem"), Path(directory, "server.pem")
        authority.cert_pem.write_to_path(str(trusted))
        authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(own))
        command = [sys.executable, str(Path(__file__).with_name("stuck_server.py"))]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(f"{own}\n")
                process.stdin.flush()
                yield Server(json.loads(process.stdout.readline()), str(trusted))
            finally:
                process.stdin.close()
                process.terminate()


def sockets() -> int:
    """Open sockets of this process."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return found


class Run:
    """One way in one case."""

    def __init__(self, case: Case, way: Way, server: Server, calls: int, threads: int, seconds: float) -> None:
        self._seconds = seconds
        self._url = server.url(case)
        self._good = server.url(Case("https" if case.port == "https" else "http", "/answer"))
        self._threads = threads
        self._pool = ThreadPoolExecutor(10 * threads)
        self._bounded = way.bounded(self._pool)
        self._session = Session() if way.ours else requests.Session()
        self._session.trust_env = False
        self._session.verify = server.authority
        adapter: Any = self._session.get_adapter(self._url)
        adapter.init_poolmanager(10, 2 * threads)
        hang = round(HANGS * calls)
        self._items = ["hang"] * hang + ["wait"] * hang + ["answer"] * (calls - hang)
        Random(1).shuffle(self._items)
        self.answered: list[bool] = []
        self.late: list[float] = []
        self.bare: list[float] = []

    def go(self) -> None:
        """Makes all calls."""
        threads = [threading.Thread(target=self._work) for _ in range(self._threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._session.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _work(self) -> None:
        while True:
            try:
                item = self._items.pop()
            except IndexError:
                return
            if item == "answer":
                self.answered.append(self._made(self._get))
                continue
            began = time.monotonic()
            if item == "wait":
                current().waiter().wait(self._seconds)
                self.bare.append(time.monotonic() - began - self._seconds)
            elif self._made(self._hang):
                raise SystemExit("A call that hangs was answered.")
            else:
                self.late.append(time.monotonic() - began - self._seconds)

    def _made(self, call: Call) -> bool:
        try:
            self._bounded(call, self._seconds)
        except (requests.RequestException, TimeoutError, FunctionTimedOut):
            return False
        return True

    def _get(self) -> object:
        return self._session.get(self._good, timeout=self._seconds).text

    def _hang(self) -> object:
        if self._url.endswith("/upload"):
            return self._session.post(self._url, data=BODY, timeout=self._seconds).text
        if self._session.get(self._url, timeout=self._seconds).text:  # dripped to its end
            raise TimeoutError
        return None


def apart(*run: str | float) -> Result:
    """`measure` in a process of its own: what others leave behind does not meet the next run."""
    command = [sys.executable, __file__, "--one", json.dumps(run)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    facts = json.loads(ended.stdout)
    return Result(**{**facts, "late": tuple(facts["late"]), "bare": tuple(facts["bare"])})


def measure(case_name: str, way_name: str, calls: int, threads: int, seconds: float) -> Result:
    """Runs it against a fresh server."""
    with served() as server:
        server.stats()
        before = threading.active_count(), sockets()
        run = Run(CASES[case_name], WAYS[way_name], server, calls, threads, seconds)
        run.go()
        time.sleep(AFTER)
        left = threading.active_count() - before[0], sockets() - before[1]
        stats = server.stats()
    return Result(case_name, way_name, calls, sum(run.answered), len(run.late), _spread(run.late), _spread(run.bare),
                  *left, stats["open"], stats["busy"])


def _spread(values: list[float]) -> tuple[float, float, float]:
    cuts = quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[98], max(values)


def main() -> None:
    chosen = _options()
    if chosen.one is not None:
        print(json.dumps(asdict(measure(*json.loads(chosen.one)))), flush=True)
        os._exit(0)  # what others have left behind would hold up the end for a minute
    facts = machine()
    print(f"{line_of(facts)}; {line_of(versions(LIBRARIES))}")
    print(f"{chosen.threads} threads, timeout {chosen.timeout:g} s; {100 * HANGS:g}% of the calls hang")
    results = []
    for case in chosen.cases:
        ended = []
        for way in chosen.ways:
            calls = chosen.calls if CASES[case].drips else chosen.small
            if not WAYS[way].ours:
                calls = min(calls, chosen.peers)
            ended.append(apart(case, way, calls, chosen.threads, chosen.timeout))
        results += ended
        print(f"\n{'## ' * chosen.markdown}{case}\n")
        print(table(HEAD, [result.row() for result in ended], markdown=chosen.markdown), flush=True)
    if chosen.json is not None:
        figures = {"machine": facts, "versions": versions(LIBRARIES), "threads": chosen.threads,
                   "timeout": chosen.timeout, "runs": [asdict(result) for result in results]}
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000, help="of this project's ways, where the server drips")
    parser.add_argument("--small", type=int, default=200, help="in the other cases")
    parser.add_argument("--peers", type=int, default=96, help="of the ways of others, at most")
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), metavar="NAME")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), metavar="NAME")
    parser.add_argument("--markdown", action="store_true", help="print the tables in Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
