from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2] / "benchmarks"

pytestmark = [pytest.mark.real, pytest.mark.figures]


def printed(script: str, *options: str) -> list[str]:
    """The lines that a benchmark prints when it is run as a user runs it."""
    run = subprocess.run([sys.executable, str(HERE / script), *options], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    return run.stdout.splitlines()


def rows(lines: list[str], head: str) -> list[str]:
    """The lines of the table that begins with `head`, up to the next empty one."""
    began = next(number for number, line in enumerate(lines) if line.startswith(head))
    table = [*lines[began + 2:], ""]
    return table[:table.index("")]


def overhead(*options: str) -> list[str]:
    for library in ("tenacity", "pybreaker"):  # they come with the extra "bench"
        pytest.importorskip(library)
    return printed("overhead.py", "--rounds", "2", "--slice", "0.0005", *options)


def test_overhead_prints_a_row_for_each_subject_and_writes_the_same_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    lines = overhead("--json", str(file))
    figures = json.loads(file.read_text(encoding="utf-8"))
    table = rows(lines, "subject")
    assert len(table) == len(figures["costs"])
    for line, (name, cost) in zip(table, figures["costs"].items(), strict=True):
        assert line.startswith(name)
        assert min(cost["us"].values()) > 0
        for peer, ratio in cost["ratios"].items():
            assert f"x {peer}" in line
            assert peer in figures["costs"]
            assert min(ratio.values()) > 0
    assert sum(bool(cost["ratios"]) for cost in figures["costs"].values()) >= 6


def test_overhead_prints_markdown_of_even_rows() -> None:
    table = rows(overhead("--markdown"), "| subject")
    assert {line.count("|") for line in table} == {6}


def test_peers_are_timed_beside_the_decorators_and_goals_judged(tmp_path: Path) -> None:
    for library in ("tenacity", "stamina", "pybreaker", "pyrate_limiter", "limits", "throttled", "ratelimit",
                    "func_timeout", "pebble"):
        pytest.importorskip(library)  # they come with the extra "bench"
    lines = printed("peers.py", "--rounds", "2", "--slice", "0.0005", "--out", str(tmp_path), "--gross", "1e9")
    costs, goals = rows(lines, "subject"), rows(lines, "part")
    figures = json.loads((tmp_path / "peers.json").read_text(encoding="utf-8"))
    assert [line.split("  ")[0] for line in costs] == list(figures["costs"])
    assert set(figures["versions"]) >= {"llm-guard-flow", "tenacity", "pebble"}
    assert len(goals) == len(figures["goals"]) == 8
    for line, goal in zip(goals, figures["goals"], strict=True):
        assert goal["ratio"] > 0
        assert ("  yes  " in line) == (goal["ratio"] <= goal["most"])
    assert (tmp_path / "peers.md").read_text(encoding="utf-8").count("\n| ") == len(costs) + len(goals) + 4
    failed = subprocess.run([sys.executable, str(HERE / "peers.py"), "--rounds", "1", "--slice", "0.0005", "--gross",
                             "1e-9"], capture_output=True, text=True, timeout=60)
    assert failed.returncode == 1
    assert failed.stderr.count("the goal is") == 8


def test_bucket_prints_its_figures_and_lateness() -> None:
    lines = printed("bucket.py", "--threads", "5", "--rate", "200", "--seconds", "0.2", "--idle", "0.05")
    figures = rows(lines, "figure")
    assert any(line.startswith("granted out of turn") and line.split()[4] == "0" for line in figures)
    assert any(line.startswith("most ahead of the rate") for line in figures)
    assert [line.split()[0] for line in rows(lines, "late, ms")] == ["grant", "woken", "time.sleep"]
    assert "5 threads, 40 acquired" in "\n".join(lines)


def test_read_ahead_prints_what_each_buffer_costs() -> None:
    table = rows(printed("read_ahead.py", "--items", "300", "--workers", "8"), "| workers")
    assert len(table) == 5
    for line in table:
        times = [float(time) for time in line.split(" | ")[2:-1]]
        assert times == sorted(times, reverse=True)
        assert 0.99 <= times[-1] < times[0]


def test_mapping_prints_rates_and_peaks_of_memory() -> None:
    lines = printed("mapping.py", "--items", "500", "--rounds", "1", "--long", "20000")
    table = rows(lines, "| subject")
    assert len(table) == 6
    for line in table:
        median, least, most = (float(figure.replace(",", "")) for figure in line.strip("| ").split(" | ")[1:])
        assert 0 < least <= median <= most
    assert "with 20,000" in lines[-1]


def test_success_writes_the_same_runs_as_a_page_figures_and_a_picture(tmp_path: Path) -> None:
    for library in ("tenacity", "pyrate_limiter", "botocore", "adaptive_concurrency", "matplotlib"):
        pytest.importorskip(library)  # they come with the extra "bench"
    options = ("--scenarios", "S", "C-nora", "--strategies", "tenacity pool", "AIMD, patient", "--seeds", "1",
               "--out", str(tmp_path))
    lines = printed("success.py", *options)
    page = (tmp_path / "success.md").read_text(encoding="utf-8")
    figures = json.loads((tmp_path / "success.json").read_text(encoding="utf-8"))
    assert len(figures) == 6
    assert all(row["success"]["median"] == 1 for row in figures if row["strategy"] == "llm_guard")
    assert lines[-1].startswith("On none of the 2 servers")
    assert lines[-1] in page
    assert "### C-nora" in page
    assert "in which a server counts\n20 at the most" in page
    assert "</svg>" in (tmp_path / "success.svg").read_text(encoding="utf-8")
    # The strategies' figures are taken as they were; this project's own are made anew, and come out the same.
    again = printed("success.py", *options, "--reuse", str(tmp_path / "success.json"))
    assert len(again) == 3
    assert json.loads((tmp_path / "success.json").read_text(encoding="utf-8")) == figures
    # Page and picture are written anew without a run.
    written = [(tmp_path / name).read_bytes() for name in ("success.md", "success.svg")]
    anew = tmp_path / "anew"
    assert printed("success.py", "--page", str(tmp_path / "success.json"), "--out", str(anew)) == [again[-1]]
    assert [(anew / name).read_bytes() for name in ("success.md", "success.svg")] == written


def test_cut_off_prints_a_row_for_each_way_and_leaves_nothing_of_its_own(tmp_path: Path) -> None:
    for library in ("func_timeout", "trustme"):
        pytest.importorskip(library)
    file = tmp_path / "figures.json"
    cases, ways = ["drips for a minute", "upload that stalls"], ["@timeout, Session", "@deadline, Session",
                                                                 "func-timeout"]
    lines = printed("cut_off.py", "--calls", "16", "--small", "16", "--peers", "8", "--threads", "8", "--timeout",
                    "0.5", "--cases", *cases, "--ways", *ways, "--json", str(file))
    runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
    assert [(run["case"], run["way"]) for run in runs] == [(case, way) for case in cases for way in ways]
    for run in runs[:2] + runs[3:5]:
        assert (run["calls"], run["answered"], run["hung"]) == (16, 11, 5)
        assert (run["threads"], run["sockets"], run["server_open"], run["server_busy"]) == (0, 0, 0, 0)
        assert -0.01 < run["late"][0] <= run["late"][1] <= run["late"][2]
    assert [line.split("  ")[0] for line in rows(lines, "way")] == ways


def test_observe_prints_what_being_watched_adds(tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client")
    file = tmp_path / "figures.json"
    table = rows(printed("observe.py", "--rounds", "3", "--calls", "5", "--json", str(file)), "guarded by")
    figures = json.loads(file.read_text(encoding="utf-8"))
    assert [line.split("  ")[0] for line in table] == [cost["stack"] for cost in figures["costs"]]
    assert all(cost["unwatched"] > 0 for cost in figures["costs"])


def test_journal_prints_what_recording_and_replaying_cost(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    lines = printed("journal.py", "--items", "400", "--place", str(tmp_path), "--json", str(file))
    runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
    assert [line.split("|")[1].strip() for line in rows(lines, "| ")] == list(runs)
    assert len(runs) == 7
    assert all(run["rate"] > 0 and (run["bytes"] > 0) == (name != "no journal") for name, run in runs.items())


def test_kill_says_whether_all_that_is_promised_holds() -> None:
    lines = printed("kill.py", "--items", "40", "--kills", "1", "--workers", "4", "--scenario", "E")
    assert lines[-1] == "all that is promised holds"
    assert lines[1].split() == ["items", "40"]
