"""The text for a scrape: of this process, or of all that write into the directory of the multiprocess mode."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llm_guard.telemetry.exposition import exposition

WORKER = """
from prometheus_client import Counter
Counter("asked", "of a test").inc(2)
"""
READER = """
from prometheus_client import Counter
Counter("asked", "of a test").inc(3)
from llm_guard.telemetry.exposition import exposition
print(exposition()[0].decode())
"""


def test_it_is_what_the_client_s_own_registry_has() -> None:
    prometheus_client = pytest.importorskip("prometheus_client")
    counter = prometheus_client.Counter("llm_guard_test_of_exposition", "of a test")
    try:
        counter.inc(7)
        body, kind = exposition()
    finally:
        prometheus_client.REGISTRY.unregister(counter)
    assert b"llm_guard_test_of_exposition_total 7.0\n" in body
    assert kind.startswith("text/plain; version=")


def test_it_speaks_openmetrics_to_who_asks_for_it() -> None:
    pytest.importorskip("prometheus_client")
    body, kind = exposition("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


@pytest.mark.real
def test_in_multiprocess_mode_it_adds_up_what_all_processes_counted(tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client")
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    said = [subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True,
                           timeout=60).stdout for code in (WORKER, WORKER, READER)]
    assert "asked_total 7.0\n" in said[-1]


def test_a_missing_client_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [each for each in sys.modules if each.split(".")[0] == "prometheus_client"]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ModuleNotFoundError, match=r"llm-guard-flow\[prometheus\]"):
        exposition()
