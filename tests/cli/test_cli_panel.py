"""The live panel, drawn on a terminal that is played."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
from played_runs import progress, run
from played_screen import Screen

from llm_guard.cli.history import History
from llm_guard.cli.live import Lines, Live, display
from llm_guard.mapping.progress import Standing

TITLE = "llm-guard run · 127.0.0.1:8080 · my/model"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    played = Screen()
    monkeypatch.setattr(os, "get_terminal_size", played.size)
    yield played
    assert played.cursor_shown


def draw(screen: Screen, *told: Any, history: History | None = None, title: str = TITLE) -> list[str]:
    with display(title, history or History(), screen) as shown:
        for each in told:
            shown(each)
    return screen.rows()


def framed(rows: list[str], width: int) -> bool:
    """Whole borders, none torn, none jutting out."""
    edges = {"╭╮", "││", "╰╯", "++", "||"}
    return all(len(row) == width and row[0] + row[-1] in edges for row in rows)


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("height", [12, 17, 24, 50])
def test_the_panel_fills_the_width_and_fits_the_height(screen: Screen, width: int, height: int) -> None:
    screen.width, screen.height = width, height
    history, _ = run(60, until=59)
    rows = draw(screen, progress(59.1), history=history)
    assert len(rows) < height
    assert framed(rows if height > 12 else rows[:-1], width)


def test_it_tells_all_that_there_is_to_tell(screen: Screen) -> None:
    history, _ = run(60, until=59)
    text = "\n".join(draw(screen, progress(83.0, standing=Standing("holding", None, 3.2)), history=history))
    assert "· 4 waiting" not in text, "it begins a line"
    for words in (TITLE, "420 of 1000  42%", "holding, next probe in 4 s", "315 answered", "100 from the journal",
                  "5 failed", "16 in flight", "4 waiting", "400 · 12 retries", "limited 40", "overload 21",
                  "timeout 8", "1:23 · about 1:01 left · ends at ", "9.8/s", "16"):
        assert words in text


def test_the_curves_are_those_of_the_run(screen: Screen) -> None:
    history, last = run(60)
    rows = draw(screen, last, history=history)
    rate = next(row for row in rows if row.startswith("│ rate"))
    full = "".join(rate[18:-2])
    assert len(full) == 60
    assert set(full[1:9]) == {" "}, "cold for 10 of 60 s"
    assert set(full[12:29]) == {"⣿"}, "10 a second"
    assert set(full[32:38]) == {" "}, "holding from 30 to 40 s"


def test_it_is_drawn_over_itself_and_stays_when_all_is_over(screen: Screen) -> None:
    screen.write("before\n")
    history = History()
    rows = draw(screen, progress(1.0, in_flight=111), progress(2.0, in_flight=7), progress(3.0, in_flight=0, over=True,
                                                                                            eta=None), history=history)
    assert rows[0] == "before"
    assert framed(rows[1:], 80)
    assert sum(row.startswith("╭") for row in rows) == 1
    assert "111" not in "\n".join(rows)


def test_a_shorter_panel_leaves_nothing_of_a_longer_one(screen: Screen) -> None:
    screen.width = 60
    rows = draw(screen, progress(1.0, retries=1234567), progress(2.0, outcomes={}, retries=0, recorded=0))
    assert framed(rows, 60)
    assert sum(row.startswith("╰") for row in rows) == 1


def test_a_narrower_terminal_wraps_what_stands_there_and_it_is_drawn_over_all_the_same(screen: Screen) -> None:
    screen.write("before\n")
    history = History()
    with display(TITLE, history, screen) as shown:
        shown(progress(1.0))
        screen.narrow(60)
        assert len(screen.rows()) > 30
        shown(progress(2.0))
        assert framed(screen.rows()[1:], 60)
        screen.width = 100
        shown(progress(3.0))
    assert framed(screen.rows()[1:], 100)
    assert screen.rows()[0] == "before"


def test_it_is_not_drawn_more_often_than_the_eye_can_follow_and_in_one_write(screen: Screen) -> None:
    with display(TITLE, History(), screen) as shown:
        for tick in range(101):
            shown(progress(tick / 10))
    assert 45 <= screen.writes <= 55


def test_lines_of_loggers_stand_above_it(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", screen)
    logger = logging.getLogger("llm_guard_test_panel")
    handler = logging.StreamHandler(screen)
    logger.addHandler(handler)
    logger.propagate = False
    with display(TITLE, History(), screen) as shown:
        logger.warning("too early")
        shown(progress(1.0))
        logger.warning("short")
        logger.warning("x" * 80)
        shown(progress(2.0))
        logger.warning("y" * 100)
        shown.say("of the command")
    logger.warning("late")
    rows = screen.rows()
    assert rows[:6] == ["too early", "short", "x" * 80, "y" * 80, "y" * 20, "of the command"]
    assert framed(rows[6:-1], 80)
    assert rows[-1] == "late"
    assert handler.stream is screen
    logger.removeHandler(handler)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_where_the_terminal_cannot_write_it_it_is_ascii(screen: Screen, encoding: str) -> None:
    screen._encoding = encoding
    history, last = run(60, until=59)
    rows = draw(screen, last, history=history, title=f"{TITLE} mödel")
    assert "".join(rows).isascii()
    assert framed(rows, 80)
    assert "llm-guard run | 127.0.0.1:8080 | my/model m?del" in rows[0]
    assert "####" in "".join(rows)


def test_a_title_cannot_write_to_the_terminal_itself_nor_tear_the_frame(screen: Screen) -> None:
    rows = draw(screen, progress(), title="\x1b[2J\x07[bold]模型" + "x" * 300)
    assert "?[2J?[bold]" in rows[0]
    assert "\x1b" not in "".join(rows)
    assert len(rows[1]) == 80


def test_no_colour_where_none_is_wanted(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    written: list[str] = []
    write = screen.write
    monkeypatch.setattr(screen, "write", lambda text: (written.append(text), write(text))[1])
    draw(screen, progress())
    assert "\x1b[3" not in "".join(written)
    assert "\x1b[32m" not in "".join(written)


def test_without_a_total_there_is_a_count_and_no_bar(screen: Screen) -> None:
    rows = draw(screen, progress(total=None, eta=None))
    assert rows[1].strip("│ ") == "420 items"
    assert "left" not in "\n".join(rows)


@pytest.mark.parametrize("term", ["dumb", None], ids=["dumb", "no terminal"])
def test_elsewhere_there_is_a_line_each_ten_seconds_and_one_at_the_end(screen: Screen, monkeypatch: pytest.MonkeyPatch,
                                                                      term: str | None) -> None:
    file: Any = screen
    if term is None:
        file = io.StringIO()
        monkeypatch.setenv("FORCE_COLOR", "1")
    else:
        monkeypatch.setenv("TERM", term)
    screen.width = 200
    history = History()
    with display(TITLE, history, file) as shown:
        assert isinstance(shown, Lines)
        for tick in range(250):
            shown(progress(tick / 10))
        shown(progress(25.0, over=True, eta=None))
    lines = file.getvalue().splitlines() if term is None else screen.rows()
    going_on = ("420 of 1000 (42%) done, 9.8/s, 100 from the journal, 5 failed, 16 in flight, 12 retries, steady, "
                "about 1:01 left")
    assert lines == [TITLE, going_on, going_on,
                     "420 of 1000 (42%) done, 0:25, 100 from the journal, 5 failed, 12 retries"]
    assert len(history.samples) > 50


def test_a_closed_panel_draws_no_more(screen: Screen) -> None:
    shown = display(TITLE, History(), screen)
    assert isinstance(shown, Live)
    shown.close()
    shown(progress())
    assert screen.rows() == []
    shown.close()
