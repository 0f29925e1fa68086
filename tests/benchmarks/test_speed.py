"""The table of `make bench`: what its rows say, and that no ratio has become grossly worse than in docs/speed.json."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

for library in ("tenacity", "stamina", "pybreaker", "pyrate_limiter", "limits", "throttled", "ratelimit",
                "func_timeout", "pebble", "matplotlib"):
    pytest.importorskip(library)  # they come with the extra "bench"

import speed  # noqa: E402
from speed_rows import contended, gross, growth_picture, page, turns  # noqa: E402
from speed_rows.growth import Curve, rows  # noqa: E402
from speed_rows.promises import _comes_by, _put  # noqa: E402
from speed_rows.row import Row, shown  # noqa: E402

ROOT = Path(__file__).parents[2]

# Rows


@pytest.mark.parametrize(("value", "goal", "at_least", "reached", "cell"), [
    (0.7, 0.7, False, True, "<= 0.7"), (0.71, 0.7, False, False, "<= 0.7"), (2.0, 2.0, True, True, ">= 2"),
    (1.9, 2.0, True, False, ">= 2"), (0.0, 0, False, True, "<= 0"), (5.0, None, False, None, "")])
def test_a_row_says_whether_its_goal_is_reached(value: float, goal: float | None, at_least: bool, reached: bool | None,
                                                cell: str) -> None:
    row = Row("@retry", "CPU, times backoff", value, goal, at_least)
    assert row.reached is reached
    assert row.cells()[2:5] == [cell, shown(value), {None: "", True: "yes", False: "no"}[reached]]
    assert row.facts()["reached"] is reached


def test_a_ratio_is_that_of_the_middle_round_and_turns_alternate() -> None:
    order: list[str] = []
    found = turns.in_turns({name: lambda name=name: order.append(name) or len(order) for name in "ab"}, 3)
    assert "".join(order) == "abbaab"
    assert found == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert turns.ratio([1, 4, 5], [2, 2, 5]) == 1.0


def test_the_page_and_the_figures_have_every_row(tmp_path: Path) -> None:
    made = [Row("@retry", "CPU, times backoff", 0.5, 0.7, steady=True), Row("@ramp_up", "CPU, times GCRA", 9.0, 1.0),
            Row("promise", "the door, us", 1.5)]
    about: dict[str, Any] = {"machine": {"python": "3"}, "versions": {"backoff": "2"}, "rounds": 7, "scale": 1.0}
    page.write(tmp_path / "new", made, about)
    text = (tmp_path / "new" / "speed.md").read_text(encoding="utf-8")
    assert "1 of 2 goals reached" in text
    assert "- **@ramp_up**: ratelimit is a lock" in text
    assert "- **contended" not in text
    assert "not reached: @ramp_up: CPU, times GCRA is 9.00, the goal 1" in page.summary(made)
    assert text.index("| @retry ") < text.index("| @ramp_up ") < text.index("## Beside them") < text.index("| promise ")
    figures = json.loads((tmp_path / "new" / "speed.json").read_text(encoding="utf-8"))
    assert figures["rows"] == [row.facts() for row in made]
    assert figures["rounds"] == 7


def test_the_head_of_the_table_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{page.BEGINS}\nold\n{page.ENDS}\nafter\n", encoding="utf-8")
    made = [Row("import", "CPU, times another", 1.2, steady=True),
            Row("@retry", "CPU, times backoff", 0.5, 0.7, steady=True),
            Row("@timeout", "CPU, times pebble", 1.5, 0.9, steady=True), Row("@ramp_up", "CPU, times GCRA", 9.0)]
    for _ in range(2):
        page.put_into(readme, made)
    assert readme.read_text(encoding="utf-8").splitlines() == [
        "before", page.BEGINS, "| | CPU | goal |", "|---|---|---|", "| @retry | 0.50 of backoff | 0.7 |",
        "| @timeout | 1.50 of pebble | 0.9, not reached |", "| import | 1.20 of another |  |", page.ENDS, "after"]
    (tmp_path / "other.md").write_text("nothing", encoding="utf-8")
    with pytest.raises(SystemExit, match="has no lines"):
        page.put_into(tmp_path / "other.md", made)


# What is grossly worse


def before(**changed: object) -> dict[str, Any]:
    return {"rows": [Row("a", "ratio", 1.0, 2.0, steady=True).facts() | changed,
                     Row("b", "throughput", 2.0, at_least=True, steady=True).facts(),
                     Row("c", "ms", 1.0).facts()]}


@pytest.mark.parametrize(("row", "said"), [
    (Row("a", "ratio", 3.9, steady=True), []),
    (Row("a", "ratio", 4.1, steady=True), ["a: ratio is 4.10; it was 1.00"]),
    (Row("a", "ratio", 0.01, steady=True), []),
    (Row("b", "throughput", 0.51, at_least=True, steady=True), []),
    (Row("b", "throughput", 0.49, at_least=True, steady=True), ["b: throughput is 0.49; it was 2.00"]),
    (Row("b", "throughput", 100.0, at_least=True, steady=True), []),
    (Row("c", "ms", 1000.0), []), (Row("d", "new", 1000.0, steady=True), [])],
    ids=["nearly", "worse", "better", "nearly less", "less", "more", "a time", "not known"])
def test_what_is_grossly_worse_is_said(row: Row, said: list[str]) -> None:
    assert gross.worse([row], before(), 4.0) == said
    assert gross.judged([row], before()) == (row.part in "ab")


def test_a_row_that_was_not_steady_is_not_judged() -> None:
    assert gross.worse([Row("a", "ratio", 100.0, steady=True)], before(steady=False), 4.0) == []


def test_only_what_is_worse_each_time_is_said() -> None:
    bad, good = (Row("a", "ratio", value, steady=True) for value in (9.0, 1.0))
    runs = [[bad], [good]]
    assert speed.grossly_worse([good], before(), 4.0, lambda: pytest.fail("measured again")) == []
    assert speed.grossly_worse([bad], before(), 4.0, lambda: runs.pop(0)) == []
    assert not runs
    assert speed.grossly_worse([bad], before(), 4.0, lambda: [bad]) == ["a: ratio is 9.00; it was 1.00"]
    other = Row("b", "throughput", 0.1, at_least=True, steady=True)
    assert speed.grossly_worse([bad], before(), 4.0, lambda: [good, other]) == []


@pytest.mark.parametrize(("value", "status"), [(3.0, 0), (5.0, 1)])
def test_a_gross_regression_ends_with_status_1(value: float, status: int, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "speed.json").write_text(json.dumps(before()), encoding="utf-8")
    monkeypatch.setattr(speed, "PARTS", dict.fromkeys(speed.PARTS, lambda effort: [Row("a", "ratio", value,
                                                                                       steady=True)]))
    monkeypatch.setattr("sys.argv", ["speed.py", "--few", "--only", "import", "--against",
                                     str(tmp_path / "speed.json")])
    assert speed.main() == status
    printed = capsys.readouterr()
    assert "1 ratios compared with speed.json" in printed.out
    assert printed.err == ("a: ratio is 5.00; it was 1.00\n" if status else "")


# Together


def test_jobs_begin_together_after_their_start() -> None:
    order: list[str] = []
    turns.run_together([lambda: order.append("job")] * 3, lambda: order.append("start"))
    assert order == ["start", "job", "job", "job"]


def test_callers_without_time_call_once_each() -> None:
    calls: list[str] = []
    found = contended._turn(lambda prompt: calls.append(prompt) or prompt, seconds=0.0)()
    assert len(calls) == contended.THREADS
    assert found.rate > 0
    assert found.spread == 1


# How cost grows


def test_growth_is_the_most_over_the_first_and_over_what_the_machine_grows(tmp_path: Path) -> None:
    flat = Curve("keys", {1: 2.0, 10: 1.0, 100: 2.4})
    with_machine = Curve("callers", {1: 2.0, 10: 8.0}, {1: 1.0, 10: 4.0})
    assert flat.grown == pytest.approx(1.2)
    assert with_machine.grown == pytest.approx(1.0)
    assert [row.reached for row in rows([flat, with_machine, Curve("window", {1: 1.0, 2: 3.0})])] == [True, True, False]
    growth_picture.save([flat, with_machine], tmp_path / "speed.svg")
    picture = (tmp_path / "speed.svg").read_text(encoding="utf-8")
    assert picture.count('id="line2d_') > 6
    assert "</svg>" in picture


# What promises cost


class Keeper:
    """Keeps a promise by a function of its own."""

    @staticmethod
    def keep(value: str) -> str:
        return value


def test_a_promise_is_taken_out_only_where_calls_come_by_it() -> None:
    keeper = Keeper()
    doubles = {"keep": lambda value: "taken out"}
    assert _comes_by(keeper, doubles, lambda prompt: keeper.keep(prompt))
    assert not _comes_by(keeper, doubles, lambda prompt: prompt)
    assert not _comes_by(keeper, {"other": lambda: None}, lambda prompt: keeper.keep(prompt))
    with _put(keeper, doubles):
        assert keeper.keep("kept") == "taken out"
    assert keeper.keep("kept") == "kept"


# A run


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(ROOT / "benchmarks" / "speed.py"), *options], capture_output=True,
                          text=True, timeout=120)


@pytest.mark.real
@pytest.mark.figures
def test_no_ratio_is_grossly_worse_than_when_the_table_was_written() -> None:
    done = run("--few", "--against", str(ROOT / "docs" / "speed.json"), "--gross", "4")
    assert done.returncode == 0, done.stderr
    compared = next(line for line in done.stdout.splitlines() if line.endswith("compared with speed.json"))
    assert int(compared.split()[0]) >= 20
