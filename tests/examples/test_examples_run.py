"""The examples, run as a user runs them: at high speed, on few items."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llm_guard.testing.cold_server import cold_server

HERE = Path(__file__).parents[2] / "examples"

pytestmark = [pytest.mark.real, pytest.mark.once]


def run(script: str, *options: str, stdin: str = "", path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`path`: a directory of modules that come before all others."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run([sys.executable, str(HERE / script), *options], input=stdin, capture_output=True, text=True,
                          env=environment, timeout=60)


def table(printed: str) -> dict[str, list[str]]:
    """The demo's table: for each row llm_guard's value and the plain pool's."""
    lines = printed.splitlines()
    head = next(number for number, line in enumerate(lines) if line.split() == ["llm_guard", "plain", "pool"])
    rows = lines[head + 1:lines.index("", head)]
    return {row[:18].strip(): [row[18:32].strip(), row[32:].strip()] for row in rows}


def test_the_demo_answers_all_and_its_table_adds_up(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ended = run("demo/main.py", "--items", "12", "--scenario", "A5", "--speed", "50",
                "--picture", str(tmp_path / "new" / "demo"))
    assert ended.returncode == 0, ended.stderr
    rows = table(ended.stdout)
    assert rows["answered"][0] == "12 of 12"
    for answered, per_answer, refusals, seconds in zip(
            rows["answered"], rows["calls per answer"], rows["refusals"], rows["seconds"], strict=True):
        count = int(answered.split()[0])
        # This scenario has no failures: a call that was not refused was answered.
        assert float(per_answer) == pytest.approx(1 + int(refusals) / count, abs=0.01)
        assert float(seconds) > 4.5 / 50  # it loads first
    assert "llm_guard 12 of 12" in ended.stdout
    assert (tmp_path / "new" / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (tmp_path / "new" / "demo.svg").read_text(encoding="utf-8")


def test_the_demo_ends_with_status_1_for_a_wrong_answer_and_goes_on_without_matplotlib(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('hidden')", encoding="utf-8")
    # A site hook that makes the server echo one prompt wrongly.
    (tmp_path / "sitecustomize.py").write_text(
        "import llm_guard.testing.virtual_server as server\n"
        "right = server.answer_to\n"
        "server.answer_to = lambda prompt: right('another' if ' 3 ' in prompt else prompt)\n", encoding="utf-8")
    ended = run("demo/main.py", "--items", "5", "--scenario", "A5", "--speed", "50",
                "--picture", str(tmp_path / "demo"), path=tmp_path)
    assert ended.returncode == 1, ended.stderr
    assert table(ended.stdout)["answered"] == ["5 of 5", "5 of 5"]
    assert "llm_guard 4 of 5, plain pool 4 of 5" in ended.stdout
    assert "pip install matplotlib" in ended.stdout
    assert not list(tmp_path.glob("demo.*"))


def test_the_toy_answers_all_where_its_first_form_does_not_and_a_seed_fixes_it() -> None:
    ended = run("cold_start_pipeline.py", "--runs", "5")
    assert ended.returncode == 0, ended.stderr
    rows = ended.stdout.splitlines()[2:]
    first_form = [int(row.split()[1]) for row in rows]
    guarded = [int(row.split()[6]) for row in rows]
    assert guarded == [100] * 5
    assert min(first_form) < 100
    assert run("cold_start_pipeline.py", "--runs", "1", "--seed", "4").stdout.splitlines()[2] == rows[4]


def test_the_decorated_requests_function_is_answered_by_its_own_server_and_by_a_given_one() -> None:
    with cold_server("A5", speed=50) as server:
        given = run("decorate_requests.py", server.url)
        assert server.stats()["successes"] == 2
    own = run("decorate_requests.py")
    for ended in (given, own):
        assert ended.returncode == 0, ended.stderr
        for line in ended.stdout.splitlines():
            prompt, answer = line.split(" -> ")
            assert answer == f"echo: {prompt}"
        assert len(ended.stdout.splitlines()) == 2


def test_the_openai_client_is_answered_by_its_own_server_and_by_a_given_one() -> None:
    pytest.importorskip("openai")
    with cold_server("A5", speed=50, api="openai") as server:
        given = run("openai_client.py", "--url", server.url + "/v1", "--model", "m")
        assert server.stats()["successes"] == 21
    for ended in (given, run("openai_client.py")):
        assert ended.returncode == 0, ended.stderr
        *whole, streamed = ended.stdout.splitlines()
        assert whole == [f"What is {number} squared? -> echo: What is {number} squared?" for number in range(20)]
        assert streamed == "echo: What is a cold start?"


def test_prompts_of_a_file_come_out_as_json_lines_in_order(tmp_path: Path) -> None:
    prompts = [f'number {number}, "quoted", é' for number in range(20)]
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(prompts) + "\n", encoding="utf-8")
    with cold_server("A5", speed=50) as server:
        ended = run("map_prompts.py", "my/model", str(file), "--url", server.url)
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert lines == [{"prompt": prompt, "answer": f"echo: {prompt}"} for prompt in prompts]


def test_of_the_prompts_on_stdin_one_that_cannot_be_answered_becomes_an_error_line() -> None:
    too_long = "x" * (1 << 20)  # more than the server takes
    with cold_server("A5", speed=50) as server:
        ended = run("map_prompts.py", "my/model", "--url", server.url, stdin=f"one\n{too_long}\nthree\n")
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.returncode == 1
    assert [line.get("answer", line.get("error")) for line in lines] == ["echo: one", "HTTPError", "echo: three"]
