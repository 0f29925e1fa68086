"""Whatever is sent to the status site, it answers; and a stranger sees nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as any_

from llm_guard import bounded
from llm_guard.web.status import Request, Site
from llm_guard.web.status.access import FORM, SESSION

PATHS = ["", "/", "/status.json", "/metrics", "/live", "/ready", "/act", "/sign-in", "/sign-out", "/status.js"]
TEXT = any_.text(max_size=40)
HEADERS = any_.dictionaries(any_.sampled_from(["cookie", "authorization", "origin", "sec-fetch-site", "x-form-key",
                                               "accept", "if-none-match"]),
                            TEXT | TEXT.map(lambda value: f"{SESSION}={value}; {FORM}={value}")
                            | TEXT.map(lambda value: f"Bearer {value}") | TEXT.map(lambda value: f"https://{value}"))
BODIES = any_.binary(max_size=60) | TEXT.map(lambda value: f"token={value}".encode("utf-8", "surrogatepass"))


@bounded(1)
def a_name_that_strangers_do_not_see() -> None: ...


@pytest.fixture(scope="module")
def sites() -> Iterator[dict[bool, Site]]:
    both = {known: Site("a token that nobody guesses", allowed=lambda native, known=known: known)
            for known in (False, True)}
    yield both
    for site in both.values():
        site.close()


@pytest.mark.fuzz
@pytest.mark.parametrize("known", [False, True], ids=["stranger", "visitor"])
@given(any_.sampled_from(["GET", "POST", "HEAD", "PUT", ""]), any_.sampled_from(PATHS) | TEXT, HEADERS,
       TEXT | TEXT.map(lambda value: f"process={value}&since={value}"), BODIES, TEXT)
def test_any_request_has_an_answer(sites: dict[bool, Site], known: bool, method: str, path: str,
                                   headers: dict[str, str], query: str, body: bytes, host: str) -> None:
    response = sites[known].respond(Request(method, path, "/guard", headers, query, body, host))
    assert response.status in (200, 204, 303, 304, 308, 400, 401, 403, 404, 405, 413, 422)
    if not known:
        assert b"strangers_do_not_see" not in response.body
        assert response.status != 303
        assert (response.status == 200) <= (path in ("/live", "/ready") or path.endswith((".js", ".css", ".svg")))
