"""`llm-guard run` against a real server: what comes out, with which exit code, and what it says."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import invoke, lines_of, process, write_lines

from llm_guard.cli.command import group
from llm_guard.cli.exits import Exit
from llm_guard.testing.cold_server import cold_server

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with cold_server("E", speed=100) as server:
        yield server.url


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "prompts.jsonl", ({"prompt": f"question {n}", "n": n} for n in range(30)))


@pytest.mark.parametrize("format", ["hf", "openai", "anthropic", "ollama"])
def test_each_prompt_is_answered_in_order(url: str, prompts: Path, tmp_path: Path, format: str) -> None:
    out = tmp_path / "out.jsonl"
    ran = invoke("run", prompts, "--out", out, "--url", url, "--model", "m", "--format", format, "--id-field", "n")
    assert ran.exit_code == Exit.ANSWERED, ran.output
    rows = lines_of(out)
    assert [(row["index"], row["id"], row["answer"]) for row in rows] == [
        (n, n, f"echo: question {n}") for n in range(30)]
    assert rows[0]["usage"]["input"] > 0


def test_csv_in_and_out_with_a_template_from_a_file(url: str, tmp_path: Path) -> None:
    source, out, template = tmp_path / "in.csv", tmp_path / "out.csv", tmp_path / "template"
    source.write_text('id,text\n7,"a, ""b""\nc"\n8,d\n', encoding="utf-8-sig")
    template.write_text("{id}: {text} {{}}", encoding="utf-8")
    ran = invoke("run", source, "-o", out, "--url", url, "--model", "m", "--template", f"@{template}", "--keep", "text")
    assert ran.exit_code == Exit.ANSWERED, ran.output
    with out.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["index"], row["input.text"], row["answer"]) for row in rows] == [
        ("0", 'a, "b"\nc', 'echo: 7: a, "b"\nc {}'), ("1", "d", "echo: 8: d {}")]


def test_standard_streams(url: str) -> None:
    ran = process("run", "-", "--input-format", "text", "--out", "-", "--url", url, "--model", "m", stdin=b"one\ntwo\n")
    assert ran.returncode == Exit.ANSWERED, ran.stderr
    assert [json.loads(line)["answer"] for line in ran.stdout.splitlines()] == ["echo: one", "echo: two"]


def test_a_bad_line_in_a_stream_is_a_row_with_an_error_and_the_rest_is_answered(url: str) -> None:
    lines = b'{"prompt": "one"}\n{"prompt": "do not tell\n{"prompt": "two"}\n{"other": 1}\n'
    ran = process("run", "-", "--input-format", "jsonl", "--out", "-", "--url", url, "--model", "m", stdin=lines)
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == Exit.FAILED_ITEMS, ran.stderr
    assert [row["answer"] for row in rows] == ["echo: one", None, "echo: two", None]
    assert rows[1]["error"] == {"outcome": "input", "type": "line",
                                "message": "line 2: no JSON: unterminated string starting at column 12"}
    assert rows[3]["error"]["message"] == "line 4: no field 'prompt'; its fields are: 'other'"


def test_a_bad_line_of_a_file_is_told_before_anything_is_sent(url: str, tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"prompt": "one"}\n{"prompt": do not tell}\n' + '{"text": "do not tell"}\n' * 3)
    refused = invoke("run", source, "-o", out, "--url", "http://127.0.0.1:1", "--model", "m")
    assert refused.exit_code == Exit.INPUT
    assert f"{source} has 4 lines that cannot be used; nothing was sent." in refused.stderr
    assert "line 2: no JSON: expecting value at column 12" in refused.stderr
    assert "line 3 and 2 more: no field 'prompt'; its fields are: 'text'" in refused.stderr
    assert "do not tell" not in refused.output
    assert not out.exists()
    kept = invoke("run", source, "-o", out, "--url", url, "--model", "m", "--keep-going")
    assert kept.exit_code == Exit.FAILED_ITEMS, kept.output
    assert [row["answer"] for row in lines_of(out)] == ["echo: one", None, None, None, None]


@pytest.mark.parametrize(("name", "content", "says"), [
    ("in.jsonl", b"", "in.jsonl is empty"), ("in.txt", b"\n \n", "in.txt is empty"),
    ("in.csv", b"prompt\n", "in.csv has a header, if that, and no row"),
    ("in.csv", b"a,a\n1,2\n", "line 1: the header"),
    ("in.txt", b"\xff\xfea\x00", "line 1: bytes that are not UTF-8")],
    ids=["empty", "blank", "header alone", "bad header", "utf-16"])
def test_an_input_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    ran = invoke("run", tmp_path / name, "-o", tmp_path / "out", "--url", "http://127.0.0.1:1", "--model", "m")
    assert ran.exit_code == Exit.INPUT
    assert says in ran.stderr


def test_an_empty_standard_input(url: str) -> None:
    ran = process("run", "-", "--input-format", "text", "-o", "-", "--url", url, "--model", "m")
    assert ran.returncode == Exit.INPUT
    assert b"standard input is empty" in ran.stderr


@pytest.mark.parametrize(("options", "says"), [
    (["--key", "sk-do-not-tell"], "There is no --key"), (["--api-key=sk-do-not-tell"], "There is no --api-key"),
    (["--token"], "There is no --token"), (["--url", "http://me:sk-do-not-tell@host"], "without a user"),
    (["--template", "{text"], "--template has a '{' at character 1"),
    (["--template", "{a}", "--field", "b"], "--field or"),
    (["--parameters", "{"], "--parameters is no JSON"), (["--parameters", "[1]"], "--parameters must be an object"),
    (["--template", "@/nothing/there"], "/nothing/there cannot be read"), (["--workers", "0"], "--workers"),
    (["--ceiling", "0"], "--ceiling"), (["--failure-rate", "1.5"], "--failure-rate"),
    (["--system", "be kind"], "--endpoint chat"), (["--input-format", "xml"], "--input-format"),
], ids=lambda value: value[0] if isinstance(value, list) else "")
def test_options_that_cannot_work(prompts: Path, tmp_path: Path, options: list[str], says: str) -> None:
    ran = invoke("run", prompts, "-o", tmp_path / "out", "--url", "http://127.0.0.1:1", "--model", "m", *options)
    assert ran.exit_code == Exit.USAGE
    assert says in ran.stderr
    assert "sk-do-not-tell" not in ran.output


def test_where_the_answers_go_must_be_said(prompts: Path) -> None:
    ran = invoke("run", prompts, "--url", "http://127.0.0.1:1", "--model", "m")
    assert ran.exit_code == Exit.USAGE
    assert "--out" in ran.stderr


def test_what_is_in_a_file_of_no_known_name_must_be_said(tmp_path: Path) -> None:
    ran = invoke("run", tmp_path / "prompts.json", "-o", "-", "--url", "http://127.0.0.1:1", "--model", "m")
    assert ran.exit_code == Exit.USAGE
    assert "--input-format" in ran.stderr


def test_an_output_that_exists_is_left_alone_unless_forced(url: str, prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    refused = invoke("run", prompts, "-o", out, "--url", url, "--model", "m")
    assert refused.exit_code == Exit.FILES
    assert f"{out} exists" in refused.stderr
    assert out.read_text() == "mine"
    assert invoke("run", prompts, "-o", out, "--url", url, "--model", "m", "--force").exit_code == Exit.ANSWERED
    assert len(lines_of(out)) == 30


def test_an_output_in_a_folder_that_is_not_there(url: str, prompts: Path, tmp_path: Path) -> None:
    ran = invoke("run", prompts, "-o", tmp_path / "nowhere" / "out.jsonl", "--url", url, "--model", "m")
    assert ran.exit_code == Exit.FILES
    assert "nowhere" in ran.stderr


def test_a_full_disk_names_the_file(url: str, prompts: Path) -> None:
    ran = invoke("run", prompts, "-o", "/dev/full", "--url", url, "--model", "m")
    assert ran.exit_code == Exit.FILES
    assert "/dev/full cannot be written: No space left on device" in ran.stderr


def test_a_server_that_refuses_every_request_ends_it_at_once(url: str, prompts: Path, tmp_path: Path) -> None:
    ran = invoke("run", prompts, "-o", tmp_path / "out.jsonl", "--url", f"{url}/nowhere", "--model", "m")
    assert ran.exit_code == Exit.STOPPED
    assert "refused each of the first 10 requests" in ran.stderr
    assert "status 404" in ran.stderr


def test_nobody_there_is_said_and_not_waited_for_in_silence(prompts: Path, tmp_path: Path) -> None:
    ran = invoke("run", prompts, "-o", tmp_path / "out.jsonl", "--url", "http://127.0.0.1:1", "--model", "m",
                 "--server-wait", 0.3)
    assert ran.exit_code == Exit.STOPPED
    assert "http://127.0.0.1:1 cannot be reached (connection refused): trying for 0.3 s" in ran.stderr
    assert "nothing was sent" in ran.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(prompts: Path) -> None:
    ran = invoke("run", prompts, "--dry-run", "--url", "http://127.0.0.1:1", "--model", "m", "--format", "openai",
                 "--key-from", "MY_KEY", "--parameters", '{"temperature": 0}', environment={"MY_KEY": "sk-do-not-tell"})
    assert ran.exit_code == Exit.ANSWERED, ran.output
    assert "30 requests" in ran.stdout
    assert "POST http://127.0.0.1:1/v1/chat/completions" in ran.stdout
    assert "Content-Type, Authorization" in ran.stdout
    assert '"temperature": 0' in ran.stdout
    assert "question 2" in ran.stdout
    assert "question 3" not in ran.stdout
    assert "and 27 more" in ran.stdout
    assert "sk-do-not-tell" not in ran.output


def test_the_key_goes_to_the_server_and_nowhere_else(url: str, prompts: Path, tmp_path: Path) -> None:
    ran = invoke("run", prompts, "-o", tmp_path / "out.jsonl", "--url", url, "--model", "m", "--key-from", "MY_KEY",
                 environment={"MY_KEY": "sk-do-not-tell"})
    assert ran.exit_code == Exit.ANSWERED
    assert "sk-do-not-tell" not in ran.output
    assert not [path for path in tmp_path.iterdir() if b"sk-do-not-tell" in path.read_bytes()]


@pytest.mark.parametrize(("options", "says"), [
    (["-o", "prompts.jsonl"], "INPUT and --out are the same file"),
    (["-o", "./link.jsonl"], "INPUT and --out are the same file"),
    (["-o", "out.jsonl", "--journal", "out.jsonl"], "--out and the journal are the same file"),
    (["-o", "out.jsonl", "--journal", "out.jsonl.part"], "the journal and what --out is called while it is written"),
    (["-o", "-", "--journal", "prompts.jsonl"], "INPUT and the journal are the same file"),
    (["-o", "out.svg", "--plot", "out.svg"], "--out and --plot are the same file"),
], ids=["input", "link", "journal", "part", "input as journal", "plot"])
def test_no_file_of_a_run_is_written_over_another_one(prompts: Path, tmp_path: Path, options: list[str], says: str,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(prompts.parent)
    Path("link.jsonl").symlink_to(prompts.name)
    before = prompts.read_bytes()
    ran = invoke("run", prompts.name, "--url", "http://127.0.0.1:1", "--model", "m", "--force", *options)
    assert ran.exit_code == Exit.USAGE, ran.output
    assert says in ran.stderr
    assert prompts.read_bytes() == before
    assert sorted(found.name for found in Path().iterdir()) == sorted([prompts.name, "link.jsonl"])


def test_ctrl_c_has_its_code_while_options_are_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(group.commands["run"], "make_context", interrupted)
    ran = invoke("run", "in.jsonl")
    assert (ran.exit_code, ran.stderr) == (Exit.INTERRUPTED, "Error: interrupted\n")


def test_a_line_that_cannot_be_used_waits_at_no_door(url: str, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "a"}\n' + "no JSON\n" * 300)
    ran = invoke("run", source, "-o", tmp_path / "out.jsonl", "--url", url, "--model", "m", "--keep-going", "--ceiling",
                 1)  # under which 300 calls would take 5 minutes
    assert ran.exit_code == Exit.FAILED_ITEMS, ran.stderr
    rows = lines_of(tmp_path / "out.jsonl")
    assert [row["answer"] for row in rows] == ["echo: a"] + [None] * 300
    assert rows[1]["error"]["message"].startswith("line 2: no JSON")
    assert "300 UnusableLine" in ran.stderr
