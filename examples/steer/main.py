"""Metrics steer the throttle: a real Prometheus scrapes this process, and its mean response time sets a ramp's ceiling.

    python examples/steer/main.py            # 40 s; needs prometheus on the PATH, and prometheus-client

A server loads, is then weak for a while (2 of its 8 slots), and recovers; at the end Prometheus is killed. 16 callers
always want an answer. Each second a line: the mean over the last 4 s as Prometheus tells it, the ceiling, what the
callers get, and what steering does. The ceiling goes down while the mean is above its target, up again when the server
has recovered, and stays where it was when Prometheus is gone; the calls go on.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import threading
import time
from collections.abc import Callable

from prometheus_client import Histogram, start_http_server
from prometheus_process import Missing, prometheus_process

from llm_guard import bounded, ramp_up, retry
from llm_guard.llm import huggingface
from llm_guard.telemetry.sources import prometheus
from llm_guard.telemetry.steer import SteerStatistics, steer
from llm_guard.testing.cold_server import cold_server
from llm_guard.testing.server import Scenario
from llm_guard.testing.server.settings import Load, Spell

TARGET = 0.35
QUERY = "sum(rate(ask_seconds_sum[4s])) / sum(rate(ask_seconds_count[4s]))"
CALLERS = 16
#: Seconds from the first call on: the server is loaded, it recovers, Prometheus is killed, the end.
LOADED, RECOVERS, KILLED, END = 2.0, 19.0, 31.0, 37.0

SERVER = Scenario("weak", slots=8, median=0.2, sigma=0.2, load=Load(LOADED, spread=0.0),
                  spells=(Spell(0.0, RECOVERS, 0.25),))

seconds = Histogram("ask_seconds", "How long an answer took", buckets=(0.1, 0.2, 0.5, 1, 2, 5))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print each line as JSON")
    as_json = parser.parse_args().json
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    metrics, _ = start_http_server(0, "127.0.0.1")
    try:
        with (cold_server(SERVER) as server,
              prometheus_process(f"127.0.0.1:{metrics.server_port}") as process):
            show(server.url, process.url, process.kill, as_json)
    except Missing as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        metrics.shutdown()
    return 0


def show(server: str, metrics: str, kill: Callable[[], None], as_json: bool) -> None:
    call = huggingface("my/model", url=server)

    @ramp_up
    @bounded(CALLERS)
    @retry
    def ask(prompt: str) -> str:
        with seconds.time():
            return call(prompt)

    answers, over = [0], threading.Event()

    def caller() -> None:
        while not over.is_set():
            ask("What is backpressure?")
            answers[0] += 1

    with steer(ask, prometheus(metrics, QUERY), TARGET, every=1, step=(0.6, 1.3), stale_after=3) as steering:
        callers = [threading.Thread(target=caller) for _ in range(CALLERS)]
        for thread in callers:
            thread.start()
        began, before, killed = time.monotonic(), 0, False
        for second in range(1, int(END) + 1):
            time.sleep(max(0.0, began + second - time.monotonic()))
            if second > KILLED and not killed:
                kill()
                killed = True
            got, before = answers[0] - before, answers[0]
            print(line(second, got, steering.statistics(), as_json), flush=True)
        over.set()
        for thread in callers:
            thread.join()


def phase(second: float) -> str:
    if second <= LOADED:
        return "loads"
    if second <= RECOVERS:
        return "weak"
    return "strong" if second <= KILLED else "no metrics"


def line(second: int, answers: int, shown: SteerStatistics, as_json: bool) -> str:
    if as_json:
        return json.dumps({"second": second, "phase": phase(second), "measure": shown.measure,
                           "ceiling": shown.ceiling, "answers": answers, "state": shown.state, "why": shown.why})
    mean = "  -  " if shown.measure is None else f"{shown.measure:.2f} s"
    ceiling = "none" if shown.ceiling is None else f"{shown.ceiling:.1f}/s"
    return (f"{second:3d} s  {phase(second):<10}  mean {mean}  ceiling {ceiling:>6}  {answers:3d} answers  "
            f"{shown.state}: {shown.why}")


if __name__ == "__main__":
    sys.exit(main())
