"""Which form of an answer a client would rather have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_guard.web.accept import prefers_html


@pytest.mark.parametrize("accept", [
    "text/html", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "TEXT/HTML", "text/*",
    "application/json;q=0.5, text/html", "text/html;q=0.6, application/json;q=0.5", "application/xhtml+xml",
    "application/*;q=0.1, */*", "text/html; level=1; q=0.4, */* ; q=0.1",
    "application/json;q=wrong, text/html;q=0.1", "text/html, */*;q=nan", "application/json;q=7, text/html;q=0.1"])
def test_it_is_html(accept: str) -> None:
    assert prefers_html(accept)


@pytest.mark.parametrize("accept", [
    None, "", "*/*", "application/json", "application/problem+json", "application/json, text/html",
    "text/html;q=0.5, application/json;q=0.6", "text/html;q=0", "image/png", "text/event-stream", ",,;q=1,",
    "application/json, text/javascript, */*; q=0.01", "text/html;q=0.5, */*", "application/*",
    "application/json;q=0, */*"])  # problem+json is left
def test_it_is_json(accept: str | None) -> None:
    assert not prefers_html(accept)


@pytest.mark.fuzz
@given(st.text())
def test_whatever_a_client_sends_is_read(accept: str) -> None:
    assert prefers_html(accept) in (True, False)
