"""Ctrl-C once and twice, SIGTERM, other early ends: what was answered is in the output, the rest comes later."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from commands import calls_of, command, environment, invoke, lines_of, write_lines

from llm_guard.cli.exits import Exit
from llm_guard.cli.outputs import Output
from llm_guard.mapping.journal.recording import Recording
from llm_guard.testing.cold_server import ColdServer, cold_server
from llm_guard.testing.server import Scenario
from llm_guard.testing.server.settings import Quota

pytestmark = pytest.mark.real

SLOW = Scenario("slow", slots=4, median=0.3, sigma=0.0)
NEVER = Scenario("never", slots=4, median=600.0, sigma=0.0)


def _prompts(tmp_path: Path, count: int = 200) -> Path:
    return write_lines(tmp_path / "in.jsonl", ({"prompt": str(n)} for n in range(count)))


def _run(arguments: list[object], act: Callable[[subprocess.Popen[str]], None]) -> tuple[int, str]:
    with subprocess.Popen(command(*arguments), env=environment(), stderr=subprocess.PIPE, text=True,
                          start_new_session=True) as running:
        assert running.stderr is not None
        act(running)
        said = running.stderr.read()
        return running.wait(30), said


def _wait_for(running: subprocess.Popen[str], words: str) -> None:
    assert running.stderr is not None
    assert any(words in line for line in running.stderr), f"it did not say {words!r}"


def _without_an_answer(tmp_path: Path, server: ColdServer) -> list[object]:
    """A run whose calls hang at the server."""
    return ["run", _prompts(tmp_path), "-o", tmp_path / "out.jsonl", "--url", server.url, "--model", "m", "--timeout",
            500]


def _wait_for_a_call(running: subprocess.Popen[str], server: ColdServer) -> None:
    _wait_for(running, " to m")
    while not calls_of(server):
        pass


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED)],
                         ids=["SIGINT", "SIGTERM"])
def test_the_first_lets_what_is_in_flight_end_and_the_same_command_goes_on(tmp_path: Path, number: signal.Signals,
                                                                          code: Exit) -> None:
    source, out = _prompts(tmp_path, 60), tmp_path / "out.jsonl"
    with cold_server(SLOW) as server:
        arguments = ["run", source, "-o", out, "--url", server.url, "--model", "m", "--workers", 4]

        def act(running: subprocess.Popen[str]) -> None:
            _wait_for(running, "first answer")
            running.send_signal(number)

        returned, said = _run(arguments, act)
        assert returned == code, said
        assert "what is in flight comes to its end" in said
        assert "the same command goes on" in said
        rows = lines_of(out)
        assert 0 < len(rows) < 60
        assert [row["answer"] for row in rows] == [f"echo: {row['index']}" for row in rows]  # and none with an error
        calls = calls_of(server)
        assert calls == len(rows)
    with cold_server("E", speed=50) as server:  # another port: the same model may have moved
        arguments[5] = server.url
        assert invoke(*arguments).exit_code == Exit.ANSWERED
        assert [row["answer"] for row in lines_of(out)] == [f"echo: {n}" for n in range(60)]
        assert calls_of(server) == 60 - calls


def test_the_second_cuts_off_what_is_in_flight(tmp_path: Path) -> None:
    with cold_server(NEVER) as server:
        arguments = _without_an_answer(tmp_path, server)

        def act(running: subprocess.Popen[str]) -> None:
            _wait_for_a_call(running, server)
            running.send_signal(signal.SIGINT)
            _wait_for(running, "what is in flight")
            running.send_signal(signal.SIGINT)

        returned, said = _run(arguments, act)
        assert returned == Exit.INTERRUPTED, said
        assert "Traceback" not in said


def test_one_while_a_server_is_waited_for(tmp_path: Path) -> None:
    arguments = ["run", _prompts(tmp_path), "-o", tmp_path / "out.jsonl", "--url", "http://127.0.0.1:1", "--model", "m",
                 "--server-wait", 500]

    def act(running: subprocess.Popen[str]) -> None:
        _wait_for(running, "cannot be reached")
        running.send_signal(signal.SIGINT)

    returned, said = _run(arguments, act)
    assert returned == Exit.INTERRUPTED, said
    assert "Traceback" not in said


def test_one_while_the_input_is_waited_for(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with cold_server("E", speed=50) as server:
        arguments = ["run", "-", "--input-format", "text", "-o", out, "--url", server.url, "--model", "m"]
        with subprocess.Popen(command(*arguments), env=environment(), stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True) as running:
            assert running.stdin is not None
            running.stdin.write("one\n")
            running.stdin.flush()
            while not server.stats()["successes"]:
                pass
            running.send_signal(signal.SIGINT)
            assert running.wait(30) == Exit.INTERRUPTED
    assert [row["answer"] for row in lines_of(out)] == ["echo: one"]


def test_a_quota_that_is_used_up_ends_it_at_once(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with cold_server(Scenario("quota", slots=8, median=0.02, sigma=0.0, quota=Quota(30))) as server:
        ran = invoke("run", _prompts(tmp_path), "-o", out, "--url", server.url, "--model", "m")
    assert ran.exit_code == Exit.STOPPED
    assert "quota" in ran.stderr
    answered = [row for row in lines_of(out) if row["answer"]]
    assert len(answered) == 30
    assert [row["answer"] for row in answered] == [f"echo: {row['index']}" for row in answered]
    assert {row["error"]["outcome"] for row in lines_of(out) if "error" in row} <= {"quota"}


def test_so_many_failures_end_it(tmp_path: Path) -> None:
    with cold_server(Scenario("bad", slots=8, median=0.02, sigma=0.0, noise=0.9)) as server:
        ran = invoke("run", _prompts(tmp_path), "-o", tmp_path / "out.jsonl", "--url", server.url, "--model", "m",
                     "--attempts", 1, "--failures", 5, "--ceiling", 20)
        assert calls_of(server) < 200
    assert ran.exit_code == Exit.STOPPED
    told = re.search(r"stopped, since \d+ items failed: (\d+) succeeded, (\d+) failed", ran.stderr)
    assert told is not None, ran.stderr
    rows = lines_of(tmp_path / "out.jsonl")
    assert [int(number) for number in told.groups()] == [
        sum("error" not in row for row in rows), sum("error" in row for row in rows)]


def test_a_stop_leaves_what_an_earlier_run_answered_further_on(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    with cold_server(Scenario("quota", slots=8, median=0.02, sigma=0.0, quota=Quota(12))) as server:
        arguments = ["run", source, "-o", out, "--url", server.url, "--model", "m"]
        write_lines(source, ({"prompt": f"late {n}"} for n in range(10)))
        assert invoke(*arguments).exit_code == Exit.ANSWERED
        write_lines(source, ({"prompt": f"{'late' if n >= 90 else 'new'} {n % 90}"} for n in range(100)))
        assert invoke(*arguments, "--workers", 2).exit_code == Exit.STOPPED
    answered = {row["index"]: row["answer"] for row in lines_of(out) if row["answer"]}
    assert [answered.get(90 + n) for n in range(10)] == [f"echo: late {n}" for n in range(10)]
    assert list(answered) == sorted(answered)
    assert len(answered) == 12


def test_sigterm_that_comes_twice_at_once_is_one(tmp_path: Path) -> None:
    with cold_server(SLOW) as server:
        arguments = ["run", _prompts(tmp_path, 60), "-o", tmp_path / "out.jsonl", "--url", server.url, "--model", "m",
                     "--workers", 4]

        def act(running: subprocess.Popen[str]) -> None:
            _wait_for(running, "first answer")
            running.send_signal(signal.SIGTERM)
            _wait_for(running, "what is in flight")
            running.send_signal(signal.SIGTERM)

        returned, said = _run(arguments, act)
        assert returned == Exit.TERMINATED, said
        assert "cut off" not in said
        assert len(lines_of(tmp_path / "out.jsonl")) == calls_of(server)


def test_again_and_again_it_ends_as_interrupted(tmp_path: Path) -> None:
    with cold_server(NEVER) as server:
        arguments = _without_an_answer(tmp_path, server)

        def act(running: subprocess.Popen[str]) -> None:
            _wait_for_a_call(running, server)
            for _ in range(3):
                running.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    running.wait(0.01)

        returned, said = _run(arguments, act)
        assert returned in (Exit.INTERRUPTED, -signal.SIGINT), said
        assert "uses this journal" not in said
        assert "Traceback" not in said


def test_one_that_comes_while_the_output_is_written_does_not_spoil_it(tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = _prompts(tmp_path, 20), tmp_path / "out.jsonl"
    commit = Output.commit

    def committed(output: Output) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        commit(output)

    monkeypatch.setattr(Output, "commit", committed)
    with cold_server("E", speed=50) as server:
        ran = invoke("run", source, "-o", out, "--url", server.url, "--model", "m")
        assert ran.exit_code == Exit.ANSWERED, ran.stderr
        assert len(lines_of(out)) == 20


def test_a_third_one_leaves_the_output_as_it_was_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = _prompts(tmp_path, 20), tmp_path / "out.jsonl"

    def committed(output: Output) -> None:
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)

    with cold_server("E", speed=50) as server:
        arguments = ["run", source, "-o", out, "--url", server.url, "--model", "m"]
        with monkeypatch.context() as patch:
            patch.setattr(Output, "commit", committed)
            ran = invoke(*arguments)
        assert ran.exit_code == Exit.INTERRUPTED, ran.stderr
        assert f"interrupted; {out} is as it was before: the same command makes it anew" in ran.stderr
        assert not out.exists()
        calls = calls_of(server)
        assert invoke(*arguments).exit_code == Exit.ANSWERED
        assert (len(lines_of(out)), calls_of(server)) == (20, calls)


def test_a_stop_reads_the_input_no_further_than_there_are_answers(tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    looked: list[int] = []
    look = Recording.look

    def counted(recording: Recording[Any, Any], index: int, item: Any) -> Any:
        looked.append(index)
        return look(recording, index, item)

    monkeypatch.setattr(Recording, "look", counted)
    with cold_server(Scenario("quota", slots=8, median=0.02, sigma=0.0, quota=Quota(12))) as server:
        arguments = ["run", source, "-o", out, "--url", server.url, "--model", "m", "--workers", 2]
        write_lines(source, ({"prompt": f"late {n}"} for n in range(3)))
        assert invoke(*arguments).exit_code == Exit.ANSWERED
        write_lines(source, ({"prompt": f"{'late' if 90 <= n < 93 else 'new'} {n % 90}"} for n in range(1000)))
        assert invoke(*arguments).exit_code == Exit.STOPPED
        assert looked == list(range(93))
        assert sum(row["answer"] is not None for row in lines_of(out)) == 12
        looked.clear()
        write_lines(source, ({"prompt": f"late {n}" if n < 3 else f"new {n - 3}"} for n in range(1000)))
        assert invoke(*arguments).exit_code == Exit.STOPPED
        assert looked == []
