"""What the sources of `steer` read, of servers that answer as Prometheus and Graphite do, and of StatsD's datagrams."""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from llm_guard import ConfigError, ramp_up
from llm_guard.telemetry.measure import value_of
from llm_guard.telemetry.sources import NoMeasure, graphite, prometheus, statsd
from llm_guard.telemetry.sources.timings import Timings
from llm_guard.telemetry.steer import steer

SECRET = "s3cret"


class Metrics(ThreadingHTTPServer):
    """Answers each request by `answer(path, parameters)`: a status and a body; keeps the headers it saw."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.answer: Callable[[str, dict[str, str]], tuple[int, str]] = lambda path, parameters: (404, "")
        self.headers: list[dict[str, str]] = []

    def gives(self, given: Any, status: int = 200) -> None:
        self.answer = lambda path, parameters: (status, given if isinstance(given, str) else json.dumps(given))


class _Handler(BaseHTTPRequestHandler):
    server: Metrics

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.server.headers.append(dict(self.headers))
        status, body = self.server.answer(parts.path, {name: values[0] for name, values in
                                                       parse_qs(parts.query).items()})
        self.send_response(status)
        if status == 302:
            self.send_header("Location", body)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    server = Metrics()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def vector(*values: str) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "vector", "result": [
        {"metric": {"n": str(number)}, "value": [1000.5, value]} for number, value in enumerate(values)]}}


def of(kind: str, result: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": kind, "result": result}}


@pytest.mark.real
@pytest.mark.parametrize(("answer", "value"), [(vector("1.25"), 1.25), (of("scalar", [1000.5, "0.3"]), 0.3)],
                         ids=["vector", "scalar"])
def test_prometheus_gives_the_value_of_one_series(metrics: Metrics, answer: Any, value: float) -> None:
    asked: list[tuple[str, dict[str, str]]] = []

    def answers(path: str, parameters: dict[str, str]) -> tuple[int, str]:
        asked.append((path, parameters))
        return 200, json.dumps(answer)

    metrics.answer = answers
    assert prometheus(metrics.url + "/behind/", 'sum(x{a="b&c"}) + 1')() == value
    assert asked == [("/behind/api/v1/query", {"query": 'sum(x{a="b&c"}) + 1'})]


@pytest.mark.real
@pytest.mark.parametrize(("answer", "status", "why"), [
    (vector(), 200, "no data"), (vector("1", "2", "3"), 200, "3 series where one is needed: aggregate"),
    (of("matrix", []), 200, "a matrix where one value"), (of("string", [1, "x"]), 200, "a string where"),
    ({"status": "error", "error": "parse error: " + SECRET}, 200, "could not answer the query"),
    ({"status": "error", "error": SECRET}, 400, "HTTP 400"), ("busy " + SECRET, 503, "HTTP 503"),
    ("<html>", 200, "not JSON"), ("[" * 100_000, 200, "not JSON"), ("{}", 200, "none of Prometheus's"),
    ("[]", 200, "none of Prometheus's"), ("null", 200, "none of Prometheus's"),
    (of("vector", [{"value": [1, "many"]}]), 200, "none of Prometheus's"),
    (of("vector", [{"histogram": []}]), 200, "none of Prometheus's"), ("x" * (2 << 20), 200, "more than"),
    ("http://127.0.0.1:9/", 302, "HTTP 302")],
    ids=["empty", "several", "matrix", "string", "error", "400", "503", "html", "deep", "object", "list", "null",
         "text", "histogram", "huge", "redirect"])
def test_what_prometheus_cannot_give_has_a_reason_without_its_words(metrics: Metrics, answer: Any, status: int,
                                                                   why: str) -> None:
    metrics.gives(answer, status)
    with pytest.raises(NoMeasure, match=why) as caught:
        prometheus(metrics.url, "x", auth=("user", SECRET))()
    assert SECRET not in repr(caught.value)


@pytest.mark.real
def test_nan_is_no_measure(metrics: Metrics) -> None:
    metrics.gives(vector("NaN"))
    with pytest.raises(NoMeasure, match="not a number"):
        value_of(prometheus(metrics.url, "x")(), 0, 10)


@pytest.mark.real
def test_what_authorizes_is_sent_and_follows_no_redirect(metrics: Metrics) -> None:
    metrics.gives(vector("1"))
    prometheus(metrics.url, "x", auth=("user", SECRET))()
    prometheus(metrics.url, "x", headers={"Authorization": "Bearer " + SECRET, "X-Scope-OrgID": "7"})()
    assert metrics.headers[0]["Authorization"] == "Basic dXNlcjpzM2NyZXQ="
    assert metrics.headers[1]["Authorization"] == "Bearer " + SECRET
    metrics.headers.clear()
    metrics.gives(metrics.url + "/elsewhere", 302)
    with pytest.raises(NoMeasure):
        prometheus(metrics.url, "x", auth=("user", SECRET))()
    assert len(metrics.headers) == 1


@pytest.mark.real
def test_the_age_of_the_newest_sample_is_told_by_the_servers_own_clock(metrics: Metrics) -> None:
    metrics.answer = lambda path, parameters: (200, json.dumps(vector(
        "960.5" if parameters["query"] == "newest" else "2")))  # at 1000.5
    before = time.time()
    value, at = prometheus(metrics.url, "x", newest="newest")()  # type: ignore[misc]
    assert value == 2
    assert before - 40 <= at <= time.time() - 40


@pytest.mark.real
def test_a_server_that_is_gone_or_says_nothing_is_no_measure() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(NoMeasure, match="no answer"):
            prometheus(url, "x", timeout=0.2)()
        silent.listen()
        with pytest.raises(NoMeasure, match=r"no answer within 0\.2 s"):
            prometheus(url, "x", timeout=0.2)()


@pytest.mark.parametrize(("query", "window"), [
    ("sum(rate(s[1m])) / sum(rate(c[1m]))", 60), ("rate(s[1h30m]) / rate(c[5m])", 5400),
    ("avg_over_time(x[500ms])", 0.5),
    ("max_over_time(rate(x[1m])[10m:30s])", 600), ('x{a="[b]"}', None), ("x", None)])
def test_the_window_is_the_longest_range_of_the_query(query: str, window: float | None) -> None:
    assert prometheus("http://localhost:9090", query).window == window


@pytest.mark.parametrize("url", ["localhost:9090", "file:///etc/passwd", "http://", "ftp://a", 3,
                                 f"http://u:{SECRET}@a", f"http://a?token={SECRET}", "http://a:99999"])
def test_an_address_that_cannot_work_is_refused_and_no_secret_shown(url: Any) -> None:
    for source in (prometheus, graphite):
        with pytest.raises(ConfigError, match="url") as caught:
            source(url, "x")
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("options", [{"query": ""}, {"query": None}, {"newest": " "}, {"timeout": 0}, {"auth": "user"},
                                     {"headers": {"A": "b\r\nC: d"}}, {"headers": {"A": 3}}],
                         ids=lambda options: next(iter(options)) + str(len(str(options))))
def test_options_of_prometheus_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        prometheus("http://localhost", **{"query": "x", **options})


@pytest.mark.real
def test_graphite_gives_the_newest_point_that_is_not_empty_with_its_time(metrics: Metrics) -> None:
    asked: list[tuple[str, dict[str, str]]] = []

    def answers(path: str, parameters: dict[str, str]) -> tuple[int, str]:
        asked.append((path, parameters))
        return 200, json.dumps([{"target": "t", "datapoints": [[1.0, 10], [2.5, 20], [None, 30], [None, 40]]}])

    metrics.answer = answers
    assert graphite(metrics.url, "stats.timers.a.mean", back=300)() == (2.5, 20.0)
    assert asked == [("/render", {"target": "stats.timers.a.mean", "format": "json", "from": "-300s"})]


@pytest.mark.real
@pytest.mark.parametrize(("answer", "why"), [
    ([], "no series"), ([{"datapoints": []}], "all points are empty"), ([{"datapoints": [[None, 1]]}], "all points"),
    ([{"datapoints": [[1, 1]]}] * 2, "2 series where one is needed"), ({"a": 1}, "none of Graphite's"),
    ([3], "none of Graphite's"), ([{"datapoints": [["x", 1]]}], "none of Graphite's"), ("no", "not JSON")],
    ids=["no series", "no points", "empty", "several", "object", "numbers", "text", "no JSON"])
def test_what_graphite_cannot_give_has_a_reason(metrics: Metrics, answer: Any, why: str) -> None:
    metrics.gives(answer)
    with pytest.raises(NoMeasure, match=why):
        graphite(metrics.url, "x")()


def test_secrets_are_in_no_repr() -> None:
    for source in (prometheus("http://a", "x", auth=("u", SECRET)), graphite("http://a", "x", auth=("u", SECRET))):
        assert SECRET not in repr(source)


@pytest.mark.parametrize(("datagrams", "mean"), [
    ([b"a:100|ms"], 0.1), ([b"a:100|ms\na:300|ms\n"], 0.2), ([b"a:100:300|ms"], 0.2),
    ([b"a:100|ms", b"a:500|ms|#x:y"], 0.3), ([b"a:100|ms|@0.1", b"a:1200|ms"], 0.2), ([b"a:1e3|ms"], 1.0),
    ([b"a:100|c", b"a:1|g", b"ab:1|ms", b"b:1|ms"], None),
    ([b"", b"\xff\xfe", b"a", b"a:", b"a:x|ms", b"a:|ms", b"a:nan|ms", b"a:inf|ms", b"a:-1|ms", b"a:1|ms|@0",
      b"a:1|ms|@x", b":::|||"], None)],
    ids=["one", "lines", "values", "tags", "sampled", "float", "others", "nonsense"])
def test_timings_are_read_as_statsd_writes_them(datagrams: list[bytes], mean: float | None) -> None:
    timings = Timings("a", 60)
    for datagram in datagrams:
        timings.hear(5.0, datagram)
    assert timings.mean(5.0) == (mean if mean is None else pytest.approx(mean))


def test_timings_count_for_the_window_and_no_longer_and_take_no_more_room() -> None:
    timings = Timings("a", 60)
    timings.hear(0.0, b"a:900|ms")
    for second in range(30, 50):
        for _ in range(100):
            timings.hear(second, b"a:100|ms")
    assert timings.mean(58.9) == pytest.approx((0.9 + 2000 * 0.1) / 2001)
    assert timings.mean(61.0) == pytest.approx(0.1)
    assert timings.mean(111.0) is None
    for second in range(100_000):
        timings.hear(second, b"a:100|ms")
    assert len(timings._parts) <= 61


@pytest.mark.real
def test_a_statsd_client_is_heard() -> None:
    client = pytest.importorskip("statsd")
    with statsd("app.request", port=0) as source:
        with pytest.raises(NoMeasure, match="no data"):
            source()
        sender = client.StatsClient("127.0.0.1", source.port, prefix="app")
        for milliseconds in (100, 300):
            sender.timing("request", milliseconds)
        sender.timing("other", 5000)
        until = time.monotonic() + 5
        mean = math.nan
        while time.monotonic() < until and mean != pytest.approx(0.2):
            try:
                mean = source()
            except NoMeasure:
                time.sleep(0.01)
        assert mean == pytest.approx(0.2)
        assert source.window == 60


@pytest.mark.real
def test_a_listener_closes_its_port_and_a_taken_one_is_refused() -> None:
    with statsd("a", port=0) as source, pytest.raises(ConfigError, match="port"):
        statsd("a", port=source.port)
    with statsd("a", port=source.port) as again:
        assert again.port == source.port
    source.close()


@pytest.mark.real
def test_a_listener_that_is_dropped_closes_its_port() -> None:
    source = statsd("a", port=0)
    port = source.port
    del source
    until = time.monotonic() + 5
    while True:
        try:
            return statsd("a", port=port).close()
        except ConfigError:
            assert time.monotonic() < until
            time.sleep(0.01)


@pytest.mark.real
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_hears_too() -> None:
    code = """
import os, socket, time
from llm_guard.telemetry.sources import NoMeasure, statsd
source = statsd("a", port=0)
child = os.fork()
if child:
    source.close()  # so that the child alone is left
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
            sender.sendto(b"a:500|ms", ("127.0.0.1", source.port))
            time.sleep(0.02)
    print("heard" if ended[1] == 0 else ended)
else:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            os._exit(source() != 0.5)
        except NoMeasure:
            time.sleep(0.02)
    os.abort()
"""
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=30)
    assert (ended.stdout, ended.stderr) == ("heard\n", "")


@pytest.mark.parametrize("options", [{"name": ""}, {"name": "a:b"}, {"host": ""}, {"port": -1}, {"window": 0}],
                         ids=lambda options: next(iter(options)) + str(len(str(options))))
def test_options_of_statsd_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        statsd(**{"name": "a", "port": 0, **options})


@pytest.mark.real
def test_no_secret_is_logged_by_a_source_that_is_steered_by(metrics: Metrics,
                                                           caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    metrics.gives("no " + SECRET, 503)
    pace = ramp_up(ceiling=1000)
    ask = pace(lambda: time.sleep(0.01))
    with steer(pace, prometheus(metrics.url, "x", auth=("u", SECRET)), every=0.05, stale_after=0.1) as handle:
        until = time.monotonic() + 5
        while handle.statistics().state != "holding" and time.monotonic() < until:
            ask()
        assert handle.statistics().why == "HTTP 503"
    assert SECRET not in caplog.text
