"""A run that goes on where an earlier one ended, and what keeps it from doing so."""

from __future__ import annotations

import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import calls_of, command, environment, invoke, lines_of, process, write_lines

from llm_guard.cli.exits import Exit
from llm_guard.testing.cold_server import ColdServer, cold_server
from llm_guard.testing.server import Scenario

pytestmark = pytest.mark.real


@pytest.fixture
def server() -> Iterator[ColdServer]:
    with cold_server("E", speed=50) as server:
        yield server


def _prompts(path: Path, *prompts: str) -> Path:
    return write_lines(path, ({"prompt": prompt} for prompt in prompts))


def _answers(path: Path) -> list[Any]:
    return [row["answer"] for row in lines_of(path)]


def test_the_same_command_again_makes_the_output_anew_without_a_call(server: ColdServer, tmp_path: Path) -> None:
    source, out = _prompts(tmp_path / "in.jsonl", *map(str, range(20))), tmp_path / "out.jsonl"
    arguments = ("run", source, "-o", out, "--url", server.url, "--model", "m")
    first = invoke(*arguments)
    assert first.exit_code == Exit.ANSWERED, first.output
    before, calls = out.read_text(), calls_of(server)
    out.unlink()
    assert invoke(*arguments).exit_code == Exit.ANSWERED
    assert out.read_text() == before
    assert invoke(*arguments).exit_code == Exit.ANSWERED  # and over its own output
    assert calls_of(server) == calls


def test_answers_are_known_by_what_was_asked_so_the_input_may_change(server: ColdServer, tmp_path: Path) -> None:
    source, out = _prompts(tmp_path / "in.jsonl", "a", "b", "b", "c"), tmp_path / "out.jsonl"
    arguments = ("run", source, "-o", out, "--url", server.url, "--model", "m")
    assert invoke(*arguments).exit_code == Exit.ANSWERED
    calls = calls_of(server)
    _prompts(source, "new", "c", "b", "b", "a")
    assert invoke(*arguments).exit_code == Exit.ANSWERED
    assert _answers(out) == ["echo: new", "echo: c", "echo: b", "echo: b", "echo: a"]
    assert calls_of(server) == calls + 1


def test_rows_with_an_error_are_asked_again(server: ColdServer, tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"prompt": "a"}\nnothing\n{"prompt": "c"}\n')
    arguments = ("run", source, "-o", out, "--url", server.url, "--model", "m", "--keep-going")
    assert invoke(*arguments).exit_code == Exit.FAILED_ITEMS
    calls = calls_of(server)
    source.write_text('{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "c"}\n')
    assert invoke(*arguments).exit_code == Exit.ANSWERED
    assert _answers(out) == ["echo: a", "echo: b", "echo: c"]
    assert calls_of(server) == calls + 1


@pytest.mark.parametrize(("options", "says"), [
    (["--model", "other"], "another --model"), (["--parameters", '{"a": 1}'], "another --parameters"),
    (["--format", "openai"], "another --format and --endpoint")])
def test_a_journal_of_other_answers_is_refused_and_left_alone(server: ColdServer, tmp_path: Path, options: list[str],
                                                             says: str) -> None:
    source, out = _prompts(tmp_path / "in.jsonl", "a"), tmp_path / "out.jsonl"
    arguments = ["run", source, "-o", out, "--url", server.url, "--model", "m"]
    assert invoke(*arguments).exit_code == Exit.ANSWERED
    before = out.read_text()
    ran = invoke(*arguments, *options)
    assert ran.exit_code == Exit.FILES
    assert says in ran.stderr
    assert str(out) in ran.stderr
    assert out.read_text() == before


def test_after_a_first_try_with_a_wrong_model_the_right_one_can_be_asked(server: ColdServer, tmp_path: Path) -> None:
    source, out = _prompts(tmp_path / "in.jsonl", *map(str, range(20))), tmp_path / "out.jsonl"
    arguments = ["run", source, "-o", out, "--url"]
    wrong = invoke(*arguments, f"{server.url}/nowhere", "--model", "wrong")
    assert wrong.exit_code == Exit.STOPPED
    assert invoke(*arguments, server.url, "--model", "m").exit_code == Exit.ANSWERED
    assert len(_answers(out)) == 20


def test_an_output_of_another_run_is_left_alone_though_there_is_a_journal(server: ColdServer, tmp_path: Path) -> None:
    source, out, other = _prompts(tmp_path / "in.jsonl", "a"), tmp_path / "out.jsonl", tmp_path / "other.jsonl"
    arguments = ["run", source, "--url", server.url, "--model", "m", "--journal", tmp_path / "journal", "-o"]
    assert invoke(*arguments, out).exit_code == Exit.ANSWERED
    other.write_text("mine")
    ran = invoke(*arguments, other)
    assert ran.exit_code == Exit.FILES
    assert f"{other} exists, and is not the output of" in ran.stderr
    assert other.read_text() == "mine"
    calls = calls_of(server)
    assert invoke(*arguments, other, "--force").exit_code == Exit.ANSWERED
    assert (_answers(other), calls_of(server)) == (["echo: a"], calls)


def test_output_and_journal_may_move_together(server: ColdServer, tmp_path: Path) -> None:
    source = _prompts(tmp_path / "in.jsonl", "a")
    (tmp_path / "old").mkdir()
    arguments = ["run", source, "--url", server.url, "--model", "m", "-o"]
    assert invoke(*arguments, tmp_path / "old" / "out.jsonl").exit_code == Exit.ANSWERED
    (tmp_path / "old").rename(tmp_path / "new")
    calls = calls_of(server)
    assert invoke(*arguments, tmp_path / "new" / "out.jsonl").exit_code == Exit.ANSWERED
    assert calls_of(server) == calls


@pytest.mark.parametrize("make", [lambda path: path.write_text("a text that is no journal" * 50), Path.mkdir],
                         ids=["text", "folder"])
def test_what_is_no_journal_is_named_and_left_alone(server: ColdServer, tmp_path: Path, make: Any) -> None:
    source, path = _prompts(tmp_path / "in.jsonl", "a"), tmp_path / "journal"
    make(path)
    before = sorted(tmp_path.rglob("*"))
    ran = invoke("run", source, "-o", tmp_path / "out", "--url", server.url, "--model", "m", "--journal", path)
    assert ran.exit_code == Exit.FILES
    assert str(path) in ran.stderr
    assert sorted(tmp_path.rglob("*")) == before
    assert calls_of(server) == 0


def test_a_journal_that_cannot_be_made_is_told_before_anything_is_sent(server: ColdServer, tmp_path: Path) -> None:
    ran = invoke("run", _prompts(tmp_path / "in.jsonl", "a"), "-o", tmp_path / "out", "--url", server.url, "--model",
                 "m", "--journal", "/proc/journal")
    assert ran.exit_code == Exit.FILES
    assert "/proc/journal" in ran.stderr
    assert calls_of(server) == 0


def test_a_disk_that_is_full_loses_nothing(server: ColdServer, tmp_path: Path) -> None:
    """As root too: a limit on the size of files stands for the disk."""
    source, out = _prompts(tmp_path / "in.jsonl", *("p" * 2000 + str(n) for n in range(90))), tmp_path / "out.jsonl"
    arguments = ("run", source, "-o", out, "--url", server.url, "--model", "m")

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    full = process(*arguments, preexec_fn=small_files)
    assert full.returncode == Exit.FILES, full.stderr
    assert str(tmp_path).encode() in full.stderr
    assert b"Traceback" not in full.stderr
    assert not out.exists()
    calls = calls_of(server)
    assert invoke(*arguments).exit_code == Exit.ANSWERED
    assert _answers(out) == [f"echo: {'p' * 2000}{n}" for n in range(90)]
    assert calls_of(server) - calls < 90  # what was recorded is not asked again


def test_a_second_run_with_the_same_journal_is_refused_while_the_first_goes_on(server: ColdServer,
                                                                              tmp_path: Path) -> None:
    source, out = _prompts(tmp_path / "in.jsonl", *map(str, range(200))), tmp_path / "out.jsonl"
    arguments = ("run", source, "-o", out, "--url", server.url, "--model", "m", "--ceiling", 20)
    with subprocess.Popen(command(*arguments), env=environment(), stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        next(line for line in first.stderr if "first answer" in line)
        second = invoke(*arguments)
        first.kill()
    assert second.exit_code == Exit.FILES
    assert f"{out}.journal" in second.stderr
    assert "uses this journal" in second.stderr


def test_killed_at_any_moment_and_run_again_each_item_is_there_once(server: ColdServer, tmp_path: Path) -> None:
    count, workers, kills = 120, 8, 2
    source, out = _prompts(tmp_path / "in.jsonl", *map(str, range(count))), tmp_path / "out.jsonl"
    arguments = ("run", source, "-o", out, "--url", server.url, "--model", "m", "--workers", workers)
    for kill in range(kills):
        with subprocess.Popen(command(*arguments), env=environment(), stderr=subprocess.PIPE, text=True) as running:
            assert running.stderr is not None
            if kill:
                next(line for line in running.stderr if "first answer" in line)
            else:
                running.stderr.readline()
            running.kill()
        assert not out.exists()
    last = invoke(*arguments)
    assert last.exit_code == Exit.ANSWERED, last.output
    assert [(row["index"], row["answer"]) for row in lines_of(out)] == [(n, f"echo: {n}") for n in range(count)]
    assert calls_of(server) <= count + kills * (workers + 100)


def test_a_journal_that_is_deleted_in_the_midst_is_told_with_where_the_answers_are(tmp_path: Path) -> None:
    source, out = _prompts(tmp_path / "in.jsonl", *map(str, range(200))), tmp_path / "out.jsonl"
    with cold_server(Scenario("slow", slots=4, median=0.05, sigma=0.0)) as server, \
            subprocess.Popen(command("run", source, "-o", out, "--url", server.url, "--model", "m", "--workers", 4),
                             env=environment(), stderr=subprocess.PIPE, text=True) as running:
        while calls_of(server) < 20:
            pass
        Path(f"{out}.journal").unlink()
        assert running.stderr is not None
        said = running.stderr.read()
        assert running.wait(30) == Exit.FILES, said
    kept = f"{out}.part"
    assert "was deleted, replaced or emptied" in said
    assert f"What was answered until then is in {kept}" in said
    assert _answers(Path(kept)) == [f"echo: {n}" for n in range(len(_answers(Path(kept))))]
    assert 10 < len(_answers(Path(kept))) < 100
    assert not out.exists()


def test_a_name_that_is_not_utf8_is_as_good_as_another(server: ColdServer, tmp_path: Path) -> None:
    source, out = _prompts(tmp_path / "in.jsonl", "a"), Path(f"{tmp_path}/\udcff.jsonl")
    for _ in range(2):  # the second one knows its output again
        ran = process("run", source, "-o", out, "--url", server.url, "--model", "m")
        assert ran.returncode == Exit.ANSWERED, ran.stderr
    assert _answers(out) == ["echo: a"]
    source = source.rename(f"{tmp_path}/\udcfe.jsonl")
    ran = process("run", source, "-o", out, "--url", server.url, "--model", "m")
    assert ran.returncode == Exit.ANSWERED, ran.stderr
