"""`python -m llm_guard.testing.simulation`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llm_guard.testing.simulation import simulate
from llm_guard.testing.simulation.__main__ import main

A_CLIENT = """
def plain(setting):
    return lambda call: call

number = 3
"""


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


def test_a_client_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                               capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my_clients.py").write_text(A_CLIENT, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["A5", "--items", "40", "--client", "my_clients:plain"]) == 0
    assert "| A5 | 0.0% (0.0%) | inf" in capsys.readouterr().out
    for place in ("my_clients:number", "my_clients:none", "my_clients", "no_such_module:plain"):
        assert main(["A5", "--client", place]) == 2
        assert capsys.readouterr().err.startswith(f"client={place!r} is not allowed: package.module:function")


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
    (["E", "--items", "5", "--json", "/no/such/place.json"], "/no/such/place.json"),
    (["E", "--plot", "picture.xyz"], "plot='picture.xyz' is not allowed: a file whose name ends in .svg or .png"),
])
def test_what_cannot_work_ends_with_status_2_and_one_line(options: list[str], says: str,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


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
