"""The examples of this part, each started by its one command."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from servers import until

HERE = Path(__file__).parents[2] / "examples"

pytestmark = [pytest.mark.real, pytest.mark.once]


@contextmanager
def started(example: str, **variables: str) -> Iterator[str]:
    process = subprocess.Popen([sys.executable, str(HERE / example / "main.py"), "--port", "0", "--threads", "4",
                                "--scenario", "A5", "--speed", "20"], stderr=subprocess.PIPE, text=True,
                               env={**os.environ, **variables})
    try:
        assert process.stderr is not None
        found = None
        while found is None and (line := process.stderr.readline()):
            found = re.search(r"Listening at: (http://\S+)", line)
        assert found is not None
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@pytest.mark.parametrize("example", ["flask_app", "django_project"])
def test_it_answers_a_model_that_starts_cold(example: str) -> None:
    with started(example) as url:
        assert until(lambda: requests.get(f"{url}/no-such-page", timeout=10).status_code == 404)
        assert requests.get(f"{url}/guard/live", timeout=10).status_code == 404  # off, where nobody may see it
        assert requests.get(f"{url}/ask?q=hello", timeout=30).json() == {"answer": "echo: hello"}
        with requests.get(f"{url}/stream?q=hello", stream=True, timeout=30) as answer:
            rows = list(answer.iter_lines(decode_unicode=True))
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    text = "".join(row.removeprefix("data: ") for row in rows if row.startswith("data: "))
    assert text.removesuffix("end").strip() == "echo: hello"
    assert "event: end" in rows


@pytest.mark.parametrize("example", ["flask_app", "django_project"])
def test_it_has_a_status_page_where_there_is_a_token(example: str) -> None:
    token = "a token of more than sixteen characters"
    with started(example, STATUS_TOKEN=token) as url:
        assert until(lambda: requests.get(f"{url}/guard/live", timeout=10).ok)
        assert requests.get(f"{url}/guard/status.json", timeout=10).status_code == 401
        assert requests.get(f"{url}/ask?q=hello", timeout=30).ok
        told = requests.get(f"{url}/guard/status.json", headers={"Authorization": f"Bearer {token}"}, timeout=10).json()
    assert sum(facts["outcomes"].get("success", 0) for facts in told["functions"]) == 1
