"""The entry points, and what is said where a library is missing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, environment, invoke

from llm_guard.cli.main import main


def test_the_console_script_names_the_entry_point() -> None:
    setup = ast.parse(Path(ROOT, "setup.py").read_text())
    names = [node.value for node in ast.walk(setup) if isinstance(node, ast.Constant)]
    assert f"llm-guard = {main.__module__}:{main.__qualname__}" in names


def test_help_and_version_without_a_command() -> None:
    assert "run" in invoke("--help").output
    assert "llm-guard, version" in invoke("--version").output


def test_help_fits_into_80_columns_and_tells_the_exit_codes() -> None:
    ran = invoke("run", "--help", environment={"COLUMNS": "80"})
    assert max(map(len, ran.output.splitlines())) <= 80
    for words in ("0    every item has an answer", "130  interrupted"):
        assert words in ran.output
    assert "--key " not in ran.output


@pytest.mark.real
@pytest.mark.parametrize("library", ["click", "rich"])
def test_a_missing_library_is_told_with_what_brings_it(library: str) -> None:
    code = f"import sys; sys.modules[{library!r}] = None; sys.argv = ['llm-guard', '--help']; " \
           "from llm_guard.cli.main import main; main()"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=60,
                         check=False)
    assert ran.returncode == (1 if library == "click" else 0), ran.stderr
    assert "Traceback" not in ran.stderr
    if library == "click":
        assert ran.stderr == "llm-guard needs click: pip install 'llm-guard-flow[cli]'\n"


@pytest.mark.real
def test_an_interrupt_that_falls_into_a_finaliser_is_not_told_and_another_error_is() -> None:
    code = """if True:
        import sys
        from llm_guard.cli.main import main

        class Dying:
            def __init__(self, error):
                self.error = error
            def __del__(self):
                raise self.error

        sys.argv = ["llm-guard", "--version"]
        try:
            main()
        except SystemExit:
            Dying(KeyboardInterrupt())
            Dying(ZeroDivisionError("told"))
    """
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=60,
                         check=False)
    assert "KeyboardInterrupt" not in ran.stderr
    assert ran.stderr.count("Exception ignored") == 1
    assert "ZeroDivisionError: told" in ran.stderr
