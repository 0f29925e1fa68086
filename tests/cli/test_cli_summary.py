"""The table at the end of a run."""

from __future__ import annotations

import io

import pytest
from played_runs import progress

from llm_guard.cli.summary import print_summary, rows
from llm_guard.mapping.progress import Progress
from llm_guard.outcome import Kind

OVER = progress(100.0, over=True, eta=None, total=420)


def test_every_figure_has_its_row() -> None:
    assert rows(OVER) == [
        ("items", "420 of 420"), ("answered", "415 (98%), 100 of them from the journal"),
        ("failed", "3 invalid: HTTPError"), ("", "2 CallTimeout"), ("calls", "400, 1.27 per answer"),
        ("retries", "12"), ("refused", "40 limited, 21 overload"), ("went wrong", "8 timeout"),
        ("time", "1:40, 3.2/s on average"), ("latency", "180 ms median, 1.2 s at 90%, 12 s at 99%")]


def test_what_did_not_happen_has_none() -> None:
    plain = progress(0.0, total=None, succeeded=0, failed=0, recorded=0, attempts=0, retries=0, outcomes={},
                     failures={}, latency=None)
    assert rows(plain) == [("items", "0"), ("answered", "0"), ("calls", "0"), ("time", "0:00")]


def test_many_reasons_are_put_together() -> None:
    told = dict(rows(progress(failures={f"Error{number:02}": 50 - number for number in range(20)})))
    assert told[""] == "438 for 12 more reasons"


def printed(told: Progress, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    print_summary(told, places=[("output", "answers-[bold]x.jsonl"), ("journal", "/home/somebody/" + "j" * 90)],
                  then="To ask again for the 5 that failed: the same command.", file=file)
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_it_is_a_table_with_the_places_and_how_to_go_on(encoding: str) -> None:
    text = printed(OVER, encoding)
    lines = text.splitlines()
    assert lines[0].startswith("llm-guard run")
    assert lines[-1] == "To ask again for the 5 that failed: the same command."
    assert len({len(line) for line in lines[1:-1]}) == 1
    assert "answers-[bold]x.jsonl" in text
    assert text.count("j") > 90, "a long path is folded, not cut"
    assert text.isascii() == (encoding == "ascii")
    assert "\x1b" not in text


def test_refusals_and_what_went_wrong_are_told_apart() -> None:
    told = dict(rows(progress(outcomes=dict.fromkeys(Kind, 2))))
    assert told["refused"] == "2 loading, 2 limited, 2 overload, 2 growth limited"
    assert told["went wrong"] == "2 failure, 2 timeout, 2 quota, 2 invalid, 2 ignored"
