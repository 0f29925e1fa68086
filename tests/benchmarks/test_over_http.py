from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import requests

for library in ("tenacity", "pyrate_limiter", "botocore", "adaptive_concurrency"):  # they come with the extra "bench"
    pytest.importorskip(library)
HERE = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(HERE))

import over_http  # noqa: E402
from http_clients import WAYS, WholeSecondsRetry, said_by  # noqa: E402

from llm_guard.testing.server import scenario  # noqa: E402
from llm_guard.testing.server.stats import Reason  # noqa: E402
from llm_guard.testing.simulation import Setting  # noqa: E402
from llm_guard.testing.virtual_server import ServerFailed, ServerRefused, ServerTimeout  # noqa: E402

pytestmark = pytest.mark.figures


def refused(status: int, body: str = "{}", **headers: str) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    response._content = body.encode()
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return requests.HTTPError(response=response)


@pytest.mark.real
def test_it_prints_a_row_for_each_way_and_writes_the_same_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    run = subprocess.run([sys.executable, str(HERE / "over_http.py"), "--scenarios", "C", "--items", "60",
                          "--speed", "10", "--threads", "16", "--ways", "llm_guard", "tenacity pool",
                          "--json", str(file)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    rows = [line for line in run.stdout.splitlines() if line.startswith("| ")][1:]
    ours, pool = json.loads(file.read_text(encoding="utf-8"))["runs"]
    assert (ours["way"], pool["way"]) == ("llm_guard", "tenacity pool")
    assert ours["answered"] == 60
    assert 0 < pool["answered"] <= 60
    assert pool["refusals"] >= 1  # 16 at once, where 10 may
    for row, result in zip(rows, (ours, pool), strict=True):
        assert result["way"] in row
        assert f"| {result['calls'] / result['answered']:.3f} |" in row
        assert row.endswith(f"| {result['refusals']} |")
        assert result["refusals"] <= result["calls"] - result["answered"]


@pytest.mark.real
@pytest.mark.parametrize("way", [name for name in WAYS if name not in ("llm_guard", "tenacity pool")])
def test_each_way_brings_all_answers_of_a_server_that_never_refuses(way: str) -> None:
    result = over_http.run(way, Setting(scenario("E"), threads=4, speed=20.0), items=20, seed=0)
    assert result.answered == 20
    assert result.refusals == 0
    assert 20 <= result.calls < 30


@pytest.mark.parametrize(("answered", "shown"), [(1000, "100%"), (999, "99.9%"), (0, "0%")])
def test_a_share_is_rounded_down(answered: int, shown: str) -> None:
    result = over_http.Result("A", "urllib3 Retry", 1000, answered, 2000, 3, 1.0)
    assert result.row().split(" | ")[1] == shown


def test_a_refusal_over_http_is_read_as_the_strategies_in_virtual_time_are_told_it() -> None:
    loading = said_by(refused(503, '{"error": "Model m is currently loading", "estimated_time": 7.5}'))
    assert isinstance(loading, ServerRefused)
    assert (loading.reason, loading.hint) == (Reason.LOADING, 7.5)
    limited = said_by(refused(429, '{"error": "Rate limit reached"}', Retry_After="0.25"))
    assert isinstance(limited, ServerRefused)
    assert (limited.reason, limited.hint) == (Reason.LIMITED, 0.25)
    overload = said_by(refused(429, '{"error": "Model is overloaded", "error_type": "overloaded"}'))
    assert isinstance(overload, ServerRefused)
    assert (overload.reason, overload.hint) == (Reason.OVERLOAD, None)
    assert isinstance(said_by(refused(500)), ServerFailed)
    assert isinstance(said_by(requests.ConnectionError("reset")), ServerFailed)
    assert isinstance(said_by(requests.ReadTimeout("late")), ServerTimeout)
    wrong = refused(422)
    assert said_by(wrong) is wrong


def test_urllib3_gets_whole_seconds_and_keeps_its_dates() -> None:
    retries = WholeSecondsRetry(5)
    assert retries.parse_retry_after("0.25") == 1
    assert retries.parse_retry_after("3") == 3
    assert retries.parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
