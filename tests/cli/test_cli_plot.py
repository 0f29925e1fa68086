"""The picture of a run."""

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as Tree
from pathlib import Path

import pytest
from played_runs import progress, run

from llm_guard import ConfigError
from llm_guard.cli import plot
from llm_guard.cli.history import History
from llm_guard.cli.plot import check_plot, save_plot

TITLE = "llm-guard run: my/$model_a$ at 127.0.0.1"


@pytest.mark.parametrize("name", ["run.svg", "run.png"])
def test_the_file_is_of_the_kind_that_its_name_says(tmp_path: Path, name: str) -> None:
    history, _ = run(60)
    (tmp_path / name).write_text("before")
    save_plot(history, tmp_path / name, TITLE)
    assert [found.name for found in tmp_path.iterdir()] == [name]
    if name.endswith(".svg"):
        assert Tree.parse(tmp_path / name).getroot().tag.endswith("svg")
        assert "$model_a$" in (tmp_path / name).read_text()
    else:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_run_of_no_length_and_one_without_samples_are_drawn(tmp_path: Path) -> None:
    save_plot(History(), tmp_path / "none.svg", TITLE)
    history = History()
    history(progress(0.0, over=True))
    save_plot(history, tmp_path / "one.svg", TITLE)


def test_what_stood_there_stays_when_it_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plot, "_draw", full)
    (tmp_path / "run.svg").write_text("before")
    with pytest.raises(OSError, match="No space"):
        save_plot(History(), tmp_path / "run.svg", TITLE)
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("run.svg", "before")]


@pytest.mark.parametrize("name", ["run.pdf", "run", "missing/run.svg", "folder.svg"])
def test_a_file_that_cannot_be_is_refused_before_the_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(ConfigError, match="plot="):
        check_plot(tmp_path / name)


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"llm-guard-flow\[plot\]"):
        check_plot(tmp_path / "run.svg")


def test_counts_are_spread_evenly_over_the_bins() -> None:
    edges, values = plot._a_second([2.0, 4.0, 8.0], [10, 10, 30], 1.0, 8.0)
    assert edges == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert values == pytest.approx([5, 5, 0, 0, 5, 5, 5, 5])
    assert sum(values) == 30


@pytest.mark.parametrize("end", [0.3, 1.0, 7.4, 7.6, 1234.5])
def test_no_call_is_lost_between_the_bins(end: float) -> None:
    edges, values = plot._a_second([end / 3, end], [40, 100], max(1.0, end / 120), end)
    assert edges[-1] == end
    assert sum(value * (right - left) for value, left, right in zip(values, edges, edges[1:], strict=False)
               ) == pytest.approx(100)
