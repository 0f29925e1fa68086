"""The example of the status page, run as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import requests

HERE = Path(__file__).parents[2] / "examples"


@pytest.mark.real
@pytest.mark.once
def test_the_example_of_the_status_page_shows_its_functions_to_who_has_the_token() -> None:
    # Killed, it must leave nothing behind: its servers end with it.
    process = subprocess.Popen([sys.executable, str(HERE / "status_page.py"), "--port", "0", "--speed", "20"],
                               stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url, _, token = process.stdout.readline().split()
        assert requests.get(url + "ready", timeout=10).text == "ready\n"
        assert requests.get(url + "status.json", timeout=10).status_code == 401
        status = requests.get(url + "status.json", headers={"Authorization": f"Bearer {token}"}, timeout=10).json()
        assert [facts["label"] for facts in status["functions"]] == ["archive", "chat", "nightly", "summarize",
                                                                    "translate"]
        assert {facts["label"]: facts["pace"] for facts in status["functions"]}["nightly"]["state"] == "paused"
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
