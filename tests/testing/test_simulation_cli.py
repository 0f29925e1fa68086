"""`python -m llm_guard.testing.simulation`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_guard.testing.simulation import simulate
from llm_guard.testing.simulation.__main__ import check_writable, main

CLIENTS = """
from llm_guard import bounded, ramp_up, retry, stack
from llm_guard.testing.simulation import Strategy

def plain(call):
    return call

def broken(call):
    return lambda item: call.nothing(item)

def endless(call):
    def through(item):
        while True:
            try:
                return call(item)
            except Exception:
                pass
    return through

guard = stack(ramp_up(), retry())

class Clients:
    one = bounded(1)

@Strategy
def strategy(setting):
    return stack(ramp_up(ceiling=setting.capacity), retry())

number = 3
"""


@pytest.fixture
def my_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "my_clients.py").write_text(CLIENTS, encoding="utf-8")
    (tmp_path / "my_broken_module.py").write_text("import no_such_library", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("my_clients", None)


def test_it_prints_a_row_a_server_and_writes_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    assert main(["E", "A5", "--items", "40", "--seeds", "2", "--threads", "16", "--json", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| server | answered | calls per answer | time / best | wait, 99th percentile |"
    assert [line.split()[1] for line in lines[2:]] == ["E", "A5"]
    assert {line.count("|") for line in lines} == {6}
    rows = json.loads(file.read_text(encoding="utf-8"))
    assert [row["scenario"] for row in rows] == ["E", "A5"]
    runs = [simulate("A5", items=40, threads=16, seed=seed) for seed in (0, 1)]
    assert rows[1]["seeds"] == 2
    assert rows[1]["calls"]["worst"] == max(run.calls_per_answer for run in runs)
    assert f"{rows[1]['calls']['median']:.3f} ({rows[1]['calls']['worst']:.3f})" in lines[3]


def test_servers_may_be_named_before_and_after_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["E", "--items", "10", "A5", "--threads", "3", "C"]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[2:]] == ["E", "A5", "C"]


def test_its_options_reach_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    assert main(["E2", "--items", "40", "--clients", "2", "--apart", "3", "--noise", "0.3", "--json", str(file)]) == 0
    run = simulate("E2", items=40, clients=2, apart=3.0, noise=0.3)
    [row] = json.loads(file.read_text(encoding="utf-8"))
    assert row["calls"]["median"] == run.calls_per_answer > 1.2
    assert row["fairness"]["median"] == run.fairness()
    assert row["against_best"]["median"] == run.against_best
    assert main(["E2", "--workload", "spike"]) == 0
    assert "| answers / best |" in capsys.readouterr().out


@pytest.mark.usefixtures("my_clients")
@pytest.mark.parametrize("name", ["guard", "strategy", "Clients.one", "plain"])
def test_a_client_of_one_s_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["E", "C", "--items", "40", "--seeds", "2", "--threads", "8", "--client", f"my_clients:{name}"]) == 0
    printed = capsys.readouterr().out
    assert "| E | 100.0% (100.0%) | 1.000 (1.000) |" in printed
    if name in ("guard", "strategy"):
        assert "| C | 100.0% (100.0%) | 1.0" in printed
        assert "not answered" not in printed


@pytest.mark.usefixtures("my_clients")
def test_why_items_were_not_answered_is_told_beneath_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["A5", "E", "Q", "--items", "210", "--seeds", "2", "--client", "my_clients:plain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| A5 | 0.0% (0.0%) | inf (inf) |")
    assert lines[2].endswith("| - (-) |")
    assert lines[5:] == ["", "A5: not answered in 2 runs: 420 ServerRefused",
                         "", "Q: not answered in 2 runs: 20 ServerRefused"]


@pytest.mark.usefixtures("my_clients")
@pytest.mark.parametrize(("place", "says"), [
    ("my_clients:number", "client=3 is not allowed: a Stack, a decorator"),
    ("my_clients:none", "client='my_clients:none' is not allowed: package.module:name"),
    ("my_clients", "client='my_clients' is not allowed: package.module:name"),
    (":plain", "client=':plain' is not allowed: package.module:name"),
    ("no_such_module:plain", "(ModuleNotFoundError: No module named 'no_such_module')"),
    ("my_broken_module:plain", "(ModuleNotFoundError: No module named 'no_such_library')"),
])
def test_what_is_no_client_is_told_before_anything_runs(place: str, says: str,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["A5", "--client", place]) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.usefixtures("my_clients")
def test_a_bug_of_the_client_s_is_raised_as_it_is() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        main(["E", "--items", "5", "--client", "my_clients:broken"])


@pytest.mark.usefixtures("my_clients")
def test_a_client_without_an_end_is_told_with_status_1(monkeypatch: pytest.MonkeyPatch,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.modules[simulate.__module__], "ENDLESS_CALLS", 1000)
    assert main(["Q", "--items", "203", "--client", "my_clients:endless"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("The client came to no end: after 61901 calls")
    assert len(said) <= 6


def test_the_story_of_the_first_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["A5", "--items", "40", "--seeds", "2", "--story"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3:5] == ["", "A5, seed 0:"]
    assert lines[5:] == [str(line) for line in simulate("A5", items=40).story]


@pytest.mark.figures
@pytest.mark.parametrize("kind", ["svg", "png"])
def test_a_picture(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / f"out.{kind}"
    assert main(["A5", "C", "--items", "30", "--plot", str(picture)]) == 0
    raw = picture.read_bytes()
    if kind == "png":
        assert raw.startswith(b"\x89PNG")
    else:
        assert b"</svg>" in raw
        main(["A5", "C", "--items", "30", "--plot", str(picture)])
        assert picture.read_bytes() == raw  # the same run, the same picture


@pytest.mark.parametrize(("options", "says"), [
    (["Z"], "scenario='Z' is not allowed: one of 'A'"), (["E", "Z"], "scenario='Z'"),
    (["E", "--noise", "2"], "noise=2.0 is not allowed"), (["E", "--apart", "-1"], "apart=-1.0 is not allowed"),
    (["E", "--apart", "5"], "apart=5.0 is not allowed: only with several clients"),
    (["E", "--items", "5", "--clients", "6"], "clients=6 is not allowed: at most as many as there are items, 5"),
    (["E", "--workload", "ramp", "--items", "5"], "items=5 is not allowed: only for a batch"),
    (["E", "--workload", "spike", "--threads", "5"], "threads=5 is not allowed: only for a batch"),
    (["E", "--workload", "spike", "--clients", "2", "--apart", "5"], "apart=5.0 is not allowed: only for a batch"),
    (["E", "--json", "/no/such/place.json"], "json='/no/such/place.json' is not allowed: a file that can be written"),
    (["E", "--json", "/"], "json='/' is not allowed: a file that can be written (Is a directory)"),
    (["E", "--plot", "/no/such/place.svg"], "plot='/no/such/place.svg' is not allowed: a file that can be written"),
    (["E", "--plot", "picture.xyz"], "plot='picture.xyz' is not allowed: a file whose name ends in .svg or .png"),
])
def test_what_cannot_work_ends_with_status_2_and_one_line(options: list[str], says: str,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""  # it was told before anything ran


@pytest.mark.figures
@pytest.mark.usefixtures("my_clients")
@pytest.mark.filterwarnings("error")
def test_a_picture_of_a_client_without_a_pace(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "out.svg"
    assert main(["E", "--items", "30", "--client", "my_clients:plain", "--plot", str(picture)]) == 0
    assert "no pace to be seen" in picture.read_text(encoding="utf-8")


def test_a_file_that_is_there_is_not_touched_before_the_runs_are_over(tmp_path: Path) -> None:
    there, other = tmp_path / "there.json", tmp_path / "other.json"
    there.write_text("as it was", encoding="utf-8")
    check_writable("json", there)
    check_writable("json", other)
    assert there.read_text(encoding="utf-8") == "as it was"
    assert not other.exists()
    check_writable("json", Path("/dev/stdout"))


@pytest.mark.parametrize(("options", "says"), [
    (["--items", "0"], "--items: a whole number of at least 1"), (["--seeds", "x"], "--seeds: a whole number"),
    (["--threads", "0"], "--threads: a whole number"), (["--clients", "-1"], "--clients: a whole number"),
    (["--noise", "much"], "--noise: invalid float value"), (["--workload", "burst"], "--workload: invalid choice"),
])
def test_an_option_that_cannot_be_read_ends_with_status_2_and_its_name(options: list[str], says: str,
                                                                       capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["E", *options])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_without_matplotlib_it_says_at_once_what_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["E", "--items", "5", "--plot", str(tmp_path / "out.svg")]) == 2
    printed = capsys.readouterr()
    assert "pip install 'llm-guard-flow[simulation]'" in printed.err
    assert printed.out == ""
    assert main(["E", "--items", "5"]) == 0


@pytest.mark.real
def test_as_a_user_runs_it() -> None:
    ended = subprocess.run([sys.executable, "-m", "llm_guard.testing.simulation", "E", "--items", "20"],
                           capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "| E | 100.0% (100.0%) | 1.000 (1.000) |" in ended.stdout
    wrong = subprocess.run([sys.executable, "-m", "llm_guard.testing.simulation", "Z"], capture_output=True, text=True,
                           timeout=60)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("scenario='Z' is not allowed")
