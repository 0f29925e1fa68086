"""Each row of the table of signals decides for an error as its provider sends it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from requests.exceptions import HTTPError
from signal_cases import CASES, WALL, Case, reply

from llm_guard.clock import SystemClock, use
from llm_guard.llm import outcome_of
from llm_guard.llm.said import said
from llm_guard.llm.signal_table import CODE, MEMBER, SIGNALS, STATUS
from llm_guard.llm.signals import outcome_of_body, signal_in
from llm_guard.outcome import Kind, Outcome

ROWS = {signal.name: signal for signal in SIGNALS}
ALL = [pytest.param(row, case, id=f"{row} #{number}" if number else row)
       for row, cases in CASES.items() for number, case in enumerate(cases)]


@pytest.fixture(autouse=True)
def _fixed_wall() -> Iterator[None]:
    clock = SystemClock()
    clock.wall = lambda: WALL
    with use(clock):
        yield


def told(case: Case, status: int) -> tuple[Any, int, dict[str, str], str]:
    """What a case says: the body as JSON or text, the status, the headers in lower case, the body as a page."""
    headers = {name.lower(): value for name, value in case.headers.items()}
    if not isinstance(case.body, bytes):
        return json.loads(json.dumps(case.body)), status, headers, ""
    text = case.body.decode()
    return (None, status, headers, text) if text.startswith("<") else (text or None, status, headers, "")


def test_each_row_has_a_case_and_a_name_of_its_own() -> None:
    names = [signal.name for signal in SIGNALS]
    assert len(set(names)) == len(names)
    assert set(names) - set(CASES) == set(), "rows without a case"
    assert set(CASES) - set(names) == set(), "cases of no row"
    assert all(CASES.values())


@pytest.mark.parametrize(("row", "case"), ALL)
def test_a_row_decides_for_what_its_provider_sends(row: str, case: Case) -> None:
    body, _, headers, page = told(case, 0)
    found = said(body, headers, page)
    deciding = signal_in(case.status if case.status >= 400 else found.status, found)
    assert deciding is not None
    assert deciding.name == row
    assert deciding.kind is case.kind


@pytest.mark.parametrize(("row", "case"), ALL)
def test_the_response_and_the_error_that_carries_it_say_so(row: str, case: Case) -> None:
    response = reply(case.status, case.body, case.headers)
    for end in (response, HTTPError("...", response=response)):
        found = outcome_of(end)
        assert found is not None
        told = found._replace(remaining=None, reset=None, remaining_tokens=None, reset_tokens=None)
        assert told == Outcome(case.kind, None if case.hint is None else pytest.approx(case.hint), answered=True)


@pytest.mark.parametrize(("row", "case"), ALL)
def test_a_code_says_the_same_in_a_stream_where_no_status_is_known(row: str, case: Case) -> None:
    if ROWS[row].where in (CODE, MEMBER):
        assert outcome_of_body(*told(case, 0)).kind is case.kind


@pytest.mark.parametrize(("row", "case"), ALL)
def test_a_row_counts_under_its_own_statuses_alone(row: str, case: Case) -> None:
    signal = ROWS[row]
    if signal.statuses and signal.where != STATUS:
        body, _, headers, page = told(case, 0)
        assert signal_in(418, said(body, headers, page)) is not signal


@pytest.mark.parametrize(("row", "case"), ALL)
def test_no_wait_is_taken_from_the_body_of_a_quota_or_a_wrong_request(row: str, case: Case) -> None:
    if case.kind in (Kind.QUOTA, Kind.INVALID):
        body, status, _, page = told(case, case.status)
        assert outcome_of_body(body, status, page=page).hint is None


def test_the_body_comes_before_the_status_and_quota_before_all() -> None:
    first_status = next(place for place, signal in enumerate(SIGNALS) if signal.where == STATUS)
    assert all(signal.where == STATUS for signal in SIGNALS[first_status:])
    last_quota = max(place for place, signal in enumerate(SIGNALS[:first_status]) if signal.kind is Kind.QUOTA)
    assert all(signal.kind is Kind.QUOTA for signal in SIGNALS[:last_quota])
    assert not any(signal.waits for signal in SIGNALS if signal.kind in (Kind.QUOTA, Kind.INVALID))


def test_an_error_of_which_nothing_is_known_is_a_failure() -> None:
    for end in (reply(200, {"error": "something"}), reply(200, {"object": "response", "status": "failed"})):
        assert outcome_of(end) == Outcome(Kind.FAILURE)
    assert outcome_of_body(None) == Outcome(Kind.FAILURE)
